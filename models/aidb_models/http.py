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

import os
import re
import threading
import time
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urljoin, urlsplit

from aidb.errors import InterfaceError, ModelError, ProgrammingError
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
    arrow_type,
    fingerprint,
)
from aidb_models.http_json import Answers, excerpt, request_body
from aidb_models.option_types import Common, names, not_negative, number, one_of, positive_int, text, whole
from aidb_models.pace import Pace

if TYPE_CHECKING:
    import httpx

OPTIONS = (
    "url", "method", "headers", "token_env", "token_header", "inputs", "outputs", "rows", "concurrency", "timeout",
    "retries", "backoff", "rate_limit", "max_response_mb", "seconds_per_item", "version", "batch_size",
    "price_per_call",
)  # fmt: skip
BATCH_SIZE, CONCURRENCY, TIMEOUT, RETRIES, MAX_RESPONSE_MB = 16, 4, 60.0, 3, 64
REDIRECTS = 3
FORMS = {
    "image": "encoded",
    "encoded": "encoded",
    "array": "image",
    "text": "text",
    "audio": "audio",
    "value": "value",
    "any": "any",
}
"""What the option ``inputs`` says -> what the model asks the engine for."""
_SECRET_HEADERS = {"authorization", "proxy-authorization", "cookie", "x-api-key", "api-key", "x-auth-token"}
_SECRET_PARAMETER = re.compile(
    r"(^|[_-])(key|apikey|token|secret|password|passwd|pwd|sig|signature|auth)$", re.IGNORECASE
)


