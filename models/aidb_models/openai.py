"""Language models and embeddings behind OpenAI's protocol: vLLM, Ollama, llama.cpp, LM Studio, OpenAI and many others.

::

    CREATE MODEL caption USING openai WITH (url = 'http://localhost:11434/v1', model = 'llava',
        inputs = {'image': 'image'}, prompt = 'What is the main object, and is it indoors?',
        outputs = {'thing': 'VARCHAR', 'indoors': 'BOOLEAN'});
    CREATE MODEL embed USING openai WITH (url = 'http://localhost:8000/v1', model = 'bge-small', task = 'embed');
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from aidb.errors import ModelError, ProgrammingError
from aidb.spi import (
    Columns,
    Input,
    ItemError,
    ModelSpec,
    Options,
    OutOfMemory,
    Output,
    ServiceError,
    Values,
    fingerprint,
)
from aidb_models import option_types as types
from aidb_models import service_options
from aidb_models.chat import answer_object, user_message
from aidb_models.http_json import excerpt
from aidb_models.json_schema import schema_of
from aidb_models.refusals import raise_for
from aidb_models.service_options import Access, inputs_of, outputs_of, shown_url
from aidb_models.transport import Reply, Transport

_CHAT = (
    "prompt", "system", "inputs", "outputs", "rows", "schema", "temperature", "max_tokens", "seed",
)  # fmt: skip
_EMBED = ("dimensions",)
OPTIONS = (*service_options.OPTIONS, "model", "task", "extra", "version", *_CHAT, *_EMBED, *types.COMMON)
CONCURRENCY, TIMEOUT, RETRIES, EMBED_BATCH = 8, 120.0, 5, 64
PLAIN = (Output("output", "VARCHAR"),)
"""What a chat model gives if no outputs are declared: its text."""


class OpenAI:
    """A model behind ``POST .../chat/completions`` or ``.../embeddings``.

    Options: url (what comes before these paths, or a list of replicas), model (the service's name of it); task (``chat``
    or ``embed``); version (change it when the answers change: nothing else can tell); extra (further fields of the
    request, ``{'top_p': 0.5}``); headers, token_env, token_header, concurrency, timeout, retries, backoff, rate_limit,
    max_response_mb, seconds_per_item, price_per_call: as for the provider http.
    chat: prompt (``{name}`` stands for an input; pictures and what it does not name follow it), system; inputs (names,
    or ``{'image': 'image', 'x': 'DOUBLE'}``, as for http); outputs (``{'label': 'VARCHAR'}``; the model is held to a
    JSON schema of them; by default its bare text, ``output``); rows (``one``, or ``many``: a list); schema (``strict``,
    or ``object`` or ``prompt`` for services without JSON schemas); temperature (0), max_tokens, seed. One item a request.
    embed: a text becomes ``embedding FLOAT[n]``; dimensions (n; else one request at CREATE MODEL finds it); batch_size
    (64).

    An item with a NULL among its inputs gets NULL, and no request.
    """

    def __init__(self, name: str, options: Options) -> None:
        options.refuse_unknown(OPTIONS)
        self.name = name
        access = Access.read(name, options, concurrency=CONCURRENCY, timeout=TIMEOUT, retries=RETRIES)
        model = options.take("model", types.text)
        task = options.take("task", types.one_of("chat", "embed"), "chat")
        types.refuse_for_task(options, task, chat=_CHAT, embed=_EMBED)
        self._transport = Transport(name, access, {"Content-Type": "application/json", "Accept": "application/json"})
        self._fields = {"model": model, **options.take("extra", _mapping, {})}
        self._work: _Chat | _Embed = _Chat(options) if task == "chat" else _Embed(options)
        if isinstance(self._work, _Embed) and not self._work.dimensions:
            self._work.dimensions = self._ask_dimensions()
        common = types.Common.read(options)
        batch = 1 if task == "chat" else common.batch_size or EMBED_BATCH
        self.spec = ModelSpec(
            inputs=self._work.inputs,
            outputs=self._work.outputs,
            rows="many" if self._work.many else "one",
            fingerprint=fingerprint(
                "openai", access.urls[0], self._fields, sorted(access.headers.items()), str(options.get("version", "")),
                self._work.settings, [(i.name, i.form, i.type) for i in self._work.inputs],
                [(o.name, o.type) for o in self._work.outputs], self._work.many,
            ),
            batch_size=batch,
            # An item a request: what one costs is never lost with another's failure.
            max_batch=1 if task == "chat" else None,
            concurrency=access.concurrency,
            seconds_per_item=options.take("seconds_per_item", types.not_negative, 1.0 if task == "chat" else 0.01),
            price_per_call=common.price_per_call,
            device="remote",
            retries=access.retries,
            backoff=access.backoff,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<model {self.name} at {shown_url(self._transport.access.urls[0])}>"

    def load(self) -> None:
        """Read the token and open a pool of connections; asks the service nothing."""
        self._transport.open()

    def predict(self, inputs: Sequence[Values], *, restart: bool = False) -> Columns:
        """One request for a batch of texts, or for one item of a chat; may be called from several threads at once."""
        n = len(inputs[0])
        columns = [v.to_pylist() if isinstance(v, (pa.Array, pa.ChunkedArray)) else v for v in inputs]
        items = list(zip(*columns, strict=True))
        kept = [i for i, item in enumerate(items) if not any(v is None for v in item)]
        answers = self._ask([items[i] for i in kept]) if kept else []
        if self._work.many:
            rows = [(i, row) for i, found in zip(kept, answers, strict=True) for row in found]
            return {**self._work.columns([r for _, r in rows]), "_row": [i for i, _ in rows]}
        spread: list[Any] = [None] * n
        for i, answer in zip(kept, answers, strict=True):
            spread[i] = answer
        return self._work.columns(spread)

    def close(self) -> None:
        """Close the connections; a request that is on its way, or waits for its turn, is given up."""
        self._transport.close()

    def _ask(self, items: list[tuple[Any, ...]]) -> list[Any]:
        """An answer for each item: a list of rows with ``rows = 'many'``."""
        if isinstance(self._work, _Chat) and len(items) > 1:
            return [answer for item in items for answer in self._ask([item])]
        body = json.dumps({**self._fields, **self._work.body(items)}, ensure_ascii=False)
        reply = self._transport.send("POST", self._work.path, body.encode("utf-8", "replace"))
        self._refuse(reply, len(items))
        try:
            return self._work.read(json.loads(reply.data), len(items))
        except ItemError as e:
            raise ItemError(self._transport.clean(str(e))) from None
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as e:
            message = f"{reply.shown} answered in another shape ({type(e).__name__}: {e}): {excerpt(reply.data)}"
            raise ServiceError(self._transport.clean(message), retry=False) from None

    def _refuse(self, reply: Reply, n: int) -> None:
        message, code = _error(reply)
        if reply.status == 429 and code in ("insufficient_quota", "billing_hard_limit_reached"):
            # Waiting does not help: the account is empty.
            raise ServiceError(self._transport.clean(f"{reply.shown} answered 429: {message}"), retry=False)
        raise_for(reply, n, self._transport.clean, self._transport.access.token_env, message)

    def _ask_dimensions(self) -> int:
        with self._transport:
            try:
                [vector] = self._ask([("dimensions",)])
            except (ServiceError, ItemError, OutOfMemory) as e:
                raise ModelError(
                    f"model {self.name}: {e} (the option dimensions spares this request)", self.name
                ) from None
        return len(vector)


class _Chat:
    """What one item asks a language model, and how its answer is read."""

    path = "/chat/completions"

    def __init__(self, options: Options) -> None:
        self._prompt = options.take("prompt", str, "")
        self._system = options.take("system", str, "")
        self.inputs = options.take("inputs", inputs_of, (Input("input"),))
        self.outputs = options.take("outputs", outputs_of, PLAIN)
        self.many = options.take("rows", types.one_of("one", "many"), "one") == "many"
        self._plain = "outputs" not in options and not self.many
        self._mode = options.take("schema", types.one_of("strict", "object", "prompt"), "strict")
        self._schema = schema_of(self.outputs, self.many)
        self._settings: dict[str, Any] = {"temperature": options.take("temperature", types.not_negative, 0.0)}
        for name in ("max_tokens", "seed"):
            if name in options:
                self._settings[name] = options.take(name, types.whole)
        self.settings = [self._prompt, self._system, self._mode, self._settings]

    def body(self, items: list[tuple[Any, ...]]) -> dict[str, Any]:
        """The request's own fields."""
        [item] = items
        values = {i.name: v for i, v in zip(self.inputs, item, strict=True)}
        system = self._system
        if not self._plain and self._mode != "strict":
            rule = f"Answer with a JSON object of this schema, and nothing else:\n{json.dumps(self._schema)}"
            system = f"{system}\n\n{rule}".strip()
        messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": user_message(self._prompt, values)})
        return {**self._settings, "messages": messages, **self._format()}

    def read(self, reply: Any, n: int) -> list[Any]:
        """The item's row, or its list of rows."""
        choice = reply["choices"][0]
        message = choice["message"]
        if message.get("refusal"):
            raise ItemError(f"the language model refuses: {message['refusal']}")
        if choice.get("finish_reason") == "length":
            raise ItemError("the language model's answer was cut off (option max_tokens)")
        if choice.get("finish_reason") == "content_filter":
            raise ItemError("the service's content filter held the answer back")
        content = message["content"]
        if isinstance(content, list):
            content = "".join(part["text"] for part in content)
        if not isinstance(content, str):
            raise ItemError("the language model gave no answer")
        if self._plain:
            return [{"output": content}]
        names = [o.name for o in self.outputs]
        if not self.many:
            return [answer_object(content, names)]
        rows = answer_object(content, ["rows"])["rows"]
        if not isinstance(rows, list) or not all(isinstance(r, dict) and all(n in r for n in names) for r in rows):
            raise ItemError(f"the language model's answer is no list of rows: {content[:200]!r}")
        return [rows]

    def columns(self, rows: list[Any]) -> dict[str, list[Any]]:
        """Rows (None: no answer) as columns."""
        return {o.name: [None if r is None else r[o.name] for r in rows] for o in self.outputs}

    def _format(self) -> dict[str, Any]:
        if self._plain or self._mode == "prompt":
            return {}
        if self._mode == "object":
            return {"response_format": {"type": "json_object"}}
        schema = {"name": "answer", "strict": True, "schema": self._schema}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}


