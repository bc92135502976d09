"""`aidb.model`: what it accepts, what it makes of it, and when its fingerprint changes."""

from __future__ import annotations

import collections
import functools
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from aidb.code_digest import digest
from aidb.errors import InterfaceError, ModelError, ProgrammingError
from aidb.exec.validate import validate
from aidb.functions import model
from aidb.spi import Input, Model, Output, Values
from aidb.testing import ModelContract

ROOT = Path(__file__).resolve().parents[1]
LABEL = {"label": "BOOLEAN"}


@model(outputs={"half": "DOUBLE"}, version="1", batch_size=7, price_per_call=0.25)
def half(x: pa.Array) -> dict[str, Any]:
    """Half of each."""
    return {"half": [v / 2 for v in x.to_pylist()]}


@model(outputs={"word": "VARCHAR"}, rows="many")
def words(text: list[str]) -> dict[str, Any]:
    found = [(i, w) for i, t in enumerate(text) for w in t.split()]
    return {"_row": [i for i, _ in found], "word": [w for _, w in found]}


class TestHalf(ModelContract):
    def make(self) -> Model:
        return half

    def inputs(self) -> Sequence[Values]:
        return [pa.array([1, 2, 3])]


class TestWords(ModelContract):
    def make(self) -> Model:
        return words

    def inputs(self) -> Sequence[Values]:
        return [["a b", "", "c"]]


def test_a_function_stays_a_function() -> None:
    assert half(pa.array([4])) == {"half": [2.0]}
    assert (half.name, half.__name__, half.__doc__) == ("half", "half", "Half of each.")
    assert repr(half) == "<model half(x) -> half DOUBLE>"


def test_the_spec_says_what_was_declared() -> None:
    spec = half.spec
    assert spec is half.spec
    assert (spec.inputs, spec.outputs, spec.rows) == ((Input("x"),), (Output("half", "DOUBLE"),), "one")
    assert (spec.batch_size, spec.price_per_call, spec.variadic, spec.device) == (7, 0.25, False, "cpu")


def test_inputs_by_parameter_by_list_and_by_dict() -> None:
    def f(a: Any, b: Any, threshold: float = 0.5) -> Any: ...

    def names(inputs: Any) -> tuple[Input, ...]:
        return model(inputs, LABEL)(f).spec.inputs

    assert names(None) == (Input("a"), Input("b"))
    assert names(["x", "y"]) == (Input("x"), Input("y"))
    assert names(["x", "y", "threshold"]) == (Input("x"), Input("y"), Input("threshold"))
    assert names({"pic": "IMAGE", "n": "DECIMAL(9, 2)"}) == (
        Input("pic", "image"),
        Input("n", "value", "DECIMAL(9, 2)"),
    )


def test_any_number_of_inputs() -> None:
    @model(outputs={"n": "BIGINT"}, version="1")
    def count(first: Any, *more: Any) -> Any:
        return [1 + len(more)] * len(first)

    assert (count.spec.inputs, count.spec.variadic) == ((Input("first"),), True)
    assert count.predict([pa.array([1])] * 3) == {"n": [3]}
    assert model(["x", "y", "z"], {"n": "BIGINT"})(count._target).spec.inputs == (Input("x"), Input("y"), Input("z"))


@pytest.mark.parametrize(
    "answer",
    [
        [True], (True,), np.array([True]), pa.array([True]), {"label": [True]}, pa.table({"label": [True]}),
        pa.RecordBatch.from_pydict({"label": [True]}),
    ],
    ids=lambda a: type(a).__name__,
)  # fmt: skip
def test_answers_of_many_kinds(answer: Any) -> None:
    made = model(outputs=LABEL, version="1")(lambda x: answer)
    assert validate("m", made.spec, made.predict([pa.array([1])]), 1).to_pydict() == {"label": [True]}


@pytest.mark.parametrize("answer", [None, True, "yes", [True, False]])
def test_answers_that_the_engine_refuses(answer: Any) -> None:
    made = model(outputs=LABEL, version="1")(lambda x: answer)
    with pytest.raises(ModelError, match="model m: "):
        validate("m", made.spec, made.predict([pa.array([1])]), 1)


def test_a_bare_answer_needs_a_single_output() -> None:
    two = model(outputs={"a": "INTEGER", "b": "INTEGER"}, version="1")(lambda x: [1])
    with pytest.raises(ModelError, match="the answer is a list"):
        validate("two", two.spec, two.predict([pa.array([1])]), 1)


class Scaler:
    made = closed = 0

    def __init__(self, factor: int = 3) -> None:
        type(self).made += 1
        self.factor = factor

    def __call__(self, x: pa.Array) -> list[int]:
        return [v * self.factor for v in x.to_pylist()]

    def close(self) -> None:
        type(self).closed += 1


