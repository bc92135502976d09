"""The routes of the Open Inference Protocol v2, over pools of workers.

``GET v2``, ``v2/health/live``, ``v2/health/ready``, ``v2/models/NAME``, ``v2/models/NAME/ready``,
``POST v2/models/NAME/infer`` (all of a model also as ``v2/models/NAME/versions/VERSION...``),
``POST v2/repository/index`` and ``GET metrics``. A model's version is its fingerprint.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from aidb import __version__
from aidb.protocol.columns import ROW, TYPE, VALID, wire_type
from aidb.protocol.tensors import HEADER_LENGTH, Malformed, Tensor, read_message, write_message
from aidb.serving import metrics as prometheus
from aidb.serving.arguments import match
from aidb.serving.batcher import Answered, Full, Waiting
from aidb.serving.metrics import Metrics
from aidb.serving.pool import Pool
from aidb.spi import ModelSpec, arrow_type

log = logging.getLogger("aidb.serving")
PLATFORM = "aidb"
"""What the metadata of our models says under ``platform``: their version tells one answer from another everywhere."""
_LARGE = 1 << 16
"""Bodies above so many bytes are read in another thread, so that the server stays responsive."""


class Service:
    """What the routes do. draining: the server is about to end, and not ready any more."""

    def __init__(self, pools: Mapping[str, Pool], metrics: Metrics, *, grace: float) -> None:
        self.pools, self.metrics, self.grace = pools, metrics, grace
        self.draining = False

    def app(self) -> Starlette:
        """The ASGI application."""
        routes = [
            Route("/v2", self.server, methods=["GET"]),
            Route("/v2/", self.server, methods=["GET"]),
            Route("/v2/health/live", self.live, methods=["GET"]),
            Route("/v2/health/ready", self.ready, methods=["GET"]),
            Route("/v2/repository/index", self.index, methods=["POST"]),
            Route("/metrics", self.counted, methods=["GET"]),
        ]
        for base in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
            routes += [
                Route(base, self.model, methods=["GET"]),
                Route(f"{base}/ready", self.model_ready, methods=["GET"]),
                Route(f"{base}/infer", self.infer, methods=["POST"]),
            ]
        handlers: Mapping[Any, Callable[[Request, Any], Awaitable[Response]]] = {
            HTTPException: _refusal,
            Malformed: _refusal,
        }
        return Starlette(routes=routes, exception_handlers=handlers, lifespan=self._lifespan)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        for pool in self.pools.values():
            pool.start()
        yield
        await asyncio.gather(*(asyncio.to_thread(pool.close, self.grace) for pool in self.pools.values()))

    # ---- about the server
    async def server(self, _: Request) -> Response:
        """Name, version and extensions of the protocol."""
        return JSONResponse({"name": "aidb", "version": __version__, "extensions": ["binary_tensor_data"]})

    async def live(self, _: Request) -> Response:
        """Is there a server?"""
        return JSONResponse({"live": True})

    async def ready(self, _: Request) -> Response:
        """Can every model be asked?"""
        ready = not self.draining and all(pool.ready for pool in self.pools.values())
        return JSONResponse({"ready": ready}, 200 if ready else 503)

    async def index(self, _: Request) -> Response:
        """What models there are."""
        return JSONResponse(
            [
                {
                    "name": name,
                    "version": pool.spec.fingerprint if pool.spec else "",
                    "state": "READY" if pool.ready else "UNAVAILABLE",
                }
                for name, pool in self.pools.items()
            ]
        )

    async def counted(self, _: Request) -> Response:
        """The counters."""
        return Response(self.metrics.text(), media_type=prometheus.CONTENT_TYPE)

    # ---- about a model
    async def model(self, request: Request) -> Response:
        """Inputs, outputs and version."""
        pool, spec = self._loaded(request)
        outputs = [_described(o.name, *wire_type(arrow_type(o.type)), {TYPE: o.type}) for o in spec.outputs]
        if spec.rows == "many":
            outputs.append(_described(ROW, "INT64", [-1], {}))
        about = {
            "aidb_rows": spec.rows,
            "aidb_variadic": pool.variadic,
            "aidb_batch_size": pool.hosted.max_batch or spec.batch_size,
            "aidb_seconds_per_item": spec.seconds_per_item,
        }
        return JSONResponse(
            {
                "name": pool.hosted.name,
                "versions": [spec.fingerprint],
                "platform": PLATFORM,
                "inputs": [a.describe() for a in pool.arguments],
                "outputs": outputs,
                "parameters": {k: v for k, v in about.items() if v is not None},
            }
        )

    async def model_ready(self, request: Request) -> Response:
        """Can this model be asked?"""
        pool = self._pool(request)
        ready = not self.draining and pool.ready
        return JSONResponse({"name": pool.hosted.name, "ready": ready}, 200 if ready else 503)

    async def infer(self, request: Request) -> Response:
        """Answer a batch."""
        start = time.perf_counter()
        name, status = request.path_params["name"], 500
        try:
            response = await self._infer(request)
            status = response.status_code
            return response
        except Malformed:
            status = 400
            raise
        except HTTPException as e:
            status = e.status_code
            raise
        finally:
            if name in self.pools:  # anything else would let a stranger fill our memory with names
                self.metrics.requests.labels(name, str(status)).inc()
                self.metrics.seconds.labels(name).observe(time.perf_counter() - start)

    async def _infer(self, request: Request) -> Response:
        pool, spec = self._loaded(request)
        body = await request.body()
        arguments = (body, request.headers.get(HEADER_LENGTH), "inputs")
        large = len(body) > _LARGE
        message, tensors = await asyncio.to_thread(read_message, *arguments) if large else read_message(*arguments)
        given, n = match(pool.arguments, pool.variadic, tensors)
        wanted = _Wanted(message, spec)
        answer = await self._ask(pool, Waiting(tuple(given), n, _ignore))
        if answer.status != 200:
            return _error(answer.status, answer.message)
        self.metrics.items.labels(pool.hosted.name).inc(n)
        head: dict[str, Any] = {"model_name": pool.hosted.name, "model_version": spec.fingerprint}
        if isinstance(message.get("id"), str):
            head["id"] = message["id"]
        return wanted.response(head, answer.tensors)

    async def _ask(self, pool: Pool, request: Waiting) -> Answered:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answered] = loop.create_future()

        def settle(answer: Answered) -> None:
            if not future.done():
                future.set_result(answer)

        def answered(answer: Answered) -> None:
            try:
                loop.call_soon_threadsafe(settle, answer)
            except RuntimeError:
                return  # the server has ended, and nobody waits any more

        try:
            pool.batcher.put(Waiting(request.given, request.n, answered))
        except Full:
            return Answered(status=429, message="too many items wait for this model; try again soon")
        return await future

    def _pool(self, request: Request) -> Pool:
        name, version = request.path_params["name"], request.path_params.get("version")
        pool = self.pools.get(name)
        if pool is None:
            raise HTTPException(404, f"there is no model {name!r}; there is {', '.join(self.pools)}")
        if version is not None and pool.spec is not None and version != pool.spec.fingerprint:
            raise HTTPException(404, f"model {name} has the version {pool.spec.fingerprint}, not {version}")
        return pool

    def _loaded(self, request: Request) -> tuple[Pool, ModelSpec]:
        pool = self._pool(request)
        if pool.spec is None or not pool.ready:
            raise HTTPException(503, f"model {pool.hosted.name} is being loaded", {"Retry-After": "1"})
        return pool, pool.spec


class _Wanted:
    """Which outputs a request asks for, and how they are to travel. Raises `Malformed`."""

    def __init__(self, message: Mapping[str, Any], spec: ModelSpec) -> None:
        names = {o.name for o in spec.outputs} | ({ROW} if spec.rows == "many" else set())
        parameters = message.get("parameters") or {}
        asked = message.get("outputs") or []
        if not isinstance(parameters, dict) or not isinstance(asked, list):
            raise Malformed('"parameters" must be an object and "outputs" a list')
        self._all_binary = parameters.get("binary_data_output") is True
        self._names: dict[str, bool] | None = {} if asked else None
        for entry in asked:
            name = entry.get("name") if isinstance(entry, dict) else None
            if name not in names:
                raise Malformed(f"there is no output {name!r}; the outputs are {', '.join(sorted(names))}")
            said = entry.get("parameters") or {}
            if "classification" in said:
                raise Malformed("the classification extension is not there")
            assert self._names is not None
            self._names[name] = said.get("binary_data", self._all_binary) is True

    def response(self, head: Mapping[str, Any], tensors: Sequence[Tensor]) -> Response:
        sent = [t for t in tensors if self._names is None or t.name.removeprefix(VALID) in self._names]
        binary = frozenset(
            t.name
            for t in sent
            if (self._all_binary if self._names is None else self._names[t.name.removeprefix(VALID)])
        )
        body, length = write_message(head, "outputs", sent, binary=binary)
        if length is None:
            return Response(body, media_type="application/json")
        return Response(body, media_type="application/octet-stream", headers={HEADER_LENGTH: str(length)})


def _described(name: str, datatype: str, shape: list[int], parameters: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "parameters": parameters}


def _ignore(_: Answered) -> None: ...


def _error(status: int, message: str) -> Response:
    headers = {"Retry-After": "1"} if status in (429, 503) else None
    return JSONResponse({"error": message}, status, headers=headers)


async def _refusal(_: Request, e: HTTPException | Malformed) -> Response:
    if isinstance(e, HTTPException):
        return JSONResponse({"error": e.detail}, e.status_code, headers=e.headers)
    return JSONResponse({"error": str(e)}, 400)
