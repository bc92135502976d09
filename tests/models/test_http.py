"""The http provider against real servers on this machine: one that works, and all the ways in which one may not."""

from __future__ import annotations

import base64
import datetime as dt
import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from aidb_models.http import Http
from PIL import Image

from aidb.errors import InterfaceError, ModelError, ProgrammingError, UnknownName
from aidb.exec.validate import validate
from aidb.spi import Input, ItemError, Model, Options, OutOfMemory, Output, ServiceError, Values
from aidb.testing import ModelContract

TOKEN = "s3cret-t0ken"
NUMBERS = [pa.array([1, 2, 3])]


class Service:
    """A server whose reply is a function of the request; it keeps what it was asked."""

    def __init__(self, reply: Callable[[Handler], None]) -> None:
        self.reply = reply
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.connections = self.now = self.most = 0
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.service = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self.server.server_port}/predict"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def setup(self) -> None:
        super().setup()
        with self.server.service.lock:
            self.server.service.connections += 1

    def do_POST(self) -> None:
        service = self.server.service
        self.body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with service.lock:
            service.requests.append((self.path, dict(self.headers), self.body))
            service.now += 1
            service.most = max(service.most, service.now)
        try:
            service.reply(self)
        finally:
            with service.lock:
                service.now -= 1

    do_PUT = do_POST

    def answer(self, content: Any, status: int = 200, **headers: str) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None: ...


def double(handler: Handler) -> None:
    handler.answer(
        {"outputs": [{"y": None if i["x"] is None else 2 * i["x"], "more": 1} for i in handler.body["inputs"]]}
    )


