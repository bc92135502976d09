"""The provider kserve against servers of the protocol as they are in the wild, and as they should not be."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from aidb_models.kserve import KServe
from PIL import Image

import aidb
from aidb.errors import ModelError, ProgrammingError, UnknownName
from aidb.exec.validate import validate
from aidb.protocol.tensors import HEADER_LENGTH, Malformed, Tensor, read_message, write_message
from aidb.spi import ItemError, Model, Options, OutOfMemory, ServiceError, Values
from aidb.testing import ModelContract
from tests.models.service import Handler, Service

NUMBERS = [pa.array([1.0, 2.0, 3.0])]


def tensor(name: str, datatype: str, *shape: int, **parameters: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(shape), "parameters": parameters}


def doubled(tensors: dict[str, Tensor]) -> list[Tensor]:
    return [Tensor.of_numbers("y", 2 * np.asarray(tensors["x"].data))]


class Remote(Service):
    """A server of the protocol. answer: what comes out, of what went in by name. binary: does it read more than JSON?"""

    def __init__(
        self,
        answer: Callable[[dict[str, Tensor]], list[Tensor]] = doubled,
        inputs: Sequence[dict[str, Any]] = (tensor("x", "FP64", -1),),
        outputs: Sequence[dict[str, Any]] = (tensor("y", "FP64", -1),),
        versions: Sequence[str] = ("1",),
        platform: str = "onnxruntime_onnx",
        *,
        binary: bool = True,
        **parameters: Any,
    ) -> None:
        self.answer_of, self.binary, self.ready, self.version = answer, binary, True, versions[0] if versions else None
        self.about = {
            "name": "m", "versions": list(versions), "platform": platform, "inputs": list(inputs),
            "outputs": list(outputs), "parameters": parameters,
        }  # fmt: skip
        self.asked: list[dict[str, Tensor]] = []
        self.spoil: Callable[[Handler], bool] = lambda _: False
        super().__init__(self._reply)

    def _reply(self, handler: Handler) -> None:
        if handler.path == "/v2":
            handler.answer({"name": "test", "extensions": ["binary_tensor_data"] if self.binary else []})
        elif handler.path.endswith("/ready"):
            handler.answer({}, 200 if self.ready else 503)
        elif not handler.path.endswith("/infer"):
            handler.answer(self.about)
        elif not self.spoil(handler):
            _, tensors = read_message(handler.body, handler.headers.get(HEADER_LENGTH), "inputs")
            self.asked.append({t.name: t for t in tensors})
            answer = self.answer_of(self.asked[-1])
            head = {"model_name": "m"} | ({} if self.version is None else {"model_version": self.version})
            body, length = write_message(head, "outputs", answer, binary=self.binary)
            handler.answer(body, **({} if length is None else {HEADER_LENGTH: str(length)}))


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., KServe]]:
    """A loaded model of a server (or of several)."""
    monkeypatch.setenv("NO_PROXY", "*")
    made: list[Any] = []

    def make(*servers: Remote, **options: Any) -> KServe:
        made.extend(servers)
        urls = [s.url for s in servers]
        found = KServe("m", Options({"url": urls if len(urls) > 1 else urls[0], **options}))
        made.append(found)
        found.load()
        return found

    yield make
    for thing in reversed(made):
        thing.close()


def ask(model: KServe, *inputs: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = validate("m", model.spec, model.predict(inputs), len(inputs[0])).to_pydict()
    return found


class TestContract(ModelContract):
    service: Remote

    @classmethod
    def setup_class(cls) -> None:
        cls.service = Remote()

    @classmethod
    def teardown_class(cls) -> None:
        super().teardown_class()
        cls.service.close()

    def make(self) -> Model:
        return KServe("m", Options({"url": self.service.url}))

    def inputs(self) -> Sequence[Values]:
        return [pa.array([1.0, None, 3.0])]


# --- schemas --------------------------------------------------------------------------------------------------------


def test_numbers_texts_and_vectors(model: Any) -> None:
    def answer(given: dict[str, Tensor]) -> list[Tensor]:
        n = given["x"].shape[0]
        return [
            Tensor.of_numbers("v", np.arange(3 * n, dtype=np.float32).reshape(n, 3)),
            Tensor("t", "BYTES", (n, 1), [b"<" + v + b">" for v in given["t"].data]),  # type: ignore[operator]
            Tensor.of_numbers("k", np.arange(n, dtype=np.int32).reshape(n, 1)),
        ]

    inputs = [tensor("x", "INT32", -1, 1), tensor("t", "BYTES", -1)]
    outputs = [tensor("v", "FP32", -1, 3), tensor("t", "BYTES", -1, 1), tensor("k", "INT32", -1, 1)]
    for binary in (True, False):
        server = Remote(answer, inputs, outputs, binary=binary)
        m = model(server)
        assert [(i.name, i.form, i.type) for i in m.spec.inputs] == [("x", "value", "INTEGER"), ("t", "any", None)]
        assert [(o.name, o.type) for o in m.spec.outputs] == [("v", "FLOAT[3]"), ("t", "VARCHAR"), ("k", "INTEGER")]
        assert (m.spec.rows, m.spec.max_batch, m.spec.device) == ("one", None, "remote")
        found = ask(m, pa.array([7, 8], pa.int32()), ["a", "grüße"])
        assert found == {"v": [[0, 1, 2], [3, 4, 5]], "t": ["<a>", "<grüße>"], "k": [0, 1]}
        assert (server.asked[0]["x"].shape, server.asked[0]["x"].datatype) == ((2, 1), "INT32")
        asked = json.loads(server.seen[-1][2][: int(server.seen[-1][1].get(HEADER_LENGTH, 0)) or None])
        assert [o["name"] for o in asked["outputs"]] == ["v", "t", "k"]


def test_null_is_not_sent_and_gets_null(model: Any) -> None:
    server = Remote()
    m = model(server)
    assert ask(m, pa.array([None, 1.0, None, 2.0])) == {"y": [None, 2.0, None, 4.0]}
    assert ask(m, pa.array([None, None], pa.float64())) == {"y": [None, None]}
    assert [a["x"].shape for a in server.asked] == [(2,)]


def test_many_rows_of_another_server(model: Any) -> None:
    def answer(given: dict[str, Tensor]) -> list[Tensor]:
        counts = np.asarray(given["x"].data, int)
        rows = np.repeat(np.arange(len(counts)), counts)
        return [Tensor.of_numbers("_row", rows), Tensor.of_numbers("y", rows * 10.0)]

    m = model(Remote(answer, outputs=[tensor("y", "FP64", -1), tensor("_row", "INT64", -1)]))
    assert m.spec.rows == "many"
    assert ask(m, pa.array([2.0, None, 0.0, 1.0])) == {"y": [0.0, 0.0, 20.0], "_row": [0, 0, 3]}
    assert ask(m, pa.array([None], pa.float64())) == {"y": [], "_row": []}


def test_a_model_without_batches(model: Any) -> None:
    for shape, sent in (((1, 2), (1, 2)), ((2,), (2,))):
        server = Remote(
            lambda g: [Tensor.of_numbers("y", np.asarray(g["x"].data).reshape(-1) * 2)],
            [tensor("x", "FP32", *shape)],
            [tensor("y", "FP32", *shape)],
        )
        m = model(server, outputs={"y": "FLOAT[2]"})
        assert (m.spec.batch_size, m.spec.max_batch) == (1, 1)
        assert ask(m, pa.array([[1.0, 2.0]])) == {"y": [[2.0, 4.0]]}
        assert server.asked[0]["x"].shape == sent


def picture(height: int = 6, width: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("datatype", ["UINT8", "FP32"])
def test_pictures_as_numbers(model: Any, last: bool, datatype: str) -> None:
    """Of the size that the server fixes, in its layout; of any size one at a time."""
    for size in ((4, 4), (-1, -1)):
        shape = (-1, *size, 3) if last else (-1, 3, *size)
        server = Remote(
            lambda g: [Tensor.of_numbers("y", np.asarray(g["i"].data, float).mean(axis=(1, 2, 3)))],
            [tensor("i", datatype, *shape)],
        )
        m = model(server, **({} if datatype == "UINT8" or size[0] < 0 else {"scale": 0.5}))
        assert m.spec.inputs[0].form == "image"
        assert m.spec.max_batch == (None if size[0] > 0 else 1)
        pixels = np.full((6, 8, 3), (10, 20, 30), np.uint8)
        expected = 10.0 if datatype == "FP32" and size[0] > 0 else 20.0
        assert ask(m, [pixels]) == {"y": [expected]}
        sent = server.asked[0]["i"]
        height, width = size if size[0] > 0 else (6, 8)
        assert sent.shape == ((1, height, width, 3) if last else (1, 3, height, width))
        assert sent.datatype == datatype


def test_pictures_as_files(model: Any) -> None:
    """PNG for a server that we don't know; in base64 for one that reads JSON alone."""
    for binary in (True, False):
        server = Remote(
            lambda g: [Tensor.of_numbers("y", np.zeros(g["f"].shape[0]))], [tensor("f", "BYTES", -1)], binary=binary
        )
        m = model(server)
        ask(m, [picture()])
        [sent] = server.asked[0]["f"].data
        assert np.array_equal(np.asarray(Image.open(BytesIO(sent if binary else base64.b64decode(sent)))), picture())
        assert server.asked[0]["f"].parameters.get("content_type") == (None if binary else "base64")
        m = model(server, inputs={"f": "encoded"})
        assert m.spec.inputs[0].form == "encoded"