class Http:
    """A model that asks a service.

    Options: url; method (POST, or PUT); headers (``{'X-Model': 'v2'}``; nothing secret, for they are stored in the
    database); token_env (name of an environment variable with a token, read when the model is first used, sent as
    ``Authorization: Bearer`` or, with token_header, alone in that header; never stored or shown); inputs (names, by
    default ``input``, or ``{'image': 'image', 'x': 'DOUBLE'}``: name -> image, array, text, audio, value, any, or a
    DuckDB type); outputs (``{'label': 'VARCHAR'}``; by default
    one text, ``output``); rows (``one`` or ``many``); batch_size (most items a request);
    concurrency (requests at a time); timeout (seconds, for a whole request); retries, backoff (seconds);
    rate_limit (requests a second, evenly spaced); max_response_mb; price_per_call (money an item); seconds_per_item
    (a guess for the planner); version (change it when the service's answers change: nothing else can tell).

    How replies are understood: 429, 408, 425 and 5xx, timeouts and broken connections may be retried, after the time
    that Retry-After asks for; 400 and 422 mean that an item of the batch is bad; 413 that the batch is too large;
    any other status, or an answer of another shape, that the service is not the one that was declared.
    """

    def __init__(self, name: str, options: Options) -> None:
        options.refuse_unknown(OPTIONS)
        self.name = name
        self._url = options.take("url", _url)
        self._method = options.take("method", one_of("post", "put"), "post").upper()
        self._headers = options.take("headers", _headers, {})
        self._token_env = options.take("token_env", _variable, None)
        self._token_header = options.take("token_header", _header_name, None)
        if self._token_header and not self._token_env:
            raise ProgrammingError(f"model {name}: token_header needs token_env, the variable that holds the token")
        self._timeout = options.take("timeout", _positive, TIMEOUT)
        self._limit = int(options.take("max_response_mb", _positive, MAX_RESPONSE_MB) * 2**20)
        rate = options.take("rate_limit", _positive, None)
        self._pace = Pace(rate)
        inputs = options.take("inputs", _inputs, (Input("input"),))
        outputs = options.take("outputs", _outputs, (Output("output", "VARCHAR"),))
        rows = options.take("rows", one_of("one", "many"), "one")
        common = Common.read(options)
        batch = common.batch_size or BATCH_SIZE
        self._answers = Answers(outputs, rows == "many")
        self._arrays = frozenset(i.name for i in inputs if i.form == "image")
        self._client: httpx.Client | None = None
        self._token: str | None = None
        self._lock = threading.Lock()
        self.spec = ModelSpec(
            inputs=inputs,
            outputs=outputs,
            rows=rows,  # type: ignore[arg-type]
            fingerprint=fingerprint(
                "http", self._url, self._method, sorted(self._headers.items()), str(options.get("version", "")),
                [(i.name, i.form, i.type) for i in inputs], [(o.name, o.type) for o in outputs], rows,
            ),
            batch_size=batch,
            max_batch=batch,
            concurrency=options.take("concurrency", positive_int, CONCURRENCY),
            seconds_per_item=options.take("seconds_per_item", not_negative, 0.1),
            price_per_call=common.price_per_call,
            device="remote",
            retries=options.take("retries", whole, RETRIES),
            backoff=options.take("backoff", not_negative, 0.5),
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<model {self.name} at {self._shown}>"

    def load(self) -> None:
        """Read the token and open a pool of connections; asks the service nothing."""
        import httpx

        with self._lock:
            if self._client is not None:
                return
            headers = {
                "Content-Type": "application/json",
                "Accept": "application/json",
                "User-Agent": "aidb",
                **self._headers,
            }
            self._token = _token(self.name, self._token_env) if self._token_env else None
            if self._token is not None:
                headers[self._token_header or "Authorization"] = (
                    self._token if self._token_header else f"Bearer {self._token}"
                )
            pool = httpx.Limits(max_connections=self.spec.concurrency, max_keepalive_connections=self.spec.concurrency)
            self._client = httpx.Client(headers=headers, timeout=self._timeout, limits=pool, follow_redirects=False)
            self._pace.start()

    def predict(self, inputs: Sequence[Values], *, restart: bool = False) -> Columns:
        """Send one request and read the answer; may be called from several threads at once."""
        n = len(inputs[0])
        status, headers, data = self._send(request_body([i.name for i in self.spec.inputs], inputs, self._arrays))
        if not 200 <= status < 300:
            self._refused(status, headers, data, n)
        try:
            return self._answers.read(data, n)
        except ServiceError as e:
            raise ServiceError(self._clean(f"{self._shown} {e}"), retry=e.retry, after=e.after) from None
        except ItemError as e:
            raise ItemError(self._clean(str(e))) from None

    def close(self) -> None:
        """Close the connections; a request that waits for its turn gives up."""
        self._pace.stop()
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    @property
    def _shown(self) -> str:
        return self._url.partition("?")[0]

    def _send(self, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of the reply, after redirects that stay on the same host."""
        import httpx

        client = self._client
        if client is None:
            raise InterfaceError(f"model {self.name} was not loaded, or is closed")
        if not self._pace.wait():
            raise ServiceError(f"model {self.name} was closed while a request waited for its turn", retry=False)
        url = self._url
        deadline = time.monotonic() + self._timeout
        try:
            for _ in range(REDIRECTS + 1):
                status, headers, data = self._once(client, url, body, deadline)
                if status not in (301, 302, 303, 307, 308):
                    return status, headers, data
                url = self._redirected(status, url, headers.get("location", ""))
        # The cause is not chained: it carries the request, and with it the token.
        except httpx.TimeoutException:
            raise ServiceError(f"{self._shown} did not answer within {self._timeout:g} s (option timeout)") from None
        except (httpx.HTTPError, httpx.InvalidURL) as e:
            message = self._clean(f"{self._shown} can't be reached: {type(e).__name__}: {e}")
            raise ServiceError(message, retry="CERTIFICATE_VERIFY_FAILED" not in message) from None
        raise ServiceError(f"{self._shown} redirects more than {REDIRECTS} times", retry=False)

    def _once(
        self, client: httpx.Client, url: str, body: bytes, deadline: float
    ) -> tuple[int, Mapping[str, str], bytes]:
        import httpx

        with client.stream(self._method, url, content=body) as reply:
            chunks: list[bytes] = []
            size = 0
            for chunk in reply.iter_bytes():
                size += len(chunk)
                if size > self._limit:
                    limit = f"{self._limit / 2**20:g} MB"
                    raise ServiceError(
                        f"{self._shown} answered more than {limit} (option max_response_mb)", retry=False
                    )
                if time.monotonic() > deadline:
                    raise httpx.ReadTimeout("too slow")
                chunks.append(chunk)
            return reply.status_code, reply.headers, b"".join(chunks)

    def _redirected(self, status: int, url: str, location: str) -> str:
        target = urljoin(url, location)
        old, new = urlsplit(url), urlsplit(target)
        if (old.scheme, old.netloc) != (new.scheme, new.netloc):
            where = f"{new.scheme}://{new.hostname or ''}"
            raise ServiceError(f"{self._shown} redirects to another place, {where}: name that one in url", retry=False)
        if status not in (307, 308):  # the others turn the request into a GET without its body
            raise ServiceError(f"{self._shown} redirects ({status}) to {new.path}: name that in url", retry=False)
        return target

    def _refused(self, status: int, headers: Mapping[str, str], data: bytes, n: int) -> None:
        message = self._clean(f"{self._shown} answered {status}: {excerpt(data)}")
        if status == 413:
            if n > 1:
                raise OutOfMemory(message)
            raise ItemError(message)
        if status in (400, 422):
            raise ItemError(message)
        if status in (408, 425, 429) or status >= 500:
            raise ServiceError(message, after=_retry_after(headers.get("retry-after")))
        if status in (401, 403):
            with_what = f"the token in {self._token_env}" if self._token_env else "no token (option token_env)"
            message += f" (sent with {with_what})"
        raise ServiceError(message, retry=False)

    def _clean(self, message: str) -> str:
        """Without the token, in case the service says it back."""
        return message.replace(self._token, "***") if self._token else message


def _token(model: str, variable: str) -> str:
    token = os.environ.get(variable, "").strip()
    if not token:
        raise ModelError(
            f"model {model}: the environment variable {variable} (option token_env) is not set", model=model
        )
    if not token.isascii() or not token.isprintable():
        raise ModelError(f"model {model}: the value of {variable} can't be sent in a header", model=model)
    return token


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait, from either form of the header."""
    if not value:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _url(value: object) -> str:
    url = text(value).strip()
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as e:
        raise _NotShown(f"is no address: {e}") from None
    if parts.username is not None or parts.password is not None:
        raise _NotShown("must not hold a user or password: it is stored in the database; use token_env")
    secret = [k for k, _ in parse_qsl(parts.query, keep_blank_values=True) if _SECRET_PARAMETER.search(k)]
    if secret:
        raise _NotShown(f"must not hold a secret ({secret[0]}): it is stored in the database; use token_env")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected http://... or https://...")
    if parts.fragment:
        raise ValueError("a fragment (#...) is never sent; drop it")
    if any(c.isspace() or not c.isprintable() for c in url):
        raise ValueError("has a blank in it")
    return url


class _NotShown(ProgrammingError):
    """Passes through `Options.take`, whose own message would show the value."""

    def __init__(self, message: str) -> None:
        super().__init__(f"option 'url' {message}")


def _headers(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ValueError("expected names and values: {'X-Model': 'v2'}")
    for header in value:
        _header_name(header)
        if str(header).lower() in _SECRET_HEADERS:
            raise ProgrammingError(
                f"option 'headers': {header} is not for here, since headers are stored in the database; use token_env"
                + ("" if str(header).lower() == "authorization" else f" and token_header = '{header}'")
            )
    found = {str(k): str(v) for k, v in value.items()}
    if not all(v.isascii() and v.isprintable() for v in found.values()):
        raise ValueError("values must be plain ASCII text")
    return found


def _header_name(value: object) -> str:
    name = text(value)
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
        raise ValueError("is not the name of a header")
    return name


def _variable(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
        raise ProgrammingError("option 'token_env' names an environment variable; it does not hold the token itself")
    return value


def _positive(value: object) -> float:
    result = number(value)
    if result <= 0:
        raise ValueError("must be above 0")
    return result


def _inputs(value: object) -> tuple[Input, ...]:
    if not isinstance(value, Mapping):
        return tuple(Input(n) for n in names(value))
    if not value:
        raise ValueError("expected at least one input")
    return tuple(_input(str(name), str(what)) for name, what in value.items())


def _input(name: str, what: str) -> Input:
    if what.lower() in FORMS:
        return Input(name, FORMS[what.lower()])  # type: ignore[arg-type]
    try:
        arrow_type(what)
    except ProgrammingError:
        raise ValueError(f"{what!r} is neither one of {', '.join(FORMS)} nor a DuckDB type") from None
    return Input(name, "value", what)


def _outputs(value: object) -> tuple[Output, ...]:
    if not isinstance(value, Mapping) or not value:
        raise ValueError("expected names and DuckDB types: {'label': 'VARCHAR'}")
    for name, type_ in value.items():
        if str(name).startswith("_"):
            raise ValueError(f"output {name!r} begins with an underscore; such names are the engine's")
        try:
            arrow_type(str(type_))
        except ProgrammingError as e:
            raise ValueError(str(e)) from None
    return tuple(Output(str(name), str(type_)) for name, type_ in value.items())