def test_a_class_is_made_when_it_is_loaded() -> None:
    Scaler.made = Scaler.closed = 0
    scaler = model(outputs={"y": "BIGINT"}, version="1")(Scaler)
    assert scaler.spec.inputs == (Input("x"),)
    assert Scaler.made == 0
    with pytest.raises(InterfaceError, match="was not loaded"):
        scaler.predict([pa.array([1])])
    scaler.load()
    scaler.load()
    assert scaler.predict([pa.array([1, 2])]) == {"y": [3, 6]}
    scaler.close()
    scaler.close()
    assert (Scaler.made, Scaler.closed) == (1, 1)
    assert scaler(5)(pa.array([1])) == [5]


def test_a_sequential_function_hears_of_new_files() -> None:
    def track(image: Any, *, restart: bool) -> Any:
        return [restart] * len(image)

    tracker = model(outputs=LABEL, sequential=True, version="1")(track)
    assert tracker.spec.inputs == (Input("image"),)
    assert tracker.predict([["a"]], restart=True) == {"label": [True]}
    assert tracker.predict([["a"]]) == {"label": [False]}


def needs_argument(*, model: str) -> None: ...


class NoCall:
    pass


class NeedsWeights:
    def __init__(self, weights: str) -> None: ...

    def __call__(self, x: Any) -> None: ...


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda: model(half), "with parentheses"),
        (lambda: model(), "must declare its outputs"),
        (lambda: model(outputs=["label"]), "must declare its outputs"),
        (lambda: model(outputs=LABEL, rows="two"), 'rows must be "one" or "many"'),
        (lambda: model(outputs=LABEL, batch_size=0), "batch_size must be a whole number"),
        (lambda: model(outputs=LABEL, concurrency=2.5), "concurrency must be a whole number"),
        (lambda: model(outputs=LABEL, price_per_call=-1), "price_per_call must not be negative"),
        (lambda: model(outputs=LABEL, sequential=True, concurrency=2), "keeps state"),
        (lambda: model(outputs=LABEL)(3), "not a int"),
        (lambda: model(outputs=LABEL)(lambda: 1), "has no inputs"),
        (lambda: model("ab", LABEL)(lambda a, b: 1), "must be a list of names"),
        (lambda: model(["a"], LABEL)(lambda a, b: 1), "inputs are a, but the function takes a, b"),
        (lambda: model(["a", "b"], LABEL)(lambda a: 1), "inputs are a, b, but the function takes a"),
        (lambda: model(["a", "A"], LABEL)(lambda a, b: 1), "two inputs are called 'a'"),
        (lambda: model(["a"], LABEL)(needs_argument), "model after [*] would get nothing"),
        (lambda: model({"a": "picture"}, LABEL)(lambda a: 1).spec, "neither a form"),
        (lambda: model(outputs={"x": "FLAOT"})(lambda a: 1).spec, "output 'x': 'FLAOT' is not a DuckDB type"),
        (lambda: model(outputs={"x": "INT", "X": "INT"})(lambda a: 1).spec, "two outputs are called"),
        (lambda: model(outputs={"_row": "INT"})(lambda a: 1).spec, "begins with an underscore"),
        (lambda: model(outputs=LABEL)(NoCall), "needs a method __call__"),
        (lambda: model(outputs=LABEL)(NeedsWeights), "weights must have a default"),
    ],
)
def test_wrong_declarations(declare: Callable[[], Any], message: str) -> None:
    with pytest.raises(ProgrammingError, match=message):
        declare()


# --- fingerprints ---------------------------------------------------------------------------------------------------


def compiled(source: str, **names: Any) -> Callable[..., Any]:
    """The function `f` of a module of this source, as if it stood in a file of the user's own."""
    space: dict[str, Any] = {"__name__": "mine", **names}
    exec(compile(textwrap.dedent(source), "mine.py", "exec"), space)
    return space["f"]  # type: ignore[no-any-return]


def same(a: str, b: str) -> bool:
    return digest(compiled(a)) == digest(compiled(b))


PLAIN = "def f(x): return [v > 3 for v in x]"