def ours(**more: Any) -> Remote:
    """As our own server describes itself."""
    return Remote(
        lambda g: [Tensor.of_numbers("y", np.zeros(next(iter(g.values())).shape[0]))],
        [tensor("i", "BYTES", -1, aidb_form="image"), tensor("v", "FP64", -1, aidb_form="value")],
        [tensor("y", "FP64", -1, aidb_type="DOUBLE")],
        ["f1"],
        "aidb",
        aidb_rows="one",
        aidb_variadic=True,
        **more,
    )


def test_a_server_of_ours(model: Any) -> None:
    server = ours(aidb_batch_size=5, aidb_seconds_per_item=0.25)
    m = model(server)
    spec = m.spec
    assert (spec.fingerprint, spec.batch_size, spec.seconds_per_item, spec.variadic) == ("f1", 5, 0.25, True)
    ask(m, [picture()], pa.array([None], pa.int32()), ["text"], pa.array([[1.5, 2.5]]))
    sent = server.asked[0]
    assert sent["i"].data[0].startswith(b"P6 8 6 255\n")  # type: ignore[union-attr]
    assert sent["i"].data[0].endswith(picture().tobytes())  # type: ignore[union-attr]
    assert (sent["v"].datatype, sent["v"].parameters, sent["_valid.v"].data.tolist()) == (  # type: ignore[union-attr]
        "INT32", {"aidb_type": "INTEGER"}, [False],
    )  # fmt: skip
    assert sent["_3"].parameters == {"aidb_form": "text"}
    assert json.loads(sent["_4"].data[0]) == [1.5, 2.5]
    m = model(server, send="file")
    assert [i.form for i in m.spec.inputs] == ["encoded", "value"]
    assert m.spec.fingerprint == "f1"
    assert model(server, outputs={"y": "FLOAT"}).spec.fingerprint != "f1"


