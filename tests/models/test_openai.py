"""The provider openai against a server that speaks its protocol, and says what it was asked."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from aidb_models.chat import user_message
from aidb_models.json_schema import schema_of
from aidb_models.openai import OpenAI
from PIL import Image

import aidb
from aidb.errors import ModelError, ProgrammingError, UnknownName
from aidb.exec.validate import validate
from aidb.spi import Input, ItemError, Model, Options, Output, ServiceError, Values
from aidb.testing import ModelContract
from tests.models.service import Handler, Service

CHAT: dict[str, Any] = {"model": "llama", "outputs": {"label": "VARCHAR", "score": "DOUBLE"}}


def says(content: Any, **more: Any) -> Callable[[Handler], None]:
    """A chat model that always says this."""
    text = content if isinstance(content, str) or content is None else json.dumps(content)
    choice = {"message": {"role": "assistant", "content": text, **more.pop("message", {})}, "finish_reason": "stop"}
    return lambda handler: handler.answer({"choices": [choice | more]})


def echo(handler: Handler) -> None:
    """A chat model that says what it was told, and half of it if that is a number."""
    text = handler.json["messages"][-1]["content"]
    score = float(text) / 2 if text.replace(".", "").isdigit() else None
    says({"label": text, "score": score})(handler)


def embed(handler: Handler) -> None:
    """Vectors of length and first letter, in the opposite order."""
    data = [
        {"index": i, "embedding": [float(len(t)), float(ord(t[0])) if t else 0.0, 0.5]}
        for i, t in enumerate(handler.json["input"])
    ]
    handler.answer({"data": data[::-1]})


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[Service, OpenAI]]]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("TEST_TOKEN", "s3cret")
    started: list[Any] = []

    def start(reply: Callable[[Handler], None], **options: Any) -> tuple[Service, OpenAI]:
        service = Service(reply, "/v1")
        started.append(service)
        model = OpenAI("m", Options({"url": service.url, **({"model": "llama"} | options)}))
        started.append(model)
        model.load()
        return service, model

    yield start
    for thing in reversed(started):
        thing.close()


def ask(model: OpenAI, *inputs: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = validate("m", model.spec, model.predict(inputs), len(inputs[0])).to_pydict()
    return found


class TestChat(ModelContract):
    service: Service

    @classmethod
    def setup_class(cls) -> None:
        cls.service = Service(echo, "/v1")

    @classmethod
    def teardown_class(cls) -> None:
        super().teardown_class()
        cls.service.close()

    def make(self) -> Model:
        return OpenAI("m", Options({"url": self.service.url, **CHAT}))

    def inputs(self) -> Sequence[Values]:
        return [pa.array(["one", None, "3"])]


class TestEmbed(ModelContract):
    service: Service

    @classmethod
    def setup_class(cls) -> None:
        cls.service = Service(embed, "/v1")

    @classmethod
    def teardown_class(cls) -> None:
        super().teardown_class()
        cls.service.close()

    def make(self) -> Model:
        return OpenAI("m", Options({"url": self.service.url, "model": "bge", "task": "embed", "dimensions": 3}))

    def inputs(self) -> Sequence[Values]:
        return [["one", "", "three"]]


# --- chat -----------------------------------------------------------------------------------------------------------


def test_a_question_as_it_is_sent(serve: Any) -> None:
    service, model = serve(
        says({"label": "owl", "score": 0.5}),
        **CHAT, prompt="What is {thing}? Not {this}.", system="Be brief.", inputs=["thing", "colour"], seed=7,
        max_tokens=50, extra={"top_p": 0.5}, token_env="TEST_TOKEN",
    )  # fmt: skip
    assert ask(model, pa.array(["an {colour} bird"]), pa.array([3.5])) == {"label": ["owl"], "score": [0.5]}
    [(path, headers, body)] = service.seen
    asked = json.loads(body)
    assert (path, headers["Authorization"]) == ("/v1/chat/completions", "Bearer s3cret")
    assert asked.pop("response_format")["json_schema"]["schema"] == schema_of(model.spec.outputs, False)
    assert asked == {
        "model": "llama", "top_p": 0.5, "temperature": 0.0, "max_tokens": 50, "seed": 7,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "What is an {colour} bird? Not {this}.\n\ncolour: 3.5"},
        ],
    }  # fmt: skip


def test_pictures(serve: Any) -> None:
    """A file as it is, if a browser would show it; anything else as PNG."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    files = {}
    for form in ("JPEG", "PNG", "BMP"):
        file = BytesIO()
        Image.fromarray(pixels).save(file, format=form)
        files[form] = file.getvalue()
    service, model = serve(says("an owl"), inputs={"image": "image"}, prompt="What is it?")
    assert model.spec.inputs == (Input("image", "encoded"),)
    for given in (*files.values(), pixels):
        assert ask(model, [given]) == {"output": ["an owl"]}
    parts = [json.loads(body)["messages"][0]["content"] for _, _, body in service.seen]
    assert all(p[0] == {"type": "text", "text": "What is it?"} for p in parts)
    urls = [p[1]["image_url"]["url"].partition(";base64,") for p in parts]
    assert [u[0] for u in urls] == ["data:image/jpeg", "data:image/png", "data:image/png", "data:image/png"]
    assert base64.b64decode(urls[0][2]) == files["JPEG"]
    for _, _, data in urls[1:]:
        assert np.array_equal(np.asarray(Image.open(BytesIO(base64.b64decode(data)))), pixels)
    with pytest.raises(ItemError, match="can't be sent"):
        model.predict([[b"no picture"]])