def constant(content: Any, status: int = 200, **headers: str) -> Callable[[Handler], None]:
    return lambda handler: handler.answer(content, status, **headers)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[Service, Http]]]:
    """Start a service and load a model of it."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("TEST_TOKEN", TOKEN)
    started: list[Any] = []

    def start(reply: Callable[[Handler], None], **options: Any) -> tuple[Service, Http]:
        service = Service(reply)
        started.append(service)
        model = Http("m", Options({"url": service.url, "inputs": "x", "outputs": {"y": "BIGINT"}, **options}))
        started.append(model)
        model.load()
        return service, model

    yield start
    for thing in reversed(started):
        thing.close()


def ask(model: Http, *inputs: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = validate("m", model.spec, model.predict(inputs), len(inputs[0])).to_pydict()
    return found


class TestContract(ModelContract):
    service: Service

    @classmethod
    def setup_class(cls) -> None:
        cls.service = Service(double)

    @classmethod
    def teardown_class(cls) -> None:
        super().teardown_class()
        cls.service.close()

    def make(self) -> Model:
        return Http("double", Options({"url": self.service.url, "inputs": "x", "outputs": {"y": "BIGINT"}}))

    def inputs(self) -> Sequence[Values]:
        return [pa.array([1, None, 3])]


# --- when all is well -----------------------------------------------------------------------------------------------


def test_a_batch_is_one_request_on_one_connection(serve: Any) -> None:
    service, model = serve(double)
    assert ask(model, pa.array([1, None, 3])) == {"y": [2, None, 6]}
    assert ask(model, pa.array([5])) == {"y": [10]}
    assert [r[2] for r in service.requests] == [{"inputs": [{"x": 1}, {"x": None}, {"x": 3}]}, {"inputs": [{"x": 5}]}]
    assert service.connections == 1
    assert "Authorization" not in service.requests[0][1]


def test_many_rows(serve: Any) -> None:
    _, model = serve(constant({"outputs": [[{"y": 1}, {"y": 2}], [], None, [{"y": 3}]]}), rows="many")
    assert ask(model, pa.array([0, 0, 0, 0])) == {"y": [1, 2, 3], "_row": [0, 0, 3]}


def test_bare_values_of_a_single_output(serve: Any) -> None:
    _, one = serve(constant({"outputs": ["a", None]}), outputs={"y": "VARCHAR"})
    assert ask(one, pa.array([1, 2])) == {"y": ["a", None]}
    _, many = serve(constant({"outputs": [["a", "b"], []]}), outputs={"y": "VARCHAR"}, rows="many")
    assert ask(many, pa.array([1, 2])) == {"y": ["a", "b"], "_row": [0, 0]}
    _, vector = serve(constant({"outputs": [[1, 2.5]]}), outputs={"y": "FLOAT[2]"})
    assert ask(vector, pa.array([1])) == {"y": [[1.0, 2.5]]}


def test_outputs_of_other_types(serve: Any) -> None:
    reply = {"b": base64.b64encode(b"\x00\xff").decode(), "t": "2026-01-02T03:04:05", "d": "1.50", "j": {"k": [1]}}
    _, model = serve(
        constant({"outputs": [reply, None]}),
        outputs={"b": "BLOB", "t": "TIMESTAMP", "d": "DECIMAL(9, 2)", "j": "JSON"},
    )
    assert ask(model, pa.array([1, 2])) == {
        "b": [b"\x00\xff", None],
        "t": [dt.datetime(2026, 1, 2, 3, 4, 5), None],
        "d": [Decimal("1.50"), None],
        "j": ['{"k": [1]}', None],
    }


def test_how_values_are_written(serve: Any) -> None:
    picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    service, model = serve(
        constant({"outputs": [1]}),
        inputs={"file": "image", "pixels": "array", "frame": "any", "text": "text", "n": "DOUBLE", "rest": "value"},
    )
    assert model.spec.inputs == (
        Input("file", "encoded"), Input("pixels", "image"), Input("frame"), Input("text", "text"),
        Input("n", "value", "DOUBLE"), Input("rest", "value"),
    )  # fmt: skip
    rest = pa.array([{"d": Decimal("1.5"), "t": dt.date(2026, 1, 2), "l": [float("nan"), 1.5], "b": b"x"}])
    model.predict([[b"\xff\xd8"], [picture], [picture], ["grüße"], pa.array([float("inf")]), rest])
    sent = service.requests[0][2]["inputs"][0]
    assert base64.b64decode(sent["file"]) == b"\xff\xd8"
    assert (sent["pixels"]["shape"], sent["pixels"]["dtype"]) == ([2, 4, 3], "uint8")
    assert base64.b64decode(sent["pixels"]["data"]) == picture.tobytes()
    assert np.array_equal(np.asarray(Image.open(BytesIO(base64.b64decode(sent["frame"])))), picture)
    assert (sent["text"], sent["n"]) == ("grüße", None)
    assert sent["rest"] == {"d": "1.5", "t": "2026-01-02", "l": [None, 1.5], "b": "eA=="}


def test_headers_method_and_a_compressed_reply(serve: Any) -> None:
    reply = gzip.compress(json.dumps({"outputs": [7]}).encode())
    service, model = serve(constant(reply, Content_Encoding="gzip"), headers={"X-Model": "v2"}, method="put")
    assert ask(model, pa.array([1])) == {"y": [7]}
    assert service.requests[0][1]["X-Model"] == "v2"
    assert service.requests[0][1]["Content-Type"] == "application/json"


def test_requests_run_side_by_side(serve: Any) -> None:
    together = threading.Barrier(4, timeout=5)

    def reply(handler: Handler) -> None:
        together.wait()
        double(handler)

    service, model = serve(reply, concurrency=4)
    answers: list[Any] = [None] * 4
    threads = [threading.Thread(target=lambda i=i: answers.__setitem__(i, ask(model, pa.array([i])))) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert answers == [{"y": [2 * i]} for i in range(4)]
    assert (service.most, service.connections) == (4, 4)


def test_rate_limit_spaces_requests_evenly(serve: Any) -> None:
    _, model = serve(double, rate_limit=20)
    start = time.monotonic()
    for _ in range(4):
        ask(model, pa.array([1]))
    assert time.monotonic() - start >= 3 / 20


def test_closing_sends_waiting_requests_away(serve: Any) -> None:
    service, model = serve(double, rate_limit=0.01)
    ask(model, pa.array([1]))
    raised: list[BaseException] = []

    def second() -> None:
        try:
            model.predict(NUMBERS)
        except ServiceError as e:
            raised.append(e)

    thread = threading.Thread(target=second)
    thread.start()
    while model._transport.pace._next < time.monotonic() + 150:  # until the second request has its (late) turn
        time.sleep(0.001)
    model.close()
    thread.join(5)
    assert "was closed" in str(raised[0])
    assert len(service.requests) == 1


def test_before_load_and_after_close(serve: Any) -> None:
    _, model = serve(double)
    model.close()
    with pytest.raises(InterfaceError, match="not loaded, or is closed"):
        model.predict(NUMBERS)
    model.load()
    assert ask(model, pa.array([1])) == {"y": [2]}


# --- the token ------------------------------------------------------------------------------------------------------


def test_the_token_is_sent_and_never_shown(serve: Any) -> None:
    def echo(handler: Handler) -> None:
        handler.answer({"error": f"bad token {handler.headers['Authorization']}"}, 401)

    service, model = serve(echo, token_env="TEST_TOKEN")
    with pytest.raises(ServiceError) as e:
        model.predict(NUMBERS)
    assert service.requests[0][1]["Authorization"] == f"Bearer {TOKEN}"
    assert "bad token Bearer ***" in str(e.value)
    assert "the token in TEST_TOKEN" in str(e.value)
    assert not e.value.retry
    for shown in (str(e.value), repr(model), repr(model.spec), repr(model._transport)):
        assert TOKEN not in shown


def test_the_token_is_not_in_errors_of_connections_and_answers(serve: Any) -> None:
    _, model = serve(constant({"outputs": [{"error": f"no {TOKEN}"}]}), token_env="TEST_TOKEN")
    with pytest.raises(ItemError) as item:
        model.predict([pa.array([1])])
    assert "no ***" in str(item.value)
    _, model = serve(constant(f"<html>{TOKEN}</html>".encode()), token_env="TEST_TOKEN")
    with pytest.raises(ServiceError) as service:
        model.predict([pa.array([1])])
    assert "<html>***</html>" in str(service.value)
    assert service.value.__cause__ is None


def test_a_token_in_another_header(serve: Any) -> None:
    service, model = serve(double, token_env="TEST_TOKEN", token_header="X-Api-Key")
    ask(model, pa.array([1]))
    assert service.requests[0][1]["X-Api-Key"] == TOKEN
    assert "Authorization" not in service.requests[0][1]


@pytest.mark.parametrize(
    ("value", "message"), [(None, "TEST_TOKEN .* is not set"), ("a\nb", "can't be sent"), ("ü", "can't")]
)
def test_a_token_that_is_not_there(monkeypatch: pytest.MonkeyPatch, value: str | None, message: str) -> None:
    monkeypatch.delenv("TEST_TOKEN", raising=False)
    if value is not None:
        monkeypatch.setenv("TEST_TOKEN", value)
    model = Http("m", Options({"url": "http://x", "outputs": {"y": "INT"}, "token_env": "TEST_TOKEN"}))
    with pytest.raises(ModelError, match=message) as e:
        model.load()
    assert "a\nb" not in str(e.value)


# --- when it is not -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_may_pass_is_worth_another_try(serve: Any, status: int) -> None:
    _, model = serve(constant(b"come   back\nlater", status, Retry_After="7"))
    with pytest.raises(ServiceError, match=f"/predict answered {status}: come back later") as e:
        model.predict(NUMBERS)
    assert (e.value.retry, e.value.after) == (True, 7.0)


def test_retry_after_as_a_date_or_as_nonsense(serve: Any) -> None:
    _, model = serve(constant(b"", 503, Retry_After=formatdate(time.time() + 30, usegmt=True)))
    with pytest.raises(ServiceError, match="nothing") as e:
        model.predict(NUMBERS)
    assert 25 < e.value.after < 31
    _, model = serve(constant(b"", 503, Retry_After="soon"))
    with pytest.raises(ServiceError) as e:
        model.predict(NUMBERS)
    assert e.value.after is None


@pytest.mark.parametrize("status", [401, 403, 404, 405, 410])
def test_what_will_not_pass_is_not(serve: Any, status: int) -> None:
    _, model = serve(constant(b"no", status))
    with pytest.raises(ServiceError, match=str(status)) as e:
        model.predict(NUMBERS)
    assert not e.value.retry


@pytest.mark.parametrize("status", [400, 422])
def test_a_bad_item(serve: Any, status: int) -> None:
    _, model = serve(constant(b"x must be even", status))
    with pytest.raises(ItemError, match=f"answered {status}: x must be even"):
        model.predict(NUMBERS)


def test_too_large_a_batch(serve: Any) -> None:
    _, model = serve(constant(b"too large", 413))
    with pytest.raises(OutOfMemory, match="413"):
        model.predict(NUMBERS)
    with pytest.raises(ItemError, match="413"):
        model.predict([pa.array([1])])


BAD_SHAPES = [
    ([1, 2, 3], 'an object with a list "outputs" was expected; got .1, 2, 3'),
    ({"result": []}, 'a list "outputs" was expected'),
    ({"outputs": [1]}, '"outputs" has 1 entries for 3 inputs'),
    ({"outputs": [{"y": 1}, {"z": 1}, {"y": 1}]}, "entry 1 has no field 'y'"),
]


@pytest.mark.parametrize(("reply", "message"), BAD_SHAPES)
def test_another_shape_ends_it(serve: Any, reply: Any, message: str) -> None:
    _, model = serve(constant(reply))
    with pytest.raises(ServiceError, match=message) as e:
        model.predict(NUMBERS)
    assert not e.value.retry


def test_other_shapes_of_other_declarations(serve: Any) -> None:
    for reply, options, message in (
        ([1], {"outputs": {"y": "INT", "z": "INT"}}, "entry 0 must be an object with y, z"),
        ([{"y": 1}], {"rows": "many"}, "entry 0 must be a list of rows"),
        ([{"y": "no base64!"}], {"outputs": {"y": "BLOB"}}, "field 'y' of entry 0 is not base64"),
        ([{"y": 3}], {"outputs": {"y": "BLOB"}}, "field 'y' of entry 0 is not base64"),
    ):
        _, model = serve(constant({"outputs": reply}), **options)
        with pytest.raises(ServiceError, match=message):
            model.predict([pa.array([1])])


def test_a_wrong_type_is_the_engines_to_find(serve: Any) -> None:
    _, model = serve(constant({"outputs": ["many"]}))
    with pytest.raises(ModelError, match="column 'y' is declared as BIGINT, but row 0 is 'many'"):
        ask(model, pa.array([1]))


def test_an_error_for_one_item_and_an_output_of_that_name(serve: Any) -> None:
    _, model = serve(constant({"outputs": [{"y": 1}, {"error": "blurred"}, {"y": 1}]}))
    with pytest.raises(ItemError, match="item 1 of the batch: blurred"):
        model.predict(NUMBERS)
    _, model = serve(constant({"outputs": [{"error": "blurred"}]}), outputs={"error": "VARCHAR"})
    assert ask(model, pa.array([1])) == {"error": ["blurred"]}


@pytest.mark.parametrize("garbage", [b"<html>gateway</html>", b"", b'{"outputs": [', b"\xff\xfe", b"[" * 100_000])
def test_garbage_may_be_a_proxys_page(serve: Any, garbage: bytes) -> None:
    _, model = serve(constant(garbage))
    with pytest.raises(ServiceError, match="answered what is not JSON") as e:
        model.predict(NUMBERS)
    assert e.value.retry
    assert len(str(e.value)) < 400


def test_garbage_that_claims_to_be_compressed(serve: Any) -> None:
    _, model = serve(constant(b"not gzip", Content_Encoding="gzip"))
    with pytest.raises(ServiceError, match="DecodingError"):
        model.predict(NUMBERS)


def test_no_answer_in_time(serve: Any) -> None:
    go = threading.Event()
    _, model = serve(lambda handler: bool(go.wait(5)) and None, timeout=0.1)
    start = time.monotonic()
    with pytest.raises(ServiceError, match=r"did not answer within 0.1 s \(option timeout\)") as e:
        model.predict(NUMBERS)
    go.set()
    assert e.value.retry
    assert time.monotonic() - start < 3


def test_an_answer_that_drips(serve: Any) -> None:
    stop = threading.Event()

    def drip(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        try:
            while not stop.wait(0.02):
                handler.wfile.write(b" ")
        except OSError:
            pass  # the client has had enough
        handler.close_connection = True

    _, model = serve(drip, timeout=0.15)
    with pytest.raises(ServiceError, match=r"did not answer within 0\.15 s"):
        model.predict(NUMBERS)
    stop.set()


def test_too_long_an_answer(serve: Any) -> None:
    _, model = serve(constant(b" " * 300_000), max_response_mb=0.2)
    with pytest.raises(ServiceError, match=r"more than 0.2 MB \(option max_response_mb\)") as e:
        model.predict(NUMBERS)
    assert not e.value.retry
    bomb = gzip.compress(b" " * 3_000_000)
    assert len(bomb) < 200_000
    _, model = serve(constant(bomb, Content_Encoding="gzip"), max_response_mb=0.2)
    with pytest.raises(ServiceError, match=r"more than 0\.2 MB"):
        model.predict(NUMBERS)


def test_a_connection_that_breaks(serve: Any) -> None:
    def hang_up(handler: Handler) -> None:
        handler.close_connection = True

    def half(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b'{"outputs"')
        handler.close_connection = True

    for reply in (hang_up, half):
        service, model = serve(reply)
        with pytest.raises(ServiceError, match="can't be reached: RemoteProtocolError") as e:
            model.predict(NUMBERS)
        assert e.value.retry
        service.reply = double
        assert ask(model, pa.array([2])) == {"y": [4]}  # the next request gets a fresh connection


def test_nobody_there(serve: Any) -> None:
    service, _ = serve(double)
    port = service.server.server_port
    service.close()
    model = Http("m", Options({"url": f"http://127.0.0.1:{port}", "inputs": "x", "outputs": {"y": "INT"}}))
    model.load()
    with pytest.raises(ServiceError, match="can't be reached: ConnectError") as e:
        model.predict(NUMBERS)
    assert e.value.retry
    model.close()


def test_redirects_stay_on_the_host(serve: Any) -> None:
    def moved(handler: Handler) -> None:
        if handler.path == "/predict":
            handler.answer(b"", 307, Location="/v2")
        else:
            double(handler)

    service, model = serve(moved, token_env="TEST_TOKEN")
    assert ask(model, pa.array([1])) == {"y": [2]}
    assert [r[0] for r in service.requests] == ["/predict", "/v2"]
    other, _ = serve(double)
    for status, location, message in (
        (307, other.url, "redirects to another place, http://127.0.0.1"),
        (302, "/login", r"redirects \(302\) to /login"),
        (308, "/predict", "redirects more than 3 times"),
    ):
        _, model = serve(constant(b"", status, Location=location), token_env="TEST_TOKEN")
        with pytest.raises(ServiceError, match=message) as e:
            model.predict(NUMBERS)
        assert not e.value.retry
    assert not other.requests


# --- options --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": None}, "option 'url'"),
        ({"url": "ftp://x/y"}, "expected http"),
        ({"url": "http://user:hunter2@x/y"}, "must not hold a user or password"),
        ({"url": "http://user:hunter2@[x/y"}, "is no address"),
        ({"url": "http://x:port/y"}, "is no address"),
        ({"url": "https://x/y?model=a&api_key=hunter2"}, "must not hold a secret .api_key."),
        ({"url": "https://x/y#z"}, "fragment"),
        ({"url": "https://x/y z"}, "blank"),
        ({"outputs": None}, "expected names and DuckDB types"),
        ({"outputs": {"y": "TEXTT"}}, "'TEXTT' is not a DuckDB type"),
        ({"outputs": {"_row": "INT"}}, "begins with an underscore"),
        ({"inputs": {"x": "picture"}}, "neither one of image"),
        ({"inputs": {}}, "at least one input"),
        ({"method": "get"}, "choose post or put"),
        ({"rows": "some"}, "choose one or many"),
        ({"headers": {"Authorization": "Bearer hunter2"}}, "use token_env"),
        ({"headers": {"x-api-key": "hunter2"}}, "use token_env and token_header = 'x-api-key'"),
        ({"headers": {"bad name": "v"}}, "is not the name of a header"),
        ({"headers": {"X": "a\nb"}}, "plain ASCII"),
        ({"headers": "X: 1"}, "expected names and values"),
        ({"token_env": "hunter2-token"}, "it does not hold the token itself"),
        ({"token_header": "X-Key"}, "token_header needs token_env"),
        ({"timeout": 0}, "must be above 0"),
        ({"rate_limit": -1}, "must be above 0"),
        ({"concurrency": 0}, "at least 1"),
        ({"retries": -1}, "at least 0"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ProgrammingError, match=message) as e:
        Http("m", Options({"url": "http://x", "outputs": {"y": "INT"}, **options}))
    assert "hunter2" not in str(e.value)


def test_without_outputs_there_is_one_text(serve: Any) -> None:
    service, _ = serve(constant({"outputs": ["glad", None]}))
    model = Http("m", Options({"url": service.url}))
    assert [(o.name, o.type) for o in model.spec.outputs] == [("output", "VARCHAR")]
    model.load()
    assert model.predict([pa.array(["a", "b"])]) == {"output": ["glad", None]}
    model.close()


def test_missing_and_unknown_options() -> None:
    with pytest.raises(ProgrammingError, match="'url'"):
        Http("m", Options({}))
    with pytest.raises(UnknownName, match="did you mean timeout"):
        Http("m", Options({"url": "http://x", "outputs": {"y": "INT"}, "time_out": 1}))


def test_the_spec() -> None:
    model = Http(
        "m",
        Options({
            "url": "https://x/y", "inputs": ["image", "x"], "outputs": {"label": "VARCHAR", "score": "DOUBLE"},
            "batch_size": 8, "concurrency": 3, "retries": 5, "backoff": 0.1, "price_per_call": 0.002,
        }),
    )  # fmt: skip
    spec = model.spec
    assert (spec.inputs, spec.outputs) == (
        (Input("image"), Input("x")),
        (Output("label", "VARCHAR"), Output("score", "DOUBLE")),
    )
    assert (spec.batch_size, spec.max_batch, spec.concurrency, spec.retries, spec.backoff) == (8, 8, 3, 5, 0.1)
    assert (spec.price_per_call, spec.device) == (0.002, "remote")
    assert repr(model) == "<model m at https://x/y>"


def test_the_fingerprint_follows_what_matters() -> None:
    def made(**options: Any) -> str:
        return Http("m", Options({"url": "https://x/y", "outputs": {"y": "INT"}, **options})).spec.fingerprint

    same = {"batch_size": 2, "timeout": 3, "retries": 0, "price_per_call": 1, "token_env": "A", "rate_limit": 5}
    assert made() == made(**same)
    others = [
        made(), made(url="https://x/z"), made(url="https://x/y?model=2"), made(version="2"), made(rows="many"),
        made(outputs={"y": "BIGINT"}), made(inputs="x"), made(inputs={"input": "text"}), made(headers={"X-Model": "2"}),
    ]  # fmt: skip
    assert len(set(others)) == len(others)
