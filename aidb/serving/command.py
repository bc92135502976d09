"""``aidb serve-models``: read the settings, start the server, end in good order."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
import tomllib
from collections.abc import Sequence
from typing import Any

from aidb.errors import Error, ProgrammingError
from aidb.serving.settings import TOKEN_ENV, Hosted, Settings, read

log = logging.getLogger("aidb.serving")
_DESCRIPTION = """\
Host models for other processes and machines, behind the Open Inference Protocol v2 (KServe's).

  aidb serve-models --model faces=opencv,detector=face
  aidb serve-models models.toml --host 0.0.0.0        # with a token in the variable AIDB_SERVE_TOKEN

  CREATE MODEL faces USING kserve WITH (url = 'http://127.0.0.1:8000')
"""


def main(arguments: Sequence[str]) -> int:
    """Run the server; the exit code: 0 after a shutdown, 1 if it could not start, 2 for wrong usage."""
    chosen = _parser().parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=chosen.log_level.upper())
    try:
        settings = _settings(chosen)
        token = _token(settings)
    except Error as e:
        print(f"aidb serve-models: {e}", file=sys.stderr)
        return 2
    if chosen.check:
        return _check(settings)
    if chosen.probe:
        return _probe(settings, token)
    try:
        import prometheus_client  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as e:
        print(f"aidb serve-models needs the package {e.name}: pip install 'aidb[serve]'", file=sys.stderr)
        return 2
    return _serve(settings, token)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="aidb serve-models", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", nargs="?", metavar="FILE", help="settings in TOML (docs/serving.md)")
    parser.add_argument(
        "--model", action="append", default=[], metavar="NAME=PROVIDER[,OPTION=VALUE]...", help="a model (repeatable)"
    )
    parser.add_argument(
        "--function", action="append", default=[], metavar="NAME=MODULE:FUNCTION", help="a Python function (repeatable)"
    )
    parser.add_argument("--host", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (8000); 0 takes a free one")
    parser.add_argument("--token-env", metavar="VARIABLE", help=f"environment variable with the token ({TOKEN_ENV})")
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    parser.add_argument("--check", action="store_true", help="make the models, load none, and leave")
    parser.add_argument("--probe", action="store_true", help="ask a running server whether it is ready, and leave")
    return parser


def _settings(chosen: argparse.Namespace) -> Settings:
    models = [_model(text) for text in chosen.model]
    for text in chosen.function:
        name, _, function = text.partition("=")
        models.append(Hosted(name, function=function))
    server = {"host": chosen.host, "port": chosen.port, "token_env": chosen.token_env}
    return read(chosen.config, server, models)


def _model(text: str) -> Hosted:
    name, _, rest = text.partition("=")
    provider, *options = rest.split(",")
    found: dict[str, Any] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals:
            raise ProgrammingError(f"--model {text}: {option!r} is no OPTION=VALUE (lists belong in a file)")
        found[key] = _value(value)
    return Hosted(name, provider=provider, options=found)


def _value(text: str) -> object:
    """A value as TOML writes it; what is none is a text."""
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text


def _token(settings: Settings) -> str | None:
    token = os.environ.get(settings.token_env, "").strip()
    if token:
        if not token.isascii() or not token.isprintable() or " " in token:
            raise ProgrammingError(f"the token in {settings.token_env} must be printable ASCII without blanks")
        return token
    if not settings.is_local:
        raise ProgrammingError(
            f"at {settings.host} everyone on the network can ask: put a token into the environment variable "
            f"{settings.token_env}, or leave --host out to serve this machine alone"
        )
    return None


def _check(settings: Settings) -> int:
    from aidb.serving.arguments import arguments_of
    from aidb.serving.hosting import host

    for hosted in settings.models:
        try:
            model = host(hosted, hosted.devices[0] if hosted.devices else None)
            arguments_of(hosted.name, model.spec, hosted.inputs)
        except Error as e:
            print(f"aidb serve-models: {e}", file=sys.stderr)
            return 1
        print(f"{hosted.name}: {', '.join(o.name for o in model.spec.outputs)}; version {model.spec.fingerprint}")
    return 0


def _probe(settings: Settings, token: str | None) -> int:
    import httpx

    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104  where to ask, not to bind
    scheme = "https" if settings.certificate else "http"
    shown = f"[{host}]" if ":" in host else host
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        # Its certificate bears a public name, and this asks the machine itself.
        reply = httpx.get(
            f"{scheme}://{shown}:{settings.port}/v2/health/ready",
            headers=headers,
            timeout=5,
            verify=False,  # noqa: S501
            trust_env=False,
        )
        said = json.loads(reply.content) if reply.content else {}
    except (httpx.HTTPError, ValueError) as e:
        print(f"aidb serve-models: {type(e).__name__}: {e}", file=sys.stderr)
        return 1
    return 0 if said.get("ready") is True else 1


def _serve(settings: Settings, token: str | None) -> int:
    import uvicorn

    from aidb.serving.app import Service
    from aidb.serving.guard import Guard
    from aidb.serving.metrics import Metrics
    from aidb.serving.pool import Pool

    failed = threading.Event()

    def give_up(message: str) -> None:
        log.error("%s", message)
        failed.set()
        server.should_exit = True

    metrics = Metrics()
    pools = {m.name: Pool(m, settings.max_pixels, settings.max_waiting, metrics, give_up) for m in settings.models}
    service = Service(pools, metrics, grace=settings.grace)
    guard = Guard(service.app(), token, int(settings.max_body_mb * 2**20), int(settings.max_pending_mb * 2**20))
    config = uvicorn.Config(
        guard,
        host=settings.host,
        port=settings.port,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=max(1, round(settings.grace)),
        ssl_certfile=settings.certificate or None,
        ssl_keyfile=settings.key or None,
    )
    server = _Server(config, service)
    socket = config.bind_socket()
    socket.listen(config.backlog)  # so that who reads the next line can connect
    host, port = socket.getsockname()[:2]
    scheme = "https" if settings.certificate else "http"
    log.info("listening on %s://%s:%d", scheme, f"[{host}]" if ":" in host else host, port)
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn ends in good order at a signal, and then raises it once more for whoever handled it before.
        signal.signal(number, lambda *_: None)
    server.run([socket])
    return 1 if failed.is_set() else 0


def _Server(config: Any, service: Any) -> Any:  # noqa: N802  a class that can be made only where uvicorn is
    import uvicorn

    class Server(uvicorn.Server):
        """Says that it is not ready any more as soon as it is told to end."""

        async def shutdown(self, sockets: Any = None) -> None:
            service.draining = True
            await super().shutdown(sockets)

    return Server(config)