def test_the_fingerprint_of_another_server(model: Any) -> None:
    def made(server: Remote, **options: Any) -> str:
        return str(model(server, **options).spec.fingerprint)

    server = Remote()
    first = made(server)
    assert first == made(server, batch_size=3, timeout=2, retries=0, concurrency=1, price_per_call=1)
    server.about["versions"] = ["2"]
    others = [first, made(server), made(Remote()), made(server, outputs={"y": "FLOAT"}), made(server, model="n")]
    assert len(set(others)) == len(others)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"inputs": {"z": "text"}}, UnknownName, "unknown input 'z'"),
        ({"outputs": {"z": "INT"}}, UnknownName, "unknown output 'z'"),
        ({"send": "file"}, ProgrammingError, "no input of the model takes pictures"),
        ({"scale": 2}, ProgrammingError, "scale: no input of m takes pictures as numbers"),
        ({"send": "post"}, ProgrammingError, "choose pixels or file"),
        ({"colour": "rgb"}, UnknownName, "did you mean color"),
        ({"url": []}, ProgrammingError, "at least one address"),
        ({"url": ["http://a", "http://u:hunter2@b"]}, ProgrammingError, "must not hold a user or password"),
    ],
)
def test_wrong_options(model: Any, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as e:
        model(Remote(), **options)
    assert "hunter2" not in str(e.value)


@pytest.mark.parametrize(
    "about",
    [
        [],
        {"inputs": [], "outputs": []},
        {"inputs": [{"name": "x"}], "outputs": [tensor("y", "FP64", -1)]},
        {"inputs": [tensor("x", "FP64", -1)], "outputs": [{"datatype": "FP64"}]},
        {"inputs": [tensor("x", "FP64", -1)], "outputs": [tensor("y", "BF16", -1)]},
        {"inputs": [tensor("x", "FP64", -1)], "outputs": [tensor("_hidden", "FP64", -1)]},
        {"inputs": "x", "outputs": "y"},
    ],
)
def test_metadata_of_another_shape(model: Any, about: Any) -> None:
    server = Remote()
    server.about = about
    with pytest.raises((ModelError, ProgrammingError)):
        model(server)


def test_a_server_that_is_not_there_or_still_loads(model: Any) -> None:
    server = Remote()
    replies = iter([503, 503])
    real = server.reply
    server.reply = lambda h: h.answer({}, s, Retry_After="0") if (s := next(replies, 0)) else real(h)
    assert ask(model(server), *NUMBERS) == {"y": [2, 4, 6]}
    server.reply = lambda h: h.answer({"error": "no such model"}, 404)
    with pytest.raises(ModelError, match="answered 404: no such model"):
        model(server)
    server.reply = lambda h: h.answer(b"<html>", 200)
    with pytest.raises(ModelError, match="no description of a model"):
        model(server)
    with pytest.raises(ModelError, match="can't be reached"):
        KServe("m", Options({"url": "http://127.0.0.1:1"}))


# --- when things go wrong -------------------------------------------------------------------------------------------


def failing(status: int, times: int = 10**9, **headers: str) -> Callable[[Handler], bool]:
    left = iter(range(times))

    def spoil(handler: Handler) -> bool:
        if next(left, None) is None:
            return False
        handler.answer({"error": "as it was told"}, status, **headers)
        return True

    return spoil


def test_a_500_is_an_items_fault_until_the_server_says_otherwise(model: Any) -> None:
    server = Remote()
    m = model(server)
    server.spoil = failing(500)
    with pytest.raises(ItemError, match="answered 500: as it was told"):
        m.predict(NUMBERS)
    assert server.paths("/infer") == 1  # the engine splits the batch
    with pytest.raises(ItemError, match="answered 500"):
        m.predict([pa.array([1.0])])
    assert server.paths("/infer") == 3
    server.spoil = failing(500, 1)
    assert ask(m, pa.array([1.0])) == {"y": [2.0]}  # a hiccup


def test_a_poisonous_item_is_found(model: Any) -> None:
    """By halves, and the others are answered."""

    def answer(given: dict[str, Tensor]) -> list[Tensor]:
        return doubled(given)

    server = Remote(answer)

    def spoil(handler: Handler) -> bool:
        _, [x] = read_message(handler.body, handler.headers.get(HEADER_LENGTH), "inputs")
        bad = 13.0 in np.asarray(x.data)
        if bad:
            handler.answer(b"Internal Server Error", 500)
        return bad

    server.spoil = spoil
    with aidb.connect() as con:
        con.execute(f"CREATE MODEL m USING kserve WITH (url = '{server.url}')")
        con.execute("CREATE BLOB TABLE n AS SELECT range::DOUBLE AS x FROM range(32) KEY (x)")
        con.execute("CREATE VIRTUAL TABLE v AS m(n.x)")
        cur = con.execute("SELECT x, y FROM v ORDER BY x")
        assert cur.fetchall() == [(x, 2.0 * x) for x in range(32) if x != 13]
        assert cur.report.failed == 1
    server.close()


@pytest.mark.parametrize(
    ("status", "error", "retry"),
    [(400, ItemError, None), (422, ItemError, None), (413, OutOfMemory, None), (503, ServiceError, True),
     (429, ServiceError, True), (401, ServiceError, False), (404, ServiceError, False), (424, ServiceError, False)],
)  # fmt: skip
def test_other_statuses(model: Any, status: int, error: type[Exception], retry: bool | None) -> None:
    server = Remote()
    m = model(server)
    server.spoil = failing(status, Retry_After="3")
    with pytest.raises(error, match=f"answered {status}: as it was told") as e:
        m.predict(NUMBERS)
    if isinstance(e.value, ServiceError):
        assert e.value.retry == retry
        assert e.value.after == (3.0 if retry else None)


def test_another_version_ends_the_query_and_the_next_one_asks_it(model: Any) -> None:
    """Nothing of the new version is stored as the old one's; what is stored of the old one is stale."""
    server = Remote()
    with aidb.connect() as con:
        con.execute(f"CREATE MODEL m USING kserve WITH (url = '{server.url}', batch_size = 4, concurrency = 1)")
        con.execute("CREATE BLOB TABLE n AS SELECT range::DOUBLE AS x FROM range(12) KEY (x)")
        con.execute("CREATE VIRTUAL TABLE v AS m(n.x)")

        def flip(given: dict[str, Tensor]) -> list[Tensor]:
            if len(server.asked) == 2:
                server.version = "2"
                server.about["versions"] = ["2"]
            return doubled(given) if server.version == "1" else [Tensor.of_numbers("y", -np.asarray(given["x"].data))]

        server.answer_of = flip
        with pytest.raises(ModelError, match=r"another version of the model now \(2, not 1\)"):
            con.execute("SELECT * FROM v")
        assert con.execute("SELECT sum(items) FROM aidb.calls").fetchall() == [(4,)]
        assert con.execute("SELECT x, y FROM v ORDER BY x").fetchall() == [(x, -x) for x in range(12)]
        [calls] = con.execute(
            "SELECT list(items ORDER BY started) FROM aidb.calls GROUP BY fingerprint HAVING sum(items) = 12"
        ).fetchall()
        assert calls == ([4, 4, 4],)
    server.close()


def test_a_new_connection_notices_another_version(tmp_path: Any) -> None:
    server = Remote()
    for version, factor in (("1", 2.0), ("2", -1.0)):
        server.version, server.about["versions"] = version, [version]
        server.answer_of = lambda g, f=factor: [Tensor.of_numbers("y", f * np.asarray(g["x"].data))]  # type: ignore[misc]
        with aidb.connect(tmp_path / "kept.aidb") as con:
            if version == "1":
                con.execute(f"CREATE MODEL m USING kserve WITH (url = '{server.url}')")
                con.execute("CREATE BLOB TABLE n AS SELECT range::DOUBLE AS x FROM range(3) KEY (x)")
                con.execute("CREATE VIRTUAL TABLE v AS m(n.x)")
            assert con.execute("SELECT y FROM v ORDER BY x").fetchall() == [(factor * x,) for x in range(3)]
    server.close()
    with aidb.connect(tmp_path / "kept.aidb") as con:  # what is stored needs no server
        assert con.execute("SELECT y FROM v ORDER BY x").fetchall() == [(-x,) for x in range(3)]


BAD_REPLIES: list[tuple[bytes, str]] = [
    (b"<html>", "not JSON"),
    (b"{}", 'a list "outputs"'),
    (b'{"outputs": []}', "no tensor 'y'"),
    (b'{"outputs": [{"name":"y","datatype":"FP64","shape":[2],"data":[1,2]}]}', "3 rows were expected"),
    (b'{"outputs": [{"name":"y","datatype":"BYTES","shape":[3],"data":["a","b","c"]}]}', "can't be read as DOUBLE"),
    (
        b'{"outputs": [{"name":"y","datatype":"FP64","shape":[3],"parameters":{"binary_data_size":24}}]}',
        "0 bytes are left",
    ),
]


@pytest.mark.parametrize(("body", "message"), BAD_REPLIES)
def test_replies_of_another_shape_end_the_query(model: Any, body: bytes, message: str) -> None:
    server = Remote()
    m = model(server)
    server.spoil = lambda h: h.answer(body) is None
    with pytest.raises(ServiceError, match="answered in another shape") as e:
        m.predict(NUMBERS)
    assert message in str(e.value)
    assert not e.value.retry


# --- replicas and flow ----------------------------------------------------------------------------------------------


def test_replicas_share_the_work_and_stand_in_for_each_other(model: Any) -> None:
    servers = [Remote(), Remote()]
    m = model(*servers)
    for _ in range(8):
        ask(m, *NUMBERS)
    assert [s.paths("/infer") for s in servers] == [4, 4]
    servers[0].spoil = failing(503)
    for _ in range(4):
        assert ask(m, *NUMBERS) == {"y": [2, 4, 6]}
    assert servers[0].paths("/infer") <= 5 + 1  # once it said that it can't, it is left alone
    servers[1].spoil = failing(503)
    with pytest.raises(ServiceError, match="answered 503"):
        m.predict(NUMBERS)
    servers[0].spoil = lambda _: False
    assert ask(m, *NUMBERS) == {"y": [2, 4, 6]}


def test_replicas_must_be_alike(model: Any) -> None:
    with pytest.raises(ModelError, match=r"has the version \['1'\] and .* \['2'\]; replicas must be alike"):
        model(Remote(), Remote(versions=["2"]))


def test_one_replica_is_enough_to_begin(model: Any) -> None:
    gone, there = Remote(), Remote()
    gone.close()
    with_one = KServe("m", Options({"url": [gone.url, there.url]}))
    with_one.load()
    assert ask(with_one, *NUMBERS) == {"y": [2, 4, 6]}
    with_one.close()
    there.close()


def test_malformed_is_a_value_error() -> None:
    assert issubclass(Malformed, ValueError)
