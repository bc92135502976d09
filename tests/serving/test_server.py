"""The server as its clients see it: over HTTP, in another process."""

from __future__ import annotations

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from PIL import Image

from aidb.protocol.tensors import HEADER_LENGTH, Tensor, read_message, write_message
from tests.serving import hosted
from tests.serving.conftest import TOKEN, Server


def numbers(*values: int, **message: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "datatype": "INT64", "shape": [len(values)], "data": values}], **message}


def ask(server: Server, body: Any, model: str = "upto", **headers: str) -> httpx.Response:
    return server.client.post(f"/v2/models/{model}/infer", json=body, headers=headers)


def outputs(reply: httpx.Response) -> dict[str, Any]:
    assert reply.status_code == 200, reply.text
    _, tensors = read_message(reply.content, reply.headers.get(HEADER_LENGTH), "outputs")
    return {t.name: t.data if isinstance(t.data, list) else t.data.tolist() for t in tensors}


def counted(server: Server) -> dict[str, str]:
    """What Prometheus would read: a counter with its labels -> its value."""
    return dict(line.rpartition(" ")[::2] for line in server.client.get("/metrics").text.splitlines())


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def file_of(pixels: np.ndarray, form: str = "PNG") -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, format=form)
    return file.getvalue()


# --- what there is --------------------------------------------------------------------------------------------------


def test_health_and_metadata(server: Server) -> None:
    get = server.client.get
    assert get("/v2/health/live").json() == {"live": True}
    assert get("/v2/health/ready").json() == {"ready": True}
    assert get("/v2").json()["extensions"] == ["binary_tensor_data"]
    about = get("/v2/models/upto").json()
    version = hosted.upto.spec.fingerprint
    assert about["versions"] == [version]
    assert about["inputs"] == [
        {"name": "x", "datatype": "INT64", "shape": [-1], "parameters": {"aidb_form": "value", "aidb_type": "BIGINT"}}
    ]
    assert [(o["name"], o["datatype"], o["shape"]) for o in about["outputs"]] == [
        ("y", "INT64", [-1]), ("half", "BOOL", [-1]), ("_row", "INT64", [-1]),
    ]  # fmt: skip
    assert get(f"/v2/models/upto/versions/{version}").json() == about
    for path in ("upto/ready", f"upto/versions/{version}/ready"):
        assert get(f"/v2/models/{path}").json() == {"name": "upto", "ready": True}
    index = {m["name"]: m["state"] for m in server.client.post("/v2/repository/index").json()}
    assert index == {"measure": "READY", "upto": "READY", "faces": "READY"}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2/models/nobody", 404),
        ("/v2/models/upto/versions/1", 404),
        ("/v2/models/upto/infer", 405),
        ("/elsewhere", 404),
        ("/v2/models/..%2f..%2fetc%2fpasswd", 404),
    ],
)
def test_what_there_is_not(server: Server, path: str, status: int) -> None:
    reply = server.client.get(path)
    assert reply.status_code == status
    assert set(reply.json()) == {"error"}