@pytest.mark.parametrize(
    ("source", "equal"),
    [
        ("\n\n# a comment\ndef f(x):\n    return [v>3 for v in x]  # moved", True),
        ("def f(x): return [v > 4 for v in x]", False),
        ("def f(x): return [v >= 3 for v in x]", False),
        ("def f(x): return [v > 3.0 for v in x]", False),
        ("def f(x): return [w.y > 3 for w in x]", False),
        ("def f(x, t=3): return [v > 3 for v in x]", False),
    ],
)
def test_code_counts_and_its_looks_do_not(source: str, equal: bool) -> None:
    assert same(PLAIN, source) is equal


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("T = 3\ndef f(x): return x > T", "T = 4\ndef f(x): return x > T"),
        ("def f(x, t=3): return x > t", "def f(x, t=4): return x > t"),
        ("def f(x, *, t=3): return x > t", "def f(x, *, t=4): return x > t"),
        ("T = [1, {'a': 2}]\ndef f(x): return T", "T = [1, {'a': 3}]\ndef f(x): return T"),
        ("def g(x): return x\ndef f(x): return g(x)", "def g(x): return -x\ndef f(x): return g(x)"),
        ("def f(x): return g(x)\ndef g(x): return x", "def f(x): return g(x)\ndef g(x): return -x"),
        ("def f(x): return [g(v) for v in x]\ng = lambda x: x", "def f(x): return [g(v) for v in x]\ng = lambda x: -x"),
        ("def o(t):\n def i(x): return x > t\n return i\nf = o(3)", "def o(t):\n def i(x): return x > t\n return i\nf = o(4)"),
        ("class f:\n def __call__(self, x): return 1", "class f:\n def __call__(self, x): return 2"),
        ("class f:\n t = 1\n def __call__(self, x): return self.t", "class f:\n t = 2\n def __call__(self, x): return self.t"),
        ("import re\nP = re.compile('a')\ndef f(x): return P", "import re\nP = re.compile('b')\ndef f(x): return P"),
        ("from math import sin as g\ndef f(x): return g(x)", "from math import cos as g\ndef f(x): return g(x)"),
        ("import numpy as np\nW = np.ones(3)\ndef f(x): return W", "import numpy as np\nW = np.zeros(3)\ndef f(x): return W"),
        ("def f(x): return x in {'a', 'b'}", "def f(x): return x in {'a', 'c'}"),
        ("from functools import partial as p\ndef g(x, t): return t\nf = p(g, t=1)",
         "from functools import partial as p\ndef g(x, t): return t\nf = p(g, t=2)"),
    ],
)  # fmt: skip
def test_what_the_code_reads_counts(a: str, b: str) -> None:
    assert same(a, a)
    assert not same(a, b)


@pytest.mark.parametrize(
    "source",
    [
        "S = {s}\ndef f(x):\n    S.append(len(x))\n    return x",
        "S = {{0: {s}}}\ndef f(x):\n    S[len(x)] = S.get(0)\n    return x",
        "S = {{'n': {s}}}\ndef f(x):\n    S['n'] += len(x)\n    return x",
        "S = {s}\ndef f(x):\n    global S\n    S = x\n    return x",
        "def o(s):\n    def i(x):\n        nonlocal s\n        s = x\n        return x\n    return i\nf = o({s})",
        "def o(s):\n    def i(x):\n        [s.append(v) for v in x]\n        return x\n    return i\nf = o({s})",
        "S = {s}\ndef f(x):\n    def g():\n        S.extend(x)\n    return x",
    ],
)
def test_what_the_code_changes_is_state(source: str) -> None:
    assert same(source.format(s="[]"), source.format(s="[1]"))


def test_running_a_function_does_not_change_its_fingerprint() -> None:
    seen: collections.Counter[str] = collections.Counter()

    def f(x: int) -> int:
        seen["calls"] += 1
        return x + 1

    before = digest(f)
    for i in range(200):  # enough for the interpreter to specialise the bytecode
        f(i)
    assert digest(f) == before


def test_recursion_and_objects_of_unknown_kind() -> None:
    source = "def f(x): return g(x)\ndef g(x): return f(x - 1) if x else lock"
    assert digest(compiled(source, lock=object())) == digest(compiled(source, lock=object()))
    cached = functools.lru_cache(compiled(PLAIN))
    assert digest(cached) == digest(functools.lru_cache(compiled(PLAIN)))
    assert digest(cached) != digest(functools.lru_cache(compiled(PLAIN.replace("3", "4"))))


def test_a_version_stands_for_the_code() -> None:
    def made(source: str, **more: Any) -> str:
        return model(outputs=LABEL, **more)(compiled(source)).spec.fingerprint

    other = PLAIN.replace("3", "4")
    assert made(PLAIN, version="1") == made(other, version="1")
    assert made(PLAIN, version="1") != made(PLAIN, version="2")
    assert made(PLAIN, version="1") != made(PLAIN, version="1", name="g")
    assert made(PLAIN) != made(other)
    assert made(PLAIN) == made(PLAIN, batch_size=3, device="cuda:0", price_per_call=1.0, retries=2)
    assert made(PLAIN) != model(outputs={"label": "INTEGER"})(compiled(PLAIN)).spec.fingerprint
    assert made(PLAIN) != made(PLAIN, rows="many")


def test_fingerprints_are_the_same_in_every_process() -> None:
    program = (
        "from aidb.functions import model\n"
        "WORDS = {'a', 'b', 'c', 'd'}\n"
        "@model(outputs={'y': 'BOOLEAN'})\n"
        "def f(x): return [v in WORDS or v in {'p', 'q', 'r'} for v in x]\n"
        "print(f.spec.fingerprint)\n"
    )
    prints = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(prints) == 1


def test_the_decorator_loads_nothing_heavy() -> None:
    program = "import sys, aidb.functions\nprint(*{'numpy', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"numpy", "pyarrow"} & set(done.stdout.split())
