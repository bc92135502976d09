"""Addresses that come as data lead nowhere, unless they were listed or allowed; and no server leads us inside."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

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

PLACES = {
    "outside": ("127.0.1.1", "93.184.216.34"),
    "other": ("127.0.1.2", "8.8.8.8"),
    "inside": ("127.0.1.3", "10.1.2.3"),
    "metadata": ("127.0.1.4", "169.254.169.254"),
}
"""Name -> the address of this machine at which its server is, and the one that we take it for."""


class World:
    """Servers at some addresses, all at one port, and who knows their names. where: name -> place, once for each look-up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.port = 0
        self.servers: dict[str, Server] = {}
        for place, (address, _) in PLACES.items():
            self.servers[place] = Server(address, self.port)
            self.port = self.servers[place].port
        self.where: dict[str, list[str]] = {f"{place}.test": [place] for place in PLACES}
        ask, read, taken_for = socket.getaddrinfo, web._address, dict(PLACES.values())

        def resolve(host: str, *more: Any, **named: Any) -> Any:
            if places := self.where.get(host):
                host = PLACES[places.pop(0) if len(places) > 1 else places[0]][0]
            return ask(host, *more, **named)

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        monkeypatch.setattr(web, "_address", lambda text: read(taken_for.get(text, text)))

    def redirect(self, place: str, path: str, target: str) -> None:
        """A path of a server that leads to a host (at our port) and path, or to another path."""
        to = target if target.startswith("/") else f"http://{target.replace('/', f':{self.port}/', 1)}"
        self.servers[place].replies[path] = lambda handler: send(handler, b"", 302, Location=to)

    def read(self, host: str, path: str) -> bytes:
        return storage.read_bytes(f"http://{host}:{self.port}{path}")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("NO_PROXY", "*")
    web._client.cache_clear()
    try:
        world = World(monkeypatch)
    except OSError:
        pytest.skip("this system has one address of its own, 127.0.0.1")
    for server in world.servers.values():
        for path in ("/there", "/here"):
            server.replies[path] = lambda handler: send(handler, b"fine")
    yield world
    for server in world.servers.values():
        server.close()
    web._client.cache_clear()  # it remembers the proxies of its time


@pytest.mark.parametrize("target", ["127.0.0.1", "localhost", "inside.test", "metadata.test"])
def test_a_server_out_there_does_not_lead_us_inside(world: World, target: str) -> None:
    world.redirect("outside", "/go", f"{target}/secret")
    with pytest.raises(OSError, match="which is no public address"):
        world.read("outside.test", "/go")
    assert [server.asked for server in world.servers.values()] == [["/go"], [], [], []]


def test_other_redirects_are_followed(world: World) -> None:
    world.redirect("outside", "/go", "other.test/there")
    world.redirect("inside", "/near", "/here")
    world.redirect("inside", "/out", "outside.test/go")
    world.redirect("inside", "/round", "/round")
    world.redirect("inside", "/meta", "metadata.test/x")
    assert world.read("outside.test", "/go") == b"fine"
    assert world.read("inside.test", "/near") == b"fine"
    assert world.read("inside.test", "/out") == b"fine"
    with pytest.raises(OSError, match="more than 10 redirects"):
        world.read("inside.test", "/round")
    with pytest.raises(OSError, match="which is no public address"):
        world.read("inside.test", "/meta")


@pytest.mark.parametrize(
    ("source", "target", "where"),
    [
        # It is outside when it is looked at, and inside when we connect.
        ("outside.test", "evil.test", {"evil.test": ["other", "inside"]}),
        ("inside.test", "evil.test", {"evil.test": ["other", "metadata"]}),
        # Whoever redirects is outside, and says to be inside when it is asked.
        ("evil.test", "inside.test", {"evil.test": ["outside", "inside"]}),
        # The same name at another port, say.
        ("evil.test", "evil.test", {"evil.test": ["outside", "outside", "inside"]}),
    ],
)
def test_a_name_that_changes_its_address_does_not_lead_us_inside(
    world: World, source: str, target: str, where: dict[str, list[str]]
) -> None:
    for place in PLACES:
        world.redirect(place, "/go", f"{target}/secret")
    world.where |= where
    with pytest.raises(OSError, match="which is no public address"):
        world.read(source, "/go")
    assert [path for server in world.servers.values() for path in server.asked] == ["/go"]


def test_a_connection_that_was_not_looked_at_is_not_used_for_a_redirect(world: World) -> None:
    """The name was asked by the user, when it was inside, and that connection is still open."""
    world.where["evil.test"] = ["inside", "other"]
    assert world.read("evil.test", "/here") == b"fine"
    world.redirect("outside", "/go", "evil.test/there")
    assert world.read("outside.test", "/go") == b"fine"
    assert world.servers["other"].asked == ["/there"]


def test_behind_a_proxy_names_count(world: World, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy is in our own network, and that is no matter of where a redirect leads."""
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.delenv("NO_PROXY")
    outside = f"http://outside.test:{world.port}"
    for target in ("other", "inside"):
        to = f"http://{target}.test:{world.port}/there"
        server.replies[f"{outside}/{target}"] = lambda handler, to=to: send(handler, b"", 302, Location=to)
    server.replies[f"http://other.test:{world.port}/there"] = lambda handler: send(handler, b"fine")
    assert world.read("outside.test", "/other") == b"fine"
    with pytest.raises(OSError, match="which is no public address"):
        world.read("outside.test", "/inside")
    assert [server.asked for server in world.servers.values()] == [[], [], [], []]
    assert len(server.asked) == 3
