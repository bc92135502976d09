"""Addresses that stand in rows: data may come from anyone, and must not decide what this machine asks for over a network.

``CREATE BLOB TABLE ... FROM 'https://...'`` is the user's own wish. A reference of some other origin (a column of a table
that somebody sent) is followed to another machine only if ``aidb.follow_urls`` allows it.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

LISTED = "listed"
ANY = "any"
_HINTS = re.compile(r"(?:[a-z_]+=[^:/]*::)+")
_REACHES = re.compile(r"(?:^|::)(?!file://)[A-Za-z][A-Za-z0-9+.-]*(?:://|::)")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\\@?#\s]+")


def read_urls(value: object) -> str:
    """The setting ``aidb.follow_urls``: ``listed``, ``any``, or origins such as ``https://cdn.example.org, s3://bucket``."""
    text = str(value).strip()
    if text.lower() in (LISTED, ANY):
        return text.lower()
    origins = [part.strip().rstrip("/").lower() for part in text.split(",")]
    if not all(_ORIGIN.fullmatch(origin) for origin in origins):
        raise ValueError("'listed', 'any', or origins are needed: 'https://cdn.example.org, s3://bucket'")
    return ", ".join(origins)


def reaches_out(uri: str) -> bool:
    """Does a reference lead off this machine's own files? An archive or a cache around something counts too."""
    return _REACHES.search(uri) is not None


def may_follow(uri: str, allowed: str) -> bool:
    """May a reference that no source has listed be followed, as ``aidb.follow_urls`` says?

    >>> may_follow("https://cdn.example.org/a.jpg", "https://cdn.example.org")
    True
    >>> may_follow("https://cdn.example.org@10.0.0.1/a.jpg", "https://cdn.example.org")
    False
    """
    if allowed == ANY or not reaches_out(uri):
        return True
    bare = _HINTS.sub("", uri, count=1) if _HINTS.match(uri) else uri
    if allowed == LISTED or "::" in bare:
        return False
    try:
        parts = urlsplit(bare)
    except ValueError:
        return False
    return f"{parts.scheme}://{parts.netloc}".lower() in allowed.split(", ")
