"""Models behind the Open Inference Protocol v2: our own server (``aidb serve-models``), Triton, MLServer, OpenVINO...

::

    CREATE MODEL yolo  USING kserve WITH (url = 'http://gpu1:8000', token_env = 'MODELS_TOKEN');
    CREATE MODEL kinds USING kserve WITH (url = ['http://a:8000', 'http://b:8000'], model = 'resnet', scale = 0.00392);

The server is asked at CREATE MODEL what the model takes and gives, and which version it is: `kserve_schema`. A version
of our own server is the model's fingerprint, so that answers stay good when a model moves from this process to a server
or back. Every reply names its version; one of another version is not stored, and the query ends with an error.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from typing import Any, cast
from urllib.parse import quote

import numpy as np
import pyarrow as pa

from aidb.errors import Error, ModelError, ProgrammingError
from aidb.protocol.columns import ROW
from aidb.protocol.tensors import HEADER_LENGTH, Malformed, read_message, write_message
from aidb.spi import Columns, ItemError, ModelSpec, Options, OutOfMemory, ServiceError, Values, fingerprint
from aidb_models import option_types as types
from aidb_models import service_options
from aidb_models.http_json import excerpt
from aidb_models.kserve_schema import Schema, schema_of
from aidb_models.kserve_values import Writer, answered, with_null
from aidb_models.pictures import Fit, Preparation
from aidb_models.refusals import raise_for
from aidb_models.service_options import Access, inputs_of, outputs_of, positive, shown_url
from aidb_models.transport import Reply, Transport

_LOOKS = ("size", "color", "scale", "mean", "std", "letterbox", "crop_ratio")
OPTIONS = (
    *service_options.OPTIONS, "model", "version", "inputs", "outputs", "send", "discovery_timeout", *_LOOKS, *types.COMMON,
)  # fmt: skip
BATCH_SIZE, CONCURRENCY, TIMEOUT, RETRIES, DISCOVERY = 16, 8, 120.0, 6, 10.0
REVIVAL = 60.0
"""Seconds that a server may take to be ready again after it failed on one item."""


class KServe:
    """A model on a server of the Open Inference Protocol v2.

    Options: url (or a list of those of replicas, each as good as any other); model (its name there, if it differs);
    version (that one only); inputs (``{'image': 'encoded'}``, name -> image, array, text, audio, value, any or a
    DuckDB type, where the server's own description does not do); outputs (``{'label': 'VARCHAR'}``: those columns
    only, with these types); send (pictures as exact ``pixels``, or as the ``file`` they come in, which is smaller for
    photographs and slower for frames of a video).
    For pictures that travel as numbers of a fixed size: size (if the server leaves it open), color, scale, mean, std,
    letterbox, crop_ratio: see `aidb_models.pictures.Preparation`.
    headers, token_env, token_header, concurrency, timeout, retries, backoff, rate_limit, max_response_mb,
    seconds_per_item, price_per_call, batch_size: as for the provider http. discovery_timeout (10 seconds): how long the
    server may take to describe the model.

    How replies are understood: as for http, but a 500 on a batch is taken for the fault of an item, until the item
    stands alone and fails twice on a server that says it is ready.
    """

    def __init__(self, name: str, options: Options) -> None:
        options.refuse_unknown(OPTIONS)
        self.name = name
        self.outdated = False
        access = Access.read(name, options, concurrency=CONCURRENCY, timeout=TIMEOUT, retries=RETRIES)
        version = str(options["version"]) if "version" in options else None
        remote = options.take("model", types.text, name)
        self._path = f"/v2/models/{quote(remote, safe='')}"
        if version is not None:
            self._path += f"/versions/{quote(version, safe='')}"
        given = {i.name: i for i in options.take("inputs", inputs_of, ())}
        wanted = options.take("outputs", outputs_of, None)
        send = options.take("send", types.one_of("pixels", "file"), "pixels")
        patience = options.take("discovery_timeout", positive, DISCOVERY)
        self._transport = Transport(name, access, {})
        metadata, binary = self._discover(access, patience)
        try:
            schema = schema_of(metadata, given, wanted)
        except ValueError as e:
            raise ModelError(f"{shown_url(access.urls[0])} describes {remote} in another way: {e}", name) from None
        if send == "file":
            schema = _as_files(schema)
        self._schema, self._binary = schema, binary
        looks = {k: options[k] for k in _LOOKS if k in options}
        preparations = _preparations(schema, options)
        if looks and not preparations:
            raise ProgrammingError(f"{', '.join(looks)}: no input of {remote} takes pictures as numbers")
        self._writer = Writer(schema, preparations, text_only=not binary)
        sizeless = any(w.is_picture and w.name not in preparations for w in schema.wires)
        one = schema.one or sizeless
        common = types.Common.read(options)
        batch = 1 if one else common.batch_size or schema.batch_size or BATCH_SIZE
        if schema.is_ours and wanted is None and not given:
            mark = schema.versions[0]
        else:
            mark = fingerprint(
                "kserve", None if schema.is_ours else access.urls[0], remote, version, schema.versions, schema.many,
                [(i.name, i.form, i.type) for i in schema.inputs], [(o.name, o.type) for o in schema.outputs],
                sorted((k, str(v)) for k, v in looks.items()),
            )  # fmt: skip
        self.spec = ModelSpec(
            inputs=schema.inputs,
            outputs=schema.outputs,
            rows="many" if schema.many else "one",
            fingerprint=mark,
            variadic=schema.variadic,
            batch_size=batch,
            max_batch=1 if one else None,
            concurrency=access.concurrency,
            seconds_per_item=options.take("seconds_per_item", types.not_negative, schema.seconds or 0.02),
            price_per_call=common.price_per_call,
            device="remote",
            retries=access.retries,
            backoff=access.backoff,
        )

    def __repr__(self) -> str:
        return f"<model {self.name} at {shown_url(self._transport.access.urls[0])}{self._path}>"

    def load(self) -> None:
        """Read the token and open a pool of connections; asks the server nothing."""
        self._transport.open()

    def predict(self, inputs: Sequence[Values], *, restart: bool = False) -> Columns:
        """Send one request and read the answer; may be called from several threads at once."""
        n = len(inputs[0])
        if self._schema.is_ours:
            return self._ask(inputs, n)
        # The protocol has no NULL; as with an operator of SQL, an item with a NULL among its inputs gets no answer.
        null = with_null(inputs)
        if not null.any():
            return self._ask(inputs, n)
        kept = np.flatnonzero(~null)
        known: dict[str, Any] = {}
        if len(kept):
            chosen = [
                v.take(pa.array(kept)) if isinstance(v, (pa.Array, pa.ChunkedArray)) else [v[i] for i in kept]
                for v in inputs
            ]
            known = self._ask(cast("Sequence[Values]", chosen), len(kept))
        return self._spread(known, kept, n)

    def close(self) -> None:
        """Close the connections; a request that is on its way, or waits for its turn, is given up."""
        self._transport.close()

    def _ask(self, inputs: Sequence[Values], n: int) -> dict[str, Any]:
        tensors = self._writer.tensors(inputs)
        message: dict[str, Any] = {"outputs": [self._wanted(name) for name in self._names]}
        body, length = write_message(message, "inputs", tensors, binary=self._binary)
        headers = {"Content-Type": "application/json"}
        if length is not None:
            headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(length)}
        reply = self._transport.send("POST", f"{self._path}/infer", body, headers)
        if reply.status == 500:
            reply = self._failed(reply, body, headers, n)
        raise_for(reply, n, self._transport.clean, self._transport.access.token_env, _message(reply))
        try:
            answer, found = read_message(reply.data, reply.headers.get(HEADER_LENGTH), "outputs")
            self._check_version(reply, answer)
            return answered(self._schema, found, n)
        except Malformed as e:
            message_ = self._transport.clean(f"{reply.shown} answered in another shape: {e}")
            raise ServiceError(message_, retry=False) from None

    @property
    def _names(self) -> list[str]:
        return [*(o.name for o in self._schema.outputs), *([ROW] if self._schema.many else [])]

    def _wanted(self, name: str) -> dict[str, Any]:
        return {"name": name, "parameters": {"binary_data": True}} if self._binary else {"name": name}

    def _failed(self, reply: Reply, body: bytes, headers: dict[str, str], n: int) -> Reply:
        """What to make of a 500: servers answer so for a bad item, when an item kills them, and when they are broken."""
        message = self._transport.clean(f"{reply.shown} answered 500: {_message(reply) or excerpt(reply.data)}")
        if n > 1:
            raise ItemError(message)
        deadline, pause = time.monotonic() + REVIVAL, 0.1
        while self._transport.send("GET", f"{self._path}/ready").status != 200:
            if time.monotonic() > deadline or not self._transport.pace.pause(pause * random.uniform(0.75, 1.25)):  # noqa: S311  jitter
                raise ServiceError(f"{message}, and has not been ready since")
            pause = min(2 * pause, 2.0)
        again = self._transport.send("POST", f"{self._path}/infer", body, headers)
        if again.status == 500:
            # Ready before, and twice no answer to this item alone: it is the item.
            raise ItemError(message)
        return again

    def _check_version(self, reply: Reply, answer: dict[str, Any]) -> None:
        said, known = answer.get("model_version"), self._schema.versions
        if said is None or not known or str(said) in known:
            return
        self.outdated = True
        raise ServiceError(
            f"{reply.shown} has another version of the model now ({said}, not {', '.join(known)}); nothing of it was "
            "stored: run the query again, and it asks that version",
            retry=False,
        )

    def _spread(self, known: dict[str, Any], kept: np.ndarray, n: int) -> dict[str, Any]:
        """Answers of some items as those of all."""
        if self._schema.many:
            if not known:
                return {**{o.name: [] for o in self._schema.outputs}, ROW: []}
            return {**known, ROW: kept[known[ROW]]}
        if not known:
            return {o.name: [None] * n for o in self._schema.outputs}
        places = np.full(n, -1)
        places[kept] = np.arange(len(kept))
        index = pa.array(places, mask=places < 0)
        return {name: column.take(index) for name, column in known.items()}

    def _discover(self, access: Access, patience: float) -> tuple[Any, bool]:
        """The model's metadata, and whether the server reads binary tensors; every replica that answers is compared."""
        found: dict[str, Any] = {}
        problems: list[str] = []
        extensions: list[Any] = []
        with self._transport as transport:
            for url in access.urls:
                try:
                    reply = self._patient(url, patience)
                    raise_for(reply, 1, transport.clean, access.token_env, _message(reply))
                    found[url] = json.loads(reply.data)
                    server = transport.send("GET", "/v2", timeout=patience, only=url)
                    extensions.append(json.loads(server.data).get("extensions") or [])
                except Error:
                    raise
                except (ServiceError, ItemError, OutOfMemory) as e:
                    problems.append(str(e))
                except (ValueError, AttributeError, RecursionError):
                    problems.append(f"{shown_url(url)} answered what is no description of a model")
        if not found:
            raise ModelError(f"model {self.name}: {'; '.join(problems)}", self.name)
        first, *others = found
        for url in others:
            if (a := found[first].get("versions")) != (b := found[url].get("versions")):
                raise ModelError(
                    f"model {self.name}: {shown_url(first)} has the version {a} and {shown_url(url)} {b}; replicas "
                    "must be alike",
                    self.name,
                )
        return found[first], all("binary_tensor_data" in e for e in extensions)

    def _patient(self, url: str, patience: float) -> Reply:
        """The reply about the model, once the server has loaded it."""
        deadline = time.monotonic() + patience
        while True:
            reply = self._transport.send("GET", self._path, timeout=patience, only=url)
            left = deadline - time.monotonic()
            if reply.status != 503 or left <= 0:
                return reply
            self._transport.pace.pause(min(reply.after or 1.0, left))


