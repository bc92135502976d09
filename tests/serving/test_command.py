"""``aidb serve-models`` before it serves: settings, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from aidb.errors import Error
from aidb.serving.command import main
from aidb.serving.hosting import host
from aidb.serving.settings import Hosted, Settings, read
from tests.serving import hosted

FILE = """
[server]
host = "0.0.0.0"
max_body_mb = 8

[models.upto]
function = "tests.serving.hosted:upto"
workers = 2

[models.faces]
provider = "opencv"
devices = ["cpu"]
max_wait = 0.1
[models.faces.options]
detector = "face"
"""


def settings(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "models.toml"
    path.write_text(text, encoding="utf-8")
    return read(str(path), {}, [])


def test_a_file(tmp_path: Path) -> None:
    found = settings(tmp_path, FILE)
    assert (found.host, found.port, found.max_body_mb, found.is_local) == ("0.0.0.0", 8000, 8, False)
    assert found.models == (
        Hosted("upto", function="tests.serving.hosted:upto", workers=2),
        Hosted("faces", provider="opencv", options={"detector": "face"}, devices=("cpu",), max_wait=0.1),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no model to serve"),
        ("[models.x]\nprovider = 3", "provider = 3 is no str"),
        ("[models.x]", "either a provider or a function"),
        ("[models.x]\nprovider='a'\nfunction='b:c'", "either a provider or a function"),
        ("[models.x]\nfunction='b'", "MODULE:NAME"),
        ("[models.x]\nfunction='b:c'\ndevices=['cpu']", "no options and no devices"),
        ("[models.x]\nprovider='a'\nworkers=0", "at least 1"),
        ("[models.x]\nprovider='a'\nworkers=true", "workers = True is no int"),
        ("[models.x]\nprovider='a'\nworker=1", "did you mean workers"),
        ("[models.x]\nprovider='a'\ntimeout=0", "timeout above 0"),
        ("[models.'a/b']\nprovider='a'", "it is part of an address"),
        ("[models]\nx = 3", "must be a table"),
        ("[modles.x]", "did you mean models"),
        ("[server]\nports = 1\n[models.x]\nprovider='a'", "did you mean port"),
        ("[server]\nport = 99999\n[models.x]\nprovider='a'", "between 0"),
        ("[server]\nmax_pixels = 0\n[models.x]\nprovider='a'", "above 0"),
        ("[server]\nkey = 'k'\n[models.x]\nprovider='a'", "both a certificate and a key"),
        ("[models.x", "models.toml: "),
    ],
)
def test_wrong_files(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(Error, match=message):
        settings(tmp_path, text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no model to serve"),
        (["nowhere.toml"], "can't read nowhere.toml"),
        (["--model", "a"], "either a provider or a function"),
        (["--model", "a=color", "--model", "a=color"], "two models are called a"),
        (["--model", "a=color,share"], "is no OPTION=VALUE"),
        (["--model", "a=color", "--host", "0.0.0.0"], "AIDB_SERVE_TOKEN"),
    ],
)
def test_wrong_usage(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIDB_SERVE_TOKEN", raising=False)
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_token_that_can_not_be_sent(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIDB_SERVE_TOKEN", "hunter 2")
    assert main(["--model", "a=color"]) == 2
    assert "hunter" not in capsys.readouterr().err


def test_models_can_be_checked_without_serving(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--check", "--model", "paint=color,share=true", "--function", "up=tests.serving.hosted:upto"]
    assert main(arguments) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("paint: color, share; version ")
    assert said[1] == f"up: y, half; version {hosted.upto.spec.fingerprint}"
    for wrong, message in (
        ("a=nobody", "unknown model provider 'nobody'"),
        ("a=opencv,detector=dragon", "dragon"),
        ("a=onnx,weights=nowhere.onnx", "nowhere.onnx"),
    ):
        assert main(["--check", "--model", wrong]) == 1
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("nowhere:f", "ModuleNotFoundError"),
        ("tests.serving.hosted:nobody", "has no attribute 'nobody'"),
        ("tests.serving.hosted:CRASH", "decorate it with @aidb.model"),
        ("tests.serving.hosted:Counter", "keeps state along a file"),
    ],
)
def test_functions_that_are_no_models(function: str, message: str) -> None:
    with pytest.raises(Error, match=message):
        host(Hosted("m", function=function), None)
