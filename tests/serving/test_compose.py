"""docker-compose.yml, docker/ and what its containers run; without Docker, but for one check where it is there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.serving.conftest import ROOT, TOKEN, Server

TEXTS = {"type": "array", "items": {"type": "string"}, "minItems": 1, "uniqueItems": True}
DEVICE = {
    "type": "object",
    "required": ["capabilities"],  # Compose refuses a reservation without it
    "properties": {"driver": {"type": "string"}, "count": {"type": ["integer", "string"]}, "capabilities": TEXTS},
    "additionalProperties": False,
}
SERVICE = {
    "type": "object",
    "anyOf": [{"required": ["image"]}, {"required": ["build"]}],
    "additionalProperties": False,
    "properties": {
        "image": {"type": "string"},
        "build": {
            "type": "object",
            "required": ["context"],
            "additionalProperties": False,
            "properties": {
                "context": {"type": "string"},
                "dockerfile": {"type": "string"},
                "dockerfile_inline": {"type": "string"},
                "args": {"type": "object", "additionalProperties": {"type": "string"}},
            },
        },
        "command": TEXTS,
        "profiles": TEXTS,
        "environment": {"type": "object", "additionalProperties": {"type": ["string", "number"]}},
        "ports": {"type": "array", "items": {"type": "string", "pattern": r"^([\d.]+:)?\d+:\d+$"}},
        "volumes": {"type": "array", "items": {"type": "string", "pattern": "^[^:]+(:-[^}]+})?:/[^:]+(:ro)?$"}},
        "networks": {"type": "object"},
        "tmpfs": TEXTS,
        "cap_drop": TEXTS,
        "security_opt": TEXTS,
        "secrets": TEXTS,
        "shm_size": {"type": "string"},
        "stop_grace_period": {"type": "string", "pattern": r"^\d+s$"},
        "restart": {"enum": ["no", "always", "on-failure", "unless-stopped"]},
        "read_only": {"type": "boolean"},
        "stdin_open": {"type": "boolean"},
        "tty": {"type": "boolean"},
        "healthcheck": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "test": TEXTS,
                **{key: {"type": "string"} for key in ("interval", "timeout", "start_period")},
            },
        },
        "deploy": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "resources": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "reservations": {
                            "type": "object",
                            "additionalProperties": False,
                            "properties": {"devices": {"type": "array", "items": DEVICE}},
                        }
                    },
                }
            },
        },
    },
}
"""The part of the Compose specification that our file keeps to; what is not in it has to be looked up there first."""
SCHEMA = {
    "type": "object",
    "required": ["services"],
    "additionalProperties": False,
    "patternProperties": {"^x-": {}},
    "properties": {
        "services": {
            "type": "object",
            "patternProperties": {"^[a-zA-Z0-9._-]+$": SERVICE},
            "additionalProperties": False,
        },
        "volumes": {"type": "object"},
        "secrets": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "required": ["environment"],
                "additionalProperties": {"type": "string"},
            },
        },
    },
}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return found


def dockerfile() -> str:
    return (ROOT / "docker" / "models.Dockerfile").read_text(encoding="utf-8")


def test_the_file_keeps_to_the_schema(compose: dict[str, Any]) -> None:
    problems = [f"{'.'.join(map(str, e.path))}: {e.message}" for e in Draft202012Validator(SCHEMA).iter_errors(compose)]
    assert problems == []
    for broken in ({"services": {"x": {}}}, {"services": {"x": {"image": "y", "port": ["1:1"]}}}, {}):
        assert not Draft202012Validator(SCHEMA).is_valid(broken)


def test_the_profiles_are_what_they_say(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert {n: s.get("profiles") for n, s in services.items()} == {
        "shell": None, "models-cpu": ["cpu"], "models-gpu": ["gpu"], "triton": ["triton"], "prometheus": ["monitoring"],
    }  # fmt: skip
    for name, service in services.items():
        reserved = service.get("deploy", {}).get("resources", {}).get("reservations", {}).get("devices", [])
        assert bool(reserved) == (name in ("models-gpu", "triton"))
    names = {s for service in services.values() for s in service.get("secrets", [])}
    assert names == set(compose["secrets"])
    assert {v.partition(":")[0] for v in services["shell"]["volumes"]} & set(compose["volumes"])


def test_files_that_it_names_exist_and_extras_too(compose: dict[str, Any]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    given = re.findall(r"ARG EXTRAS=(\S+)", dockerfile())
    for service in compose["services"].values():
        build = service.get("build", {})
        if "dockerfile" in build:
            assert (ROOT / build["dockerfile"]).is_file()
            given += [build["args"]["EXTRAS"]] if "args" in build else []
        for volume in service.get("volumes", []):
            if volume.startswith("./"):
                assert (ROOT / volume.partition(":")[0]).is_file()
    assert {e for list_ in given for e in list_.split(",")} <= set(extras)
    for line in re.findall(r"^COPY (.+) \S+$", dockerfile(), re.MULTILINE):
        assert all((ROOT / name).exists() for name in line.split())


def test_prometheus_asks_our_service_with_its_token(compose: dict[str, Any]) -> None:
    [job] = yaml.safe_load((ROOT / "docker" / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    [target] = job["static_configs"][0]["targets"]
    host, _, port = target.partition(":")
    service = compose["services"]["models-cpu"]
    assert host in service["networks"]["default"]["aliases"]
    assert any(p.endswith(f":{port}") for p in service["ports"])
    assert job["authorization"]["credentials_file"].rpartition("/")[2] in compose["services"]["prometheus"]["secrets"]


def test_what_the_container_runs(compose: dict[str, Any]) -> None:
    """The image's own command, on its own settings, and the health check that Compose runs in it."""
    entry = json.loads(re.findall(r"^ENTRYPOINT (.+)$", dockerfile(), re.MULTILINE)[0])
    check = compose["services"]["models-cpu"]["healthcheck"]["test"]
    settings = str(ROOT / "docker" / "models.toml")
    entry, check = ([settings if a == "/etc/aidb/models.toml" else a for a in c] for c in (entry, check[1:]))
    assert entry[:2] == check[:2] == ["aidb", "serve-models"]
    assert entry[-2:] == ["--host", "0.0.0.0"]
    without = subprocess.run(
        [sys.executable, "-m", *entry, "--port", "0"],
        cwd=ROOT, env={**os.environ, "AIDB_SERVE_TOKEN": ""}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert without.returncode == 2
    assert "AIDB_SERVE_TOKEN" in without.stderr
    server = Server([*entry[2:], "--host", "127.0.0.1"])

    def healthy(token: str) -> int:
        command = [sys.executable, "-m", *check, "--port", str(server.port)]
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, "AIDB_SERVE_TOKEN": token}, check=False)
        return done.returncode

    try:
        server.wait()
        assert (healthy(TOKEN), healthy("wrong")) == (0, 1)
        assert server.client.get("/v2/models/faces").json()["platform"] == "aidb"
    finally:
        assert server.stop() == 0
    assert healthy(TOKEN) == 1


def test_docker_reads_it() -> None:
    """Where Docker and its compose plugin are: they know the whole specification."""
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("Docker Compose is not installed")
    profiles = [a for name in ("cpu", "gpu", "triton", "monitoring") for a in ("--profile", name)]
    command = [docker, "compose", *profiles, "config", "--quiet"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
