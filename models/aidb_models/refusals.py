"""What a reply that is no answer means: an item's fault, the batch's size, a service that is busy, or none at all."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from aidb.spi import ItemError, OutOfMemory, ServiceError
from aidb_models.http_json import excerpt
from aidb_models.transport import Reply

PATIENCE = 900.0
"""Seconds that a service may ask to be left alone; whoever asks for more (a day's quota is used up) ends the query."""


def raise_for(reply: Reply, n: int, clean: Callable[[str], str], token_env: str | None, said: str = "") -> None:
    """Return for a reply with an answer (2xx), and raise for any other one.

    429, 408, 425 and 5xx may be retried, after the time that Retry-After asks for; 400 and 422 mean that an item of the
    batch is bad; 413 that the batch is too large; any other status that the service is not the one that was declared.

    n: items of the batch. clean: takes what is secret out of a message. said: the reply's own message, if it was read.
    """
    status = reply.status
    if 200 <= status < 300:
        return
    message = clean(f"{reply.shown} answered {status}: {said or excerpt(reply.data)}")
    if status == 413:
        if n > 1:
            raise OutOfMemory(message)
        raise ItemError(message)
    if status in (400, 422):
        raise ItemError(message)
    if status in (408, 425, 429) or status >= 500:
        after = reply.after
        if after is not None and after > PATIENCE:
            raise ServiceError(f"{message} (it asks to come back in {timedelta(seconds=round(after))})", retry=False)
        raise ServiceError(message, after=after)
    if status in (401, 403):
        with_what = f"the token in {token_env}" if token_env else "no token (option token_env)"
        message += f" (sent with {with_what})"
    raise ServiceError(message, retry=False)