def test_many_rows(serve: Any) -> None:
    _, model = serve(says({"rows": [{"label": "a", "score": 1}, {"label": "b", "score": None}]}), **CHAT, rows="many")
    assert ask(model, pa.array(["x", None])) == {"label": ["a", "b"], "score": [1.0, None], "_row": [0, 0]}
    _, model = serve(says({"rows": []}), **CHAT, rows="many")
    assert ask(model, pa.array(["x"])) == {"label": [], "score": [], "_row": []}


@pytest.mark.parametrize("mode", ["object", "prompt"])
def test_services_without_schemas(serve: Any, mode: str) -> None:
    service, model = serve(says('```json\n{"label": "a", "score": 1}\n```\n'), **CHAT, schema=mode)
    assert ask(model, pa.array(["x"])) == {"label": ["a"], "score": [1.0]}
    asked = json.loads(service.seen[0][2])
    assert asked.get("response_format") == ({"type": "json_object"} if mode == "object" else None)
    assert json.dumps(schema_of(model.spec.outputs, False)) in asked["messages"][0]["content"]


def test_null_costs_nothing(serve: Any) -> None:
    service, model = serve(echo, **CHAT)
    assert ask(model, pa.array([None, None], pa.string())) == {"label": [None, None], "score": [None, None]}
    assert service.seen == []


BAD_ANSWERS: list[tuple[Callable[[Handler], None], str]] = [
    (says("no JSON"), "is not JSON: 'no JSON'"),
    (says([1]), "is no object"),
    (says({"label": "x"}), "has no 'score'"),
    (says(None, message={"refusal": "I can't do that"}), "refuses: I can't do that"),
    (says("{", finish_reason="length"), "cut off"),
    (says("", finish_reason="content_filter"), "content filter"),
    (says(None), "gave no answer"),
    (lambda h: h.answer({"error": {"message": "bad picture"}}, 400), "answered 400: bad picture"),
]


@pytest.mark.parametrize(("reply", "message"), BAD_ANSWERS)
def test_an_answer_that_is_none_is_its_items_fault(serve: Any, reply: Any, message: str) -> None:
    _, model = serve(reply, **CHAT)
    with pytest.raises(ItemError, match=message):
        model.predict([pa.array(["x"])])


@pytest.mark.parametrize(
    ("reply", "retry", "message"),
    [
        (lambda h: h.answer({"choices": []}), False, "another shape"),
        (lambda h: h.answer(b"<html>"), False, "another shape"),
        (
            lambda h: h.answer({"error": {"message": "slow down"}}, 429, Retry_After="2"),
            True,
            "answered 429: slow down",
        ),
        (
            lambda h: h.answer({"error": {"message": "pay", "code": "insufficient_quota"}}, 429),
            False,
            "answered 429: pay",
        ),
        (lambda h: h.answer({"error": "no such model"}, 404), False, "answered 404: no such model"),
        (
            lambda h: h.answer({"error": {"message": "key s3cret"}}, 401),
            False,
            r"key \*\*\* \(sent with the token in TEST",
        ),
        (lambda h: h.answer(b"", 502), True, "answered 502"),
    ],
)
def test_a_service_that_does_not_serve(serve: Any, reply: Any, retry: bool, message: str) -> None:
    _, model = serve(reply, **CHAT, token_env="TEST_TOKEN")
    with pytest.raises(ServiceError, match=message) as e:
        model.predict([pa.array(["x"])])
    assert e.value.retry == retry
    assert "s3cret" not in str(e.value)


def test_a_query_over_many_items_at_a_time(serve: Any) -> None:
    """One item a request, several requests at once; 429 slows down and loses nothing."""
    busy = iter([True, True, True])

    def sometimes(handler: Handler) -> None:
        if next(busy, False):
            handler.answer({"error": {"message": "slow down"}}, 429, Retry_After="0")
        else:
            echo(handler)

    service, _ = serve(sometimes)
    with aidb.connect() as con:
        con.execute(
            f"CREATE MODEL ask USING openai WITH (url = '{service.url}', model = 'llama', backoff = 0.01, "
            "concurrency = 4, outputs = {'label': 'VARCHAR', 'score': 'DOUBLE'}, inputs = 'x')"
        )
        con.execute("CREATE BLOB TABLE n AS SELECT range AS x FROM range(20) KEY (x)")
        con.execute("CREATE VIRTUAL TABLE v AS ask(n.x)")
        assert con.execute("SELECT x, score FROM v ORDER BY x").fetchall() == [(x, x / 2) for x in range(20)]
        assert not con.execute("SELECT * FROM aidb.errors").fetchall()
    assert len(service.seen) == 23
    assert service.most <= 4


