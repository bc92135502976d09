"""Addresses that come as data lead nowhere, unless they were listed or allowed; and no server leads us inside."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from aidb_connectors import storage, web

import aidb
from aidb.exec.urls import may_follow, reaches_out, read_urls
from aidb.spi import Input
from aidb.testing import FakeModel
from tests.security.web import Server, send


@pytest.fixture
def con() -> Iterator[aidb.Connection]:
    with aidb.connect() as con:
        con.execute("SET aidb.max_error_ratio = 1")
        width = FakeModel("width", {"w": "INTEGER"}, lambda a: a.shape[1], inputs=[Input("image", "image")])
        con.register(width)
        yield con


def forged(url: str) -> str:
    return f"{{'uri': '{url}', 'pos': NULL::BIGINT, 'media': 'image', 'connector': 'images'}}"


def test_an_address_in_a_row_is_not_asked(con: aidb.Connection, server: Server) -> None:
    con.execute(f"CREATE TABLE sent AS SELECT 1 AS id, {forged(server.url + '/latest/meta-data')} AS image")
    con.execute("CREATE BLOB TABLE frames AS SELECT id, image FROM sent KEY (id)")
    assert con.execute("SELECT width(image) FROM frames").fetchall() == [(None,)]
    [(message,)] = con.execute("SELECT message FROM aidb.errors").fetchall()
    assert "an address that came as data" in message
    assert "SET aidb.follow_urls" in message
    [(handle,)] = con.execute("SELECT image FROM sent").fetchall()
    with pytest.raises(aidb.DataError, match="came as data"):
        handle.bytes()
    assert handle._repr_png_() is None
    assert server.asked == []


def test_what_was_listed_or_allowed_is_asked(con: aidb.Connection, server: Server) -> None:
    con.execute(f"CREATE BLOB TABLE frames FROM '{server.url}/a.png' WITH (header = false)")
    assert con.execute("SELECT width(image) FROM frames").fetchall() == [(3,)]
    con.execute("CREATE BLOB TABLE again AS SELECT image_id, image FROM frames KEY (image_id)")
    assert con.execute("SELECT width(image) FROM again").fetchall() == [(3,)]
    con.execute(f"CREATE TABLE sent AS SELECT 1 AS id, {forged(server.url + '/b.png')} AS image")
    con.execute(f"SET aidb.follow_urls = '{server.url.upper()}/, s3://mine'")
    [(handle,)] = con.execute("SELECT image FROM sent").fetchall()
    assert handle.array().shape == (2, 3, 3)
    con.execute("CREATE BLOB TABLE third AS SELECT * FROM sent KEY (id)")
    assert con.execute("SELECT width(image) FROM third").fetchall() == [(3,)]
    con.execute("SET aidb.follow_urls = 'https://elsewhere.example'")
    [(handle,)] = con.execute("SELECT image FROM sent").fetchall()
    with pytest.raises(aidb.DataError, match="came as data"):
        handle.array()


@pytest.mark.parametrize(
    ("uri", "free"),
    [
        ("/srv/a.jpg", True),
        ("file:///srv/a.jpg", True),
        ("encoding=cp1250::/a.txt", True),
        ("memory:ann", True),
        ("https://cdn.example.org/a.jpg", True),
        ("max_pixels=5::https://cdn.example.org/a.jpg", True),
        ("HTTPS://CDN.example.org/a.jpg", True),
        ("http://cdn.example.org/a.jpg", False),
        ("https://cdn.example.org.evil.test/a.jpg", False),
        ("https://cdn.example.org@evil.test/a.jpg", False),
        ("https://cdn.example.org\\@evil.test/a.jpg", False),
        ("https://cdn.example.org:8443/a.jpg", False),
        ("https://evil.test/https://cdn.example.org/", False),
        ("zip://a.jpg::https://cdn.example.org/a.zip", False),
        ("zip::/srv/a.zip", False),
        ("http://[::1]/", False),
        ("http://[not an address", False),
        ("s3://bucket/a", False),
    ],
)
def test_origins(uri: str, free: bool) -> None:
    assert may_follow(uri, read_urls("https://cdn.example.org/")) is free
    assert may_follow(uri, "any")
    assert may_follow(uri, "listed") is not reaches_out(uri)


@pytest.mark.parametrize("value", ["", "cdn.example.org", "https://a@b", "https://a/path", "https://, s3://b"])
def test_origins_are_checked(value: str) -> None:
    with aidb.connect() as con, pytest.raises(aidb.ProgrammingError, match="origins are needed"):
        con.execute(f"SET aidb.follow_urls = '{value}'")


# ---- redirects


def _known(monkeypatch: pytest.MonkeyPatch, **names: str) -> None:
    """Names for addresses; whatever they are told to be, connections go to this machine."""
    ask = socket.getaddrinfo
    told = {f"{name}.test": address for name, address in names.items()}
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *more, **named: ask("127.0.0.1" if host in told else host, *more, **named)
    )
    addresses = web.addresses
    monkeypatch.setattr(
        web, "addresses", lambda host: [web.ip_address(told[host])] if host in told else addresses(host)
    )


@pytest.mark.parametrize("target", ["127.0.0.1", "localhost", "inside", "metadata"])
def test_a_server_out_there_does_not_lead_us_inside(
    server: Server, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    _known(monkeypatch, outside="93.184.216.34", inside="10.1.2.3", metadata="169.254.169.254")
    port = server.server.server_port
    host = target if "." in target or target == "localhost" else f"{target}.test"
    server.replies["/go"] = lambda handler: send(handler, b"", 302, Location=f"http://{host}:{port}/secret")
    with pytest.raises(OSError, match="which is no public address"):
        storage.read_bytes(f"http://outside.test:{port}/go")
    assert server.asked == ["/go"]


def test_other_redirects_are_followed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    _known(monkeypatch, outside="93.184.216.34", other="8.8.8.8", inside="10.1.2.3", metadata="169.254.169.254")
    port = server.server.server_port
    server.replies["/go"] = lambda handler: send(handler, b"", 302, Location=f"http://other.test:{port}/there")
    server.replies["/near"] = lambda handler: send(handler, b"", 307, Location="/here")
    server.replies["/round"] = lambda handler: send(handler, b"", 302, Location="/round")
    server.replies["/meta"] = lambda handler: send(handler, b"", 302, Location=f"http://metadata.test:{port}/x")
    for path in ("/there", "/here"):
        server.replies[path] = lambda handler: send(handler, b"fine")
    assert storage.read_bytes(f"http://outside.test:{port}/go") == b"fine"
    assert storage.read_bytes(f"http://inside.test:{port}/near") == b"fine"
    assert storage.read_bytes(f"{server.url}/go") == b"fine"
    with pytest.raises(OSError, match="more than 10 redirects"):
        storage.read_bytes(f"{server.url}/round")
    with pytest.raises(OSError, match="which is no public address"):
        storage.read_bytes(f"http://inside.test:{port}/meta")