def _message(reply: Reply) -> str:
    """What a server says of its error, if it says it as the protocol has it."""
    try:
        said = json.loads(reply.data)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return excerpt(str(said).encode("utf-8", "replace"))


def _as_files(schema: Schema) -> Schema:
    from dataclasses import replace

    inputs = tuple(
        replace(i, form="encoded") if i.form == "image" and w.datatype == "BYTES" else i
        for i, w in zip(schema.inputs, schema.wires, strict=True)
    )
    if inputs == schema.inputs:
        raise ProgrammingError("option 'send': no input of the model takes pictures as files")
    return replace(schema, inputs=inputs)


def _preparations(schema: Schema, options: Options) -> dict[str, Preparation]:
    """How pictures are prepared that travel as numbers, by input; none for those of any size."""
    found = {}
    size = options.take("size", types.height_width, None)
    for wire in schema.wires:
        if not wire.is_picture or (wire.size is None and size is None):
            continue
        found[wire.name] = Preparation(
            size=wire.size or size or (0, 0),
            fit=cast("Fit", options.take("letterbox", types.one_of("center", "topleft", "none", "crop"), "none")),
            bgr=options.take("color", types.one_of("rgb", "bgr"), "rgb") == "bgr",
            scale=options.take("scale", types.number, 1.0),
            mean=options.take("mean", types.numbers, (0.0,)),
            std=options.take("std", types.numbers, (1.0,)),
            crop_ratio=options.take("crop_ratio", positive, 1.0),
            channels_last=wire.channels_last,
            dtype="uint8" if wire.datatype == "UINT8" else "float32",
        )
    return found