# --- embeddings -----------------------------------------------------------------------------------------------------


def test_texts_become_vectors(serve: Any) -> None:
    service, model = serve(embed, task="embed", batch_size=8)
    assert model.spec.outputs == (Output("embedding", "FLOAT[3]"),)
    assert (model.spec.batch_size, model.spec.max_batch) == (8, None)
    assert ask(model, ["ab", "c"]) == {"embedding": [[2, 97, 0.5], [1, 99, 0.5]]}
    assert ask(model, pa.array(["ab", None])) == {"embedding": [[2, 97, 0.5], None]}
    bodies = [json.loads(body) for _, _, body in service.seen]
    assert [b["input"] for b in bodies] == [["dimensions"], ["ab", "c"], ["ab"]]
    assert "dimensions" not in bodies[0]
    assert {path for path, _, _ in service.seen} == {"/v1/embeddings"}


def test_vectors_that_do_not_fit(serve: Any) -> None:
    good = {"index": 0, "embedding": [1.0, 2.0, 3.0]}
    for data in ([{**good, "embedding": [1.0, 2.0]}], [], [{**good, "index": 1}], [good, good], None):
        _, model = serve(lambda h, d=data: h.answer({"data": d}), task="embed", dimensions=3)
        with pytest.raises(ServiceError, match="another shape"):
            model.predict([["x"]])
    with pytest.raises(ModelError, match="dimensions spares this request"):
        serve(lambda h: h.answer({"error": "gone"}, 404), task="embed")


# --- options --------------------------------------------------------------------------------------------------------


def test_schemas_of_types() -> None:
    outputs = [
        Output("kind", "ENUM('owl', 'o''clock')"), Output("n", "INTEGER"), Output("tags", "VARCHAR[]"),
        Output("box", "STRUCT(x DOUBLE, ok BOOLEAN)"), Output("day", "DATE"),
    ]  # fmt: skip
    found = schema_of(outputs, True)
    row = found["properties"]["rows"]["items"]
    assert row["required"] == ["kind", "n", "tags", "box", "day"]
    assert row["additionalProperties"] is False
    assert row["properties"]["kind"] == {"type": ["string", "null"], "enum": ["owl", "o'clock", None]}
    assert row["properties"]["tags"] == {"type": ["array", "null"], "items": {"type": "string"}}
    assert row["properties"]["box"]["properties"] == {"x": {"type": "number"}, "ok": {"type": "boolean"}}
    with pytest.raises(ProgrammingError, match="output 'b' of the type BLOB"):
        schema_of([Output("b", "BLOB")], False)


def test_prompts() -> None:
    assert user_message("", {"x": "alone"}) == "alone"
    assert user_message("Sort:", {"x": "alone"}) == "Sort:\n\nalone"
    assert user_message("{a} or {b}?", {"a": "{b}", "b": 2}) == "{b} or 2?"
    assert user_message("{a}", {"a": [1, None, "ü"]}) == '[1, null, "ü"]'


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"model": None}, ProgrammingError, "option 'model'"),
        ({"task": "draw"}, ProgrammingError, "choose chat or embed"),
        ({"dimensions": 3}, ProgrammingError, "belongs to task = 'embed'"),
        ({"task": "embed", "prompt": "x"}, ProgrammingError, "belongs to task = 'chat'"),
        ({"extra": {"stream": True}}, ProgrammingError, "stream is set otherwise"),
        ({"outputs": {"b": "BLOB"}}, ProgrammingError, "can't answer with this type"),
        ({"temprature": 1}, UnknownName, "did you mean temperature"),
        ({"headers": {"Authorization": "Bearer hunter2"}}, ProgrammingError, "use token_env"),
    ],
)
def test_wrong_options(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as e:
        OpenAI("m", Options({"url": "http://x/v1", "model": "llama", **options}))
    assert "hunter2" not in str(e.value)


def test_the_fingerprint_follows_what_matters() -> None:
    def made(**options: Any) -> str:
        return OpenAI("m", Options({"url": "http://x/v1", "model": "llama", **options})).spec.fingerprint

    assert made() == made(concurrency=2, timeout=3, retries=0, token_env="A", price_per_call=1)
    others = [
        made(), made(model="other"), made(prompt="p"), made(system="s"), made(temperature=1), made(seed=1),
        made(rows="many"), made(outputs={"y": "INT"}), made(inputs="x"), made(extra={"top_p": 0.1}), made(version="2"),
        made(schema="prompt"), made(url="http://y/v1"), made(task="embed", dimensions=3),
    ]  # fmt: skip
    assert len(set(others)) == len(others)
