"""What stands before the routes, and the queue behind them: in this process, without a server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from multiprocessing import Pipe
from typing import Any

import httpx
import numpy as np
import pytest

from aidb.exec.control import Control
from aidb.exec.inference import Inference
from aidb.protocol.tensors import Malformed, Tensor
from aidb.serving.arguments import Argument, Given, arguments_of, match, read
from aidb.serving.batcher import Answered, Batcher, Full, Waiting
from aidb.serving.guard import Guard
from aidb.serving.worker import Job, _Worker
from aidb.spi import Input
from aidb.testing import FakeModel


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Reads the body and says its length."""
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})


def ask(guard: Guard, content: Any = b"", url: str = "http://localhost:8000/v2", **headers: str) -> httpx.Response:
    async def run() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(guard)) as client:
            return await client.post(url, content=content, headers=headers)

    return asyncio.run(run())


async def chunks(n: int) -> AsyncIterator[bytes]:
    for _ in range(n):
        yield b"x" * 100


def test_a_body_is_counted_as_it_comes() -> None:
    guard = Guard(echo, None, 1000, 10_000)
    assert ask(guard, chunks(10)).text == "1000"
    refused = ask(guard, chunks(11))
    assert (refused.status_code, refused.headers["connection"]) == (413, "close")
    assert ask(guard, b"x" * 1001).status_code == 413
    assert guard._pending == 0


def test_bodies_of_all_requests_are_counted() -> None:
    guard = Guard(echo, None, 1000, 1500)

    async def slowly(waiting: asyncio.Event) -> AsyncIterator[bytes]:
        yield b"x" * 900
        await waiting.wait()

    async def run() -> tuple[httpx.Response, httpx.Response, httpx.Response]:
        waiting = asyncio.Event()
        sizes: list[bytes] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            sizes.append((await receive())["body"])
            await waiting.wait()
            await echo(scope, receive, send)

        guard._app = app
        async with httpx.AsyncClient(transport=httpx.ASGITransport(guard), base_url="http://localhost") as client:
            first = asyncio.create_task(client.post("/", content=slowly(waiting)))
            while not sizes:
                await asyncio.sleep(0)
            second = await client.post("/", content=b"x" * 700)
            waiting.set()
            done = await first
            return done, second, await client.post("/", content=b"x" * 700)

    first, second, third = asyncio.run(run())
    assert (first.status_code, second.status_code, third.status_code) == (200, 429, 200)
    assert second.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("http://localhost:8000/v2", 200),
        ("http://127.0.0.1/v2", 200),
        ("http://[::1]:8000/v2", 200),
        ("http://evil.example/v2", 403),
        ("http://localhost.evil.example:8000/v2", 403),
        ("http://10.0.0.1:8000/v2", 403),
    ],
)
def test_without_a_token_only_this_machine_is_served(url: str, status: int) -> None:
    assert ask(Guard(echo, None, 100, 100), url=url).status_code == status


def test_with_a_token_any_name_will_do() -> None:
    guard = Guard(echo, "right", 100, 100)
    assert ask(guard, url="http://gpu1.example/v2", Authorization="bearer right").status_code == 200
    assert ask(guard, url="http://gpu1.example/v2", Authorization="Bearer wrong").status_code == 401


def test_the_token_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bytes, bytes]] = []
    monkeypatch.setattr("hmac.compare_digest", lambda a, b: bool(seen.append((a, b))) or a == b)
    ask(Guard(echo, "right", 100, 100), Authorization="Bearer guess")
    ask(Guard(echo, "right", 100, 100))
    assert seen == [(b"guess", b"right"), (b"", b"right")]


# --- the queue ------------------------------------------------------------------------------------------------------


def request(n: int, sort: str = "column", answer: Callable[[Answered], None] = lambda _: None) -> Waiting:
    given = Given(sort, "BIGINT", Tensor.of_numbers("x", np.zeros(n)))  # type: ignore[arg-type]
    return Waiting((given,), n, answer)


def test_batches_are_filled_in_order() -> None:
    queue = Batcher(100)
    for n in (2, 3, 4, 9, 1):
        queue.put(request(n))
    assert [[r.n for r in queue.take(8, 0.0)] for _ in range(4)] == [[2, 3], [4], [9], [1]]
    assert queue.items == 0
    assert queue.take(8, 0.0, patience=0.0) == []


def test_only_requests_of_one_sort_share_a_batch() -> None:
    queue = Batcher(100)
    for sort in ("column", "column", "text", "text"):
        queue.put(request(1, sort))
    assert [len(queue.take(8, 0.0)) for _ in range(2)] == [2, 2]


def test_requests_of_a_worker_that_died_come_first_and_alone() -> None:
    queue = Batcher(4)
    queue.put(request(1))
    queue.put(request(1))
    dead = queue.take(2, 0.0)
    queue.put(request(3))
    queue.put_back([replace(r, alone=True) for r in dead])
    assert [[r.n for r in queue.take(8, 30.0)] for _ in range(2)] == [[1], [1]]
    assert [r.n for r in queue.take(8, 0.0)] == [3]
    queue.close()
    with pytest.raises(Full):
        queue.put_back(dead)


def test_there_is_room_for_so_many_items() -> None:
    queue = Batcher(10)
    queue.put(request(30))
    with pytest.raises(Full):
        queue.put(request(1))
    queue.take(8, 0.0)
    queue.put(request(5))
    queue.put(request(5))
    with pytest.raises(Full):
        queue.put(request(1))