ROUTES = [
    ("GET", "/v2"), ("GET", "/v2/health/live"), ("GET", "/v2/health/ready"), ("GET", "/v2/models/upto"),
    ("GET", "/v2/models/upto/ready"), ("POST", "/v2/models/upto/infer"), ("POST", "/v2/repository/index"),
    ("GET", "/metrics"), ("GET", "/elsewhere"), ("GET", "/docs"), ("GET", "/openapi.json"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("given", [None, "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", "Bearer"])
def test_nothing_without_the_token(server: Server, method: str, path: str, given: str | None) -> None:
    headers = {} if given is None else {"Authorization": given}
    reply = httpx.request(method, server.url + path, headers=headers, trust_env=False)
    assert (reply.status_code, reply.headers["www-authenticate"]) == (401, "Bearer")
    assert TOKEN not in reply.text


def test_counters(server: Server) -> None:
    ask(server, numbers(3, 4))
    found = counted(server)
    assert float(found['aidb_items_total{model="upto"}']) >= 2
    assert float(found['aidb_requests_total{model="upto",status="200"}']) >= 1
    assert float(found['aidb_workers_ready{model="upto"}']) == 1
    assert float(found['aidb_waiting_items{model="upto"}']) == 0
    assert float(found['aidb_model_seconds_count{model="upto"}']) >= 1


# --- asking ---------------------------------------------------------------------------------------------------------


def test_json_and_many_rows(server: Server) -> None:
    reply = ask(server, numbers(2, 0, 1, id="mine"))
    assert outputs(reply) == {"y": [0, 1, 0], "half": [True, False, True], "_row": [0, 0, 2]}
    said = reply.json()
    assert (said["model_name"], said["model_version"], said["id"]) == ("upto", hosted.upto.spec.fingerprint, "mine")
    assert outputs(ask(server, numbers(2, outputs=[{"name": "y"}]))) == {"y": [0, 1]}


def test_null_goes_in_and_comes_out(server: Server) -> None:
    valid = {"name": "_valid.x", "datatype": "BOOL", "shape": [3], "data": [True, False, True]}
    body = numbers(1, 5, 1)
    body["inputs"].append(valid)
    assert outputs(ask(server, body))["_row"] == [0, 2]
    tall = Tensor.of_bytes("picture", [file_of(picture(4, 2)), file_of(picture(2, 4))])
    content, length = write_message({"parameters": {"binary_data_output": True}}, "inputs", [tall])
    reply = server.client.post("/v2/models/measure/infer", content=content, headers={HEADER_LENGTH: str(length)})
    found = outputs(reply)
    assert (found["_valid.height"], found["height"]) == ([False, True], [0, 2])
    assert (found["_valid.corner"], found["corner"][0]) == ([False, True], [0, 0, 0])
    assert found["shape"] == ["2 × 4".encode(), "4 × 2".encode()]


@pytest.mark.parametrize("form", ["PNG", "BMP", "PPM", "TIFF"])
def test_pictures_as_files(server: Server, form: str) -> None:
    pixels = picture(6, 8)
    content, length = write_message({}, "inputs", [Tensor.of_bytes("picture", [file_of(pixels, form)])])
    reply = server.client.post("/v2/models/measure/infer", content=content, headers={HEADER_LENGTH: str(length)})
    assert outputs(reply)["bright"] == [pixels.mean()]


def test_pictures_as_pixels(server: Server) -> None:
    pixels = np.stack([picture(6, 8, 1), picture(6, 8, 2)])
    content, length = write_message({}, "inputs", [Tensor.of_numbers("picture", pixels)])
    reply = server.client.post("/v2/models/measure/infer", content=content, headers={HEADER_LENGTH: str(length)})
    assert outputs(reply)["bright"] == [p.mean() for p in pixels]


def test_requests_share_batches(server: Server) -> None:
    """While the worker is busy the requests of several clients wait, and go to the model together."""

    def counts() -> tuple[float, float]:
        lines = counted(server)
        return float(lines['aidb_batch_items_count{model="upto"}']), float(lines['aidb_batch_items_sum{model="upto"}'])

    batches, items = counts()
    with ThreadPoolExecutor(16) as clients:
        slow = [clients.submit(ask, server, numbers(hosted.SLOW + 150)) for _ in range(2)]
        fast = [clients.submit(ask, server, numbers(k)) for k in range(1, 13)]
        assert all(f.result().status_code == 200 for f in slow)
        assert [len(outputs(f.result())["y"]) for f in fast] == list(range(1, 13))
    batches, items = counts()[0] - batches, counts()[1] - items
    assert items == 14
    assert batches < 14


def test_a_bad_item_fails_its_own_request_only(server: Server) -> None:
    """Also where it shared a batch with those of others."""
    with ThreadPoolExecutor(16) as clients:
        slow = [clients.submit(ask, server, numbers(hosted.SLOW + 100)) for _ in range(2)]
        requests = [clients.submit(ask, server, numbers(1, hosted.FOUL if k == 3 else k)) for k in range(6)]
        replies = [r.result() for r in requests]
        assert [s.result().status_code for s in slow] == [200, 200]
    assert [r.status_code for r in replies] == [200, 200, 200, 422, 200, 200]
    assert replies[3].json() == {"error": "item 1: ValueError: a negative number"}


BAD: list[tuple[Any, int, str]] = [
    (b"", 400, "not JSON"),
    (b"\x00" * 100, 400, "not JSON"),
    (b"[" * 200_000, 400, "not JSON"),
    ({"inputs": []}, 400, "'x' is missing"),
    (
        {"inputs": [{"name": "z", "datatype": "INT64", "shape": [1], "data": [1]}]},
        400,
        "no input 'z'; the inputs are x",
    ),
    ({"inputs": [{"name": "x", "datatype": "INT64", "shape": [0], "data": []}]}, 400, "no items"),
    ({"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1], "data": ["?"]}]}, 400, "can't be read as BIGINT"),
    ({"inputs": [{"name": "x", "datatype": "INT64", "shape": [1, 2], "data": [1, 2]}]}, 400, "no column of int64"),
    (numbers(1, outputs=[{"name": "z"}]), 400, "no output 'z'"),
    (numbers(1, outputs={}) | {"outputs": "y"}, 400, '"outputs" a list'),
    (numbers(1, parameters=[]) | {"parameters": "x"}, 400, '"parameters" must be an object'),
    (numbers(1, outputs=[{"name": "y", "parameters": {"classification": 3}}]), 400, "classification"),
]


@pytest.mark.parametrize(("body", "status", "message"), BAD)
def test_bad_bodies(server: Server, body: Any, status: int, message: str) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = server.client.post("/v2/models/upto/infer", content=content)
    assert (reply.status_code, message in reply.json()["error"]) == (status, True), reply.text


def test_pictures_that_are_none(server: Server) -> None:
    for data, message in (
        (b"P6 12000 12000 255\n", "12000 x 12000 pixels are more than the 100,000,000 allowed"),
        (b"P6 99999 99999 255\n", "decompression bomb"),
        (b"no picture", "cannot identify image file"),
        (file_of(picture(6, 8))[:60], "item 1: picture: "),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "cannot identify image file"),
    ):
        files = Tensor.of_bytes("picture", [file_of(picture(2, 2)), data])
        content, length = write_message({}, "inputs", [files])
        reply = server.client.post("/v2/models/measure/infer", content=content, headers={HEADER_LENGTH: str(length)})
        assert reply.status_code == 422
        assert message in reply.json()["error"]


def test_too_large_a_body(server: Server) -> None:
    """Refused by what it announces, before any of it has come."""
    with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
        head = f"POST /v2/models/upto/infer HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
        connection.sendall(f"{head}Content-Length: {2**40}\r\n\r\n".encode())
        with connection.makefile("rb") as answer:
            assert answer.readline().startswith(b"HTTP/1.1 413")


def test_compressed_bodies_are_refused(server: Server) -> None:
    assert ask(server, numbers(1), **{"Content-Encoding": "gzip"}).status_code == 415


# --- other clients --------------------------------------------------------------------------------------------------


def test_tritonclient(server: Server) -> None:
    """The protocol's public client, with its own idea of every byte."""
    client = triton.InferenceServerClient(server.url.removeprefix("http://"))

    def headers() -> dict[str, str]:
        return {"Authorization": f"Bearer {TOKEN}"}  # a new one each time: the client writes into it

    try:
        assert client.is_server_live(headers())
        assert client.is_server_ready(headers())
        assert client.is_model_ready("upto", headers=headers())
        assert client.get_model_metadata("upto", headers=headers())["outputs"][0]["name"] == "y"
        for binary in (True, False):
            numbers = triton.InferInput("x", [3], "INT64")
            numbers.set_data_from_numpy(np.array([2, 0, 1]), binary_data=binary)
            wanted = [triton.InferRequestedOutput(n, binary_data=binary) for n in ("y", "half", "_row")]
            found = client.infer("upto", [numbers], outputs=wanted, headers=headers())
            assert found.as_numpy("y").tolist() == [0, 1, 0]
            assert found.as_numpy("half").tolist() == [True, False, True]
            assert found.as_numpy("_row").tolist() == [0, 0, 2]
        pixels = picture(6, 8)
        files = triton.InferInput("picture", [1], "BYTES")
        files.set_data_from_numpy(np.array([file_of(pixels)], dtype=object))
        found = client.infer("measure", [files], headers=headers())
        assert found.as_numpy("bright").tolist() == [pixels.mean()]
        assert found.as_numpy("shape").tolist() == ["8 × 6".encode()]
        assert found.as_numpy("corner").tolist() == [pixels[0, 0].tolist()]
        numbers = triton.InferInput("x", [1], "INT64")
        numbers.set_data_from_numpy(np.array([hosted.FOUL]))
        with pytest.raises(triton.InferenceServerException, match="a negative number"):
            client.infer("upto", [numbers], headers=headers())
    finally:
        client.close()


# --- workers that die -----------------------------------------------------------------------------------------------


def test_a_worker_that_dies_is_started_anew(server: Server) -> None:
    name = 'aidb_worker_restarts_total{model="upto"}'
    before = float(counted(server).get(name, "0"))
    reply = ask(server, numbers(1, hosted.CRASH))
    assert (reply.status_code, reply.json()) == (500, {"error": "the worker died while it had this batch"})
    while (reply := ask(server, numbers(1))).status_code == 503:
        assert reply.headers["Retry-After"] == "1"
        server.pause()
    assert outputs(ask(server, numbers(2)))["y"] == [0, 1]
    assert float(counted(server)[name]) == before + 1


def test_a_worker_that_dies_takes_none_with_it(server: Server) -> None:
    """Requests that shared its last batch are tried again, each alone: only the one at fault hears of it."""
    with ThreadPoolExecutor(16) as clients:
        slow = [clients.submit(ask, server, numbers(hosted.SLOW + 100)) for _ in range(2)]
        requests = [clients.submit(ask, server, numbers(hosted.CRASH if k == 2 else k)) for k in range(4)]
        assert [r.result().status_code for r in requests] == [200, 200, 500, 200]
        assert [s.result().status_code for s in slow] == [200, 200]
    server.wait()


def test_a_shutdown_lets_requests_end() -> None:
    """And says so beforehand: not ready any more. The exit code is that of a program that did what it was told."""
    server = Server(["--function", "upto=tests.serving.hosted:upto", "--host", "127.0.0.1"], token=None)
    replies: list[httpx.Response] = []
    sent = threading.Event()

    def slow() -> None:
        def body() -> Any:
            yield json.dumps(numbers(hosted.SLOW + 400)).encode()
            sent.set()

        replies.append(httpx.post(f"{server.url}/v2/models/upto/infer", content=body(), trust_env=False, timeout=30))

    client = threading.Thread(target=slow)
    try:
        server.wait()
        assert httpx.get(f"{server.url}/v2", headers={"Host": "evil.example"}, trust_env=False).status_code == 403
        client.start()
        assert sent.wait(10)
        while counted(server).get('aidb_batch_items_count{model="upto"}', "0.0") != "1.0":
            server.pause()
    finally:
        code = server.stop()
    assert code == 0
    client.join(10)
    assert outputs(replies[0]) == {"y": [0], "half": [True], "_row": [0]}