class _Embed:
    """Texts to vectors."""

    path = "/embeddings"
    many = False

    def __init__(self, options: Options) -> None:
        self.dimensions = options.take("dimensions", types.positive_int, 0)
        self._asked = self.dimensions
        self.inputs = (Input("text", "text"),)
        self.settings = ["embed", self._asked]

    @property
    def outputs(self) -> tuple[Output, ...]:
        """One vector."""
        return (Output("embedding", f"FLOAT[{self.dimensions}]"),)

    def body(self, items: list[tuple[Any, ...]]) -> dict[str, Any]:
        """The request's own fields."""
        fields: dict[str, Any] = {"input": [str(text) for (text,) in items], "encoding_format": "float"}
        return {**fields, "dimensions": self._asked} if self._asked else fields

    def read(self, reply: Any, n: int) -> list[Any]:
        """A vector for each text, by the place that the service says it belongs to."""
        found = {d["index"]: np.asarray(d["embedding"], np.float32) for d in reply["data"]}
        if len(reply["data"]) != n or sorted(found) != list(range(n)):
            raise ValueError(f"{len(reply['data'])} vectors for {n} texts, of {len(found)} places")
        vectors: list[Any] = [found[i] for i in range(n)]
        for vector in vectors:
            if self.dimensions and vector.shape != (self.dimensions,):
                raise ValueError(f"a vector of {vector.size} numbers, not of {self.dimensions}")
        return vectors

    def columns(self, vectors: list[Any]) -> dict[str, list[Any]]:
        """The one column."""
        return {"embedding": vectors}


def _error(reply: Reply) -> tuple[str, str]:
    """Message and code of an error, as far as the service says them."""
    try:
        said = json.loads(reply.data)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "", ""
    if not isinstance(said, Mapping):
        return excerpt(str(said).encode("utf-8", "replace")), ""
    return excerpt(str(said.get("message", "")).encode("utf-8", "replace")), str(said.get("code", ""))


def _mapping(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError("expected names and values: {'top_p': 0.5}")
    for name in ("messages", "input", "model", "stream"):
        if name in value:
            raise ProgrammingError(f"option 'extra': {name} is set otherwise")
    return dict(value)