def test_a_request_waits_for_others() -> None:
    queue = Batcher(100)
    taken: list[list[int]] = []
    taker = threading.Thread(target=lambda: taken.append([r.n for r in queue.take(4, 30.0, 30.0)]))
    taker.start()
    for _ in range(4):
        queue.put(request(1))
    taker.join(10)
    assert taken == [[1, 1, 1, 1]]


def test_a_closed_queue_gives_back_what_waits() -> None:
    queue = Batcher(100)
    queue.put(request(2))
    assert [r.n for r in queue.close()] == [2]
    assert queue.take(4, 0.0) == []
    with pytest.raises(Full):
        queue.put(request(1))


# --- which tensor is which input ------------------------------------------------------------------------------------

ANY = [Argument("x", "any")]


def kind(tensor: Tensor) -> tuple[str, str | None]:
    [given], _ = match(ANY, False, [tensor])
    return given.kind, given.type


def test_what_an_open_input_holds() -> None:
    assert kind(Tensor.of_numbers("x", np.zeros(2, np.float32))) == ("column", "FLOAT")
    assert kind(Tensor.of_numbers("x", np.zeros((2, 3)))) == ("column", "DOUBLE[3]")
    assert kind(Tensor.of_numbers("x", np.zeros((1, 2, 2, 3), np.uint8))) == ("pixels", None)
    assert kind(Tensor.of_bytes("x", [b"a"])) == ("column", "VARCHAR")
    assert kind(Tensor.of_bytes("x", [b"a"], {"aidb_form": "image"})) == ("file", None)
    assert kind(Tensor.of_bytes("x", [b"a"], {"aidb_form": "text"})) == ("text", None)
    assert kind(Tensor.of_bytes("x", [b"a"], {"aidb_type": "DATE"})) == ("column", "DATE")
    for parameters in ({"aidb_form": "smell"}, {"aidb_type": "INT; DROP TABLE x"}):
        with pytest.raises(Malformed, match="tensor 'x'"):
            kind(Tensor.of_bytes("x", [b"a"], parameters))


@pytest.mark.parametrize(
    ("form", "tensor", "message"),
    [
        ("image", Tensor.of_numbers("x", np.zeros((1, 2, 2, 4), np.uint8)), "takes pictures"),
        ("image", Tensor.of_numbers("x", np.zeros((1, 2, 2, 3), np.float32)), "takes pictures"),
        ("image", Tensor.of_numbers("x", np.zeros((1, 0, 2, 3), np.uint8)), "no pixels"),
        ("text", Tensor.of_numbers("x", np.zeros(1)), "takes BYTES"),
        ("encoded", Tensor("x", "BYTES", (1, 2), [b"a", b"b"]), "one element an item"),
    ],
)
def test_a_tensor_of_the_wrong_kind(form: str, tensor: Tensor, message: str) -> None:
    with pytest.raises(Malformed, match=message):
        match([Argument("x", form)], False, [tensor])


def test_inputs_of_different_lengths_and_more_of_them() -> None:
    x, y = (Tensor.of_numbers(name, np.zeros(n)) for name, n in (("x", 2), ("y", 3)))
    with pytest.raises(Malformed, match="the same everywhere"):
        match(ANY, True, [x, y])
    with pytest.raises(Malformed, match="no input 'y'"):
        match(ANY, False, [x, y])
    given, n = match(ANY, True, [x, Tensor.of_numbers("y", np.zeros(2))])
    assert ([g.tensor.name for g in given], n) == (["x", "y"], 2)
    with pytest.raises(Malformed, match="belongs to no input"):
        match(ANY, False, [x, Tensor.of_numbers("_valid.z", np.zeros(2, bool))])


def test_text_that_is_none_is_its_items_fault() -> None:
    [given], _ = match([Argument("x", "text")], False, [Tensor.of_bytes("x", [b"fine", b"\xff"])])
    values, wrong = read(given, lambda _: np.zeros(0))
    assert values is None
    assert list(wrong) == [1]


def test_pictures_have_so_many_pixels_together() -> None:
    """A client sends fewer at a time then; the other requests of the batch are answered."""
    model = FakeModel("m", {"y": "INTEGER"}, lambda x: x.shape[0], inputs=[Input("x", "image")])
    decode = lambda data: np.zeros((int(data), 10, 3), np.uint8)  # noqa: E731
    worker = _Worker(Pipe()[0], Inference("m", model, Control()), decode, most=250)
    worker.turn = threading.Semaphore(1)
    requests = []
    for files in ([b"10", b"10"], [b"10", b"10", b"6"], [b"25"]):
        [given], n = match([Argument("x", "image")], False, [Tensor.of_bytes("x", files)])
        requests.append(((given,), n))
    done = worker._answer(Job(1, tuple(requests)))
    assert [answer.status for answer in done.answers] == [200, 413, 200]
    assert "more than 250 pixels together" in done.answers[1].message
    assert done.answers[2].tensors[0].data.tolist() == [25]


def test_settings_close_open_inputs() -> None:
    model = FakeModel("m", {"y": "INT"}, lambda *_: 1, inputs=["a"], variadic=True)
    found, more = arguments_of("m", model.spec, {"a": "image", "b": "DOUBLE"})
    assert found == (Argument("a", "image"), Argument("b", "value", "DOUBLE"))
    assert not more
    assert arguments_of("m", model.spec, {}) == ((Argument("a", "any"),), True)
