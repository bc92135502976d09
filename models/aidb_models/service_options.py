"""The options that models behind a service share: where it is, what proves who asks, how patient to be."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from aidb.errors import ModelError, ProgrammingError
from aidb.spi import Input, Options, Output, arrow_type
from aidb_models.option_types import names, not_negative, number, positive_int, text, whole

OPTIONS = (
    "url", "headers", "token_env", "token_header", "concurrency", "timeout", "retries", "backoff", "rate_limit",
    "max_response_mb", "seconds_per_item",
)  # fmt: skip
"""Names of the options that `Access.read` takes (and seconds_per_item)."""
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


@dataclass(frozen=True)
class Access:
    """How to reach a service.

    urls: its replicas, each as good as any other. headers: sent with every request; nothing secret. token_env: name of
    the environment variable with the token, sent as ``Authorization: Bearer``, or alone in the header token_header.
    concurrency: most requests at a time. timeout: seconds for a whole request. retries, backoff: see `ModelSpec`.
    rate_limit: requests a second, or None. max_response: bytes.
    """

    urls: tuple[str, ...]
    headers: Mapping[str, str]
    token_env: str | None
    token_header: str | None
    concurrency: int
    timeout: float
    retries: int
    backoff: float
    rate_limit: float | None
    max_response: int

    @classmethod
    def read(
        cls,
        model: str,
        options: Options,
        *,
        concurrency: int,
        timeout: float,
        retries: int,
        max_response_mb: float = 64,
    ) -> Access:
        """Take the options, with these defaults. Raises `ProgrammingError`."""
        token_env = options.take("token_env", variable, None)
        token_header = options.take("token_header", header_name, None)
        if token_header and not token_env:
            raise ProgrammingError(f"model {model}: token_header needs token_env, the variable that holds the token")
        return cls(
            urls=options.take("url", urls_of),
            headers=options.take("headers", headers_of, {}),
            token_env=token_env,
            token_header=token_header,
            concurrency=options.take("concurrency", positive_int, concurrency),
            timeout=options.take("timeout", positive, timeout),
            retries=options.take("retries", whole, retries),
            backoff=options.take("backoff", not_negative, 0.5),
            rate_limit=options.take("rate_limit", positive, None),
            max_response=int(options.take("max_response_mb", positive, max_response_mb) * 2**20),
        )

    def token(self, model: str) -> str | None:
        """The token, read now from the environment; `ModelError` if there should be one and is none."""
        if self.token_env is None:
            return None
        token = os.environ.get(self.token_env, "").strip()
        if not token:
            raise ModelError(
                f"model {model}: the environment variable {self.token_env} (option token_env) is not set", model=model
            )
        if not token.isascii() or not token.isprintable():
            raise ModelError(f"model {model}: the value of {self.token_env} can't be sent in a header", model=model)
        return token


def urls_of(value: object) -> tuple[str, ...]:
    """One address, or a list of those of replicas."""
    listed = value if isinstance(value, (list, tuple)) else [value]
    if not listed:
        raise ValueError("expected at least one address")
    return tuple(_url(v) for v in listed)


def shown_url(url: str) -> str:
    """An address as messages show it."""
    return url.partition("?")[0]


def headers_of(value: object) -> dict[str, str]:
    """Names and values of HTTP headers, none of them secret."""
    if not isinstance(value, Mapping):
        raise ValueError("expected names and values: {'X-Model': 'v2'}")
    for header in value:
        header_name(header)
        if str(header).lower() in _SECRET_HEADERS:
            raise ProgrammingError(
                f"option 'headers': {header} is not for here, since headers are stored in the database; use token_env"
                + ("" if str(header).lower() == "authorization" else f" and token_header = '{header}'")
            )
    found = {str(k): str(v) for k, v in value.items()}
    if not all(v.isascii() and v.isprintable() for v in found.values()):
        raise ValueError("values must be plain ASCII text")
    return found


def header_name(value: object) -> str:
    """The name of an HTTP header."""
    name = text(value)
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
        raise ValueError("is not the name of a header")
    return name


def variable(value: object) -> str:
    """The name of an environment variable; the message shows no value, which may be the secret itself."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
        raise ProgrammingError("option 'token_env' names an environment variable; it does not hold the token itself")
    return value


def positive(value: object) -> float:
    """A finite number above 0."""
    result = number(value)
    if result <= 0:
        raise ValueError("must be above 0")
    return result


def inputs_of(value: object) -> tuple[Input, ...]:
    """Names, or name -> one of `FORMS` or a DuckDB type."""
    if not isinstance(value, Mapping):
        return tuple(Input(n) for n in names(value))
    if not value:
        raise ValueError("expected at least one input")
    return tuple(_input(str(name), str(what)) for name, what in value.items())


def outputs_of(value: object) -> tuple[Output, ...]:
    """Name -> DuckDB type."""
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


def _input(name: str, what: str) -> Input:
    if what.lower() in FORMS:
        return Input(name, FORMS[what.lower()])  # type: ignore[arg-type]
    try:
        arrow_type(what)
    except ProgrammingError:
        raise ValueError(f"{what!r} is neither one of {', '.join(FORMS)} nor a DuckDB type") from None
    return Input(name, "value", what)


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
