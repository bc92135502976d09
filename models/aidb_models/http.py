"""A model behind an HTTP service that speaks JSON.

``CREATE MODEL mood USING http WITH (url = 'https://...', outputs = {'mood': 'VARCHAR'}, token_env = 'MOOD_TOKEN')``

Request (see `aidb_models.http_json` for how each kind of value is written)::

    {"inputs": [{"image": "<base64 of the file>", "x": 1}, ...]}

Response, one entry for each input, in order; null where there is no answer::

    {"outputs": [{"label": "car", "score": 0.9}, ...]}                  rows = 'one'
    {"outputs": [[{"label": "car"}, {"label": "bus"}], [], ...]}        rows = 'many'

With a single output the bare value may stand for the object. Fields that were not declared are ignored. An entry
``{"error": "..."}`` says that this item can't be answered (unless ``error`` is an output).
"""

from __future__ import annotations

from collections.abc import Sequence

from aidb.spi import Columns, Input, ItemError, ModelSpec, Options, Output, ServiceError, Values, fingerprint
from aidb_models import service_options
from aidb_models.http_json import Answers, request_body
from aidb_models.option_types import Common, not_negative, one_of
from aidb_models.refusals import raise_for
from aidb_models.service_options import Access, inputs_of, outputs_of, shown_url
from aidb_models.transport import Transport

OPTIONS = (*service_options.OPTIONS, "method", "inputs", "outputs", "rows", "version", "batch_size", "price_per_call")
BATCH_SIZE, CONCURRENCY, TIMEOUT, RETRIES = 16, 4, 60.0, 3


class Http:
    """A model that asks a service.

    Options: url (or a list of those of replicas); method (POST, or PUT); headers (``{'X-Model': 'v2'}``; nothing
    secret, for they are stored in the database); token_env (name of an environment variable with a token, read when the
    model is first used, sent as ``Authorization: Bearer`` or, with token_header, alone in that header; never stored or
    shown); inputs (names, by default ``input``, or ``{'image': 'image', 'x': 'DOUBLE'}``: name -> image, array, text,
    audio, value, any, or a DuckDB type); outputs (``{'label': 'VARCHAR'}``; by default one text, ``output``); rows
    (``one`` or ``many``); batch_size (most items a request); concurrency (requests at a time, fewer while the service is
    overloaded); timeout (seconds, for a whole request); retries, backoff (seconds); rate_limit (requests a second,
    evenly spaced); max_response_mb; price_per_call (money an item); seconds_per_item (a guess for the planner); version
    (change it when the service's answers change: nothing else can tell).

    How replies are understood: 429, 408, 425 and 5xx, timeouts and broken connections may be retried, after the time
    that Retry-After asks for; 400 and 422 mean that an item of the batch is bad; 413 that the batch is too large;
    any other status, or an answer of another shape, that the service is not the one that was declared.
    """

    def __init__(self, name: str, options: Options) -> None:
        options.refuse_unknown(OPTIONS)
        self.name = name
        access = Access.read(name, options, concurrency=CONCURRENCY, timeout=TIMEOUT, retries=RETRIES)
        self._shown = shown_url(access.urls[0])
        self._method = options.take("method", one_of("post", "put"), "post").upper()
        inputs = options.take("inputs", inputs_of, (Input("input"),))
        outputs = options.take("outputs", outputs_of, (Output("output", "VARCHAR"),))
        rows = options.take("rows", one_of("one", "many"), "one")
        common = Common.read(options)
        batch = common.batch_size or BATCH_SIZE
        self._answers = Answers(outputs, rows == "many")
        self._arrays = frozenset(i.name for i in inputs if i.form == "image")
        self._transport = Transport(name, access, {"Content-Type": "application/json", "Accept": "application/json"})
        self.spec = ModelSpec(
            inputs=inputs,
            outputs=outputs,
            rows=rows,  # type: ignore[arg-type]
            fingerprint=fingerprint(
                "http", access.urls[0], self._method, sorted(access.headers.items()), str(options.get("version", "")),
                [(i.name, i.form, i.type) for i in inputs], [(o.name, o.type) for o in outputs], rows,
            ),
            batch_size=batch,
            max_batch=batch,
            concurrency=access.concurrency,
            seconds_per_item=options.take("seconds_per_item", not_negative, 0.1),
            price_per_call=common.price_per_call,
            device="remote",
            retries=access.retries,
            backoff=access.backoff,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<model {self.name} at {self._shown}>"

    def load(self) -> None:
        """Read the token and open a pool of connections; asks the service nothing."""
        self._transport.open()

    def predict(self, inputs: Sequence[Values], *, restart: bool = False) -> Columns:
        """Send one request and read the answer; may be called from several threads at once."""
        n = len(inputs[0])
        body = request_body([i.name for i in self.spec.inputs], inputs, self._arrays)
        reply = self._transport.send(self._method, "", body)
        clean = self._transport.clean
        raise_for(reply, n, clean, self._transport.access.token_env)
        try:
            return self._answers.read(reply.data, n)
        except ServiceError as e:
            raise ServiceError(clean(f"{reply.shown} {e}"), retry=e.retry, after=e.after) from None
        except ItemError as e:
            raise ItemError(clean(str(e))) from None

    def close(self) -> None:
        """Close the connections; a request that is on its way, or waits for its turn, is given up."""
        self._transport.close()
