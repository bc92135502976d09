"""The reference and the code agree: what is in one is in the other, with names, types and defaults."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import aidb
import aidb.stats
from aidb import errors
from aidb.catalog import discover
from aidb.connection import Connection, connect
from aidb.cursor import Cursor
from aidb.errors import NotSupportedError, UnknownName
from aidb.exec.proxies.declaring import _OPTIONS as INDEX_OPTIONS
from aidb.exec.settings import _READERS, Settings
from aidb.handles import Handle
from aidb.report import Report
from aidb.spi import Options, Scan
from aidb.sql import clauses, definitions, statements
from aidb.sql.parse import parse, split
from aidb.surfaces import commands, config
from aidb.surfaces.formats import FORMATS
from aidb.surfaces.jupyter import order
from aidb.surfaces.shell import _parser
from tests.docs.reading import codes, listed, page, rows, sections

# --- statements -------------------------------------------------------------------------------------------------------

STATEMENTS = sections(page("statements").text)


def first_statement(section: str) -> Any:
    [sql] = re.findall(r"^```sql\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return [parse(text) for text, _ in split(sql)]


def test_each_statement_has_a_section_whose_examples_are_of_its_kind() -> None:
    found = {}
    for heading, section in STATEMENTS.items():
        if heading != "Not yet":
            kinds = {type(s) for s in first_statement(section)}
            assert len(kinds) == 1, heading
            found[heading] = kinds.pop()
    known = set(typing.get_args(statements.Statement)) - {statements.Native}
    assert set(found.values()) == known
    assert sorted(h for h, kind in found.items() if kind is statements.Query) == ["EXPLAIN", "Queries"]
    assert len(found) == len(known) + 1


@pytest.mark.parametrize(("heading", "class_"), [("DROP", statements.Drop), ("REFRESH", statements.Refresh)])
def test_each_kind_of_thing_is_named(heading: str, class_: type) -> None:
    kinds = typing.get_args(typing.get_type_hints(class_)["kind"])
    syntax = STATEMENTS[heading].partition("```sql")[0]
    syntax = re.findall(
        rf"^{heading} (BLOB TABLE|MODEL|VIRTUAL TABLE|PROXY|SEMANTIC INDEX|STALE)", syntax, re.MULTILINE
    )
    assert sorted(syntax) == sorted(kind.upper() for kind in kinds)


def test_each_list_is_named() -> None:
    shown = re.search(r"SHOW \{ (.*) \}", STATEMENTS["SHOW"])
    assert shown is not None
    assert set(shown[1].split(" | ")) == {" ".join(words) for words in definitions._LISTS}


def test_what_comes_later_is_named_and_refused() -> None:
    text = " ".join(STATEMENTS["Not yet"].split())
    named = set(re.findall(r"[A-Z][A-Z ]+[A-Z]", text.partition("so:")[2]))
    known = {f"CREATE {kind}" for kind in definitions._LATER.values()}
    known |= {"SHOW " + " ".join(words) for words in definitions._LATER_LISTS}
    known |= {"VALIDATE", "COLLECT LABELS", "SET LABEL POLICY"}
    assert named - {"FCOUNT"} == known
    for form in sorted(known):
        with pytest.raises(NotSupportedError):
            parse(f"{form} x")


def test_options_of_an_index_and_their_defaults() -> None:
    described = {
        codes(row["option"])[0]: codes(row["default"])[0] for row in rows(STATEMENTS["CREATE SEMANTIC INDEX"], "option")
    }
    assert described == {name: repr(value) for name, value in INDEX_OPTIONS.items()}


# --- clauses ----------------------------------------------------------------------------------------------------------


def test_each_spelling_of_a_clause_is_described_and_read() -> None:
    spellings = []
    for row in rows(page("clauses").text, "clause"):
        first, *others = codes(row["clause"]) + codes(row["also written"])
        meant = understood(first)
        if row["clause"].startswith(("`ERROR", "`RECALL T", "`PREC", "`EXPECTED", "`WITH P")):
            assert [understood(other) for other in others] == [meant] * len(others), row
        spellings += [first, *others]
    words = {" ".join(re.findall(r"[A-Z_]+", s.partition("`")[0])) for s in spellings}
    for forms in clauses._NUMERIC.values():
        for form in forms:
            assert any(w.startswith(" ".join(form.words)) for w in words), f"{form.words} is not described"
    for opener in ("USING", "BY", "ORACLE", "METHOD", "REPEATABLE", "VERIFIED", "UNVERIFIED"):
        assert any(w.startswith(opener) for w in words), opener


def understood(clause: str) -> statements.Guarantee:
    """What a clause means, in a query that it fits."""
    if clause in ("VERIFIED", "UNVERIFIED"):
        clause = f"RECALL 90% {clause}"
    error = "ERROR" in clause
    query = f"SELECT {'count(*)' if error else 'id'} FROM t WHERE p(x) {'LIMIT 5 ' if 'GAP' in clause else ''}"
    target = "RECALL 91% " if clause.lstrip("WITH ").startswith(("PROB", "CONF", "SUCC", "FAIL", "AT")) else ""
    found = parse(f"{query} {target}{clause}")
    assert isinstance(found, statements.Query)
    assert found.guarantee is not None, clause
    return dataclasses.replace(found.guarantee, position=0)


def test_methods_are_described() -> None:
    described = {codes(row["method"])[0]: row["for"] for row in rows(page("clauses").text, "method")}
    for_rows = {name for name, what in described.items() if what in ("rows", "both")}
    for_aggregates = {name for name, what in described.items() if what in ("aggregates", "both")}
    assert for_rows == set(clauses.SELECTION_METHODS)
    assert for_aggregates == set(clauses.AGGREGATE_METHODS)


def test_units_are_described() -> None:
    text = page("clauses").text
    for unit in {unit for units in clauses._UNITS.values() for unit in units}:
        assert re.search(rf"`[^`]*\b{unit.removesuffix('S')}S?\b[^`]*`", text), unit


# --- settings, views --------------------------------------------------------------------------------------------------


def test_settings_and_their_defaults() -> None:
    described = {row["setting"].strip("`"): row for row in rows(page("settings").text, "setting")}
    assert set(described) == {f"aidb.{name}" for name in _READERS}
    fresh = Settings()
    for name, row in described.items():
        default = getattr(fresh, name.removeprefix("aidb."))
        if name != "aidb.memory_limit":
            shown = "none" if default is None else f"`{str(default).lower()}`"
            assert row["default"] == shown, name
        for value in codes(row["what it takes"]):
            fresh.changed(name.removeprefix("aidb."), value.strip("'"))


def test_views_and_their_columns() -> None:
    con = connect()
    found: dict[str, list[tuple[str, str]]] = {}
    for table, column, type_ in con.execute(
        "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'aidb' "
        "ORDER BY table_name, ordinal_position"
    ).fetchall():
        found.setdefault(f"aidb.{table}", []).append((column, type_))
    con.close()
    described = {
        heading: [(codes(row["column"])[0], row["type"]) for row in rows(section, "column")]
        for heading, section in sections(page("system-tables").text).items()
        if heading.startswith("aidb.")
    }
    assert described == found


# --- models and connectors --------------------------------------------------------------------------------------------


class Known(Exception):
    """Which options a plugin knows."""


class Probe(Options):
    """Options that tell what is read of them: names in `known`, types and defaults in `taken`."""

    def __init__(self, values: Mapping[str, object], *, stop: bool = False) -> None:
        super().__init__(values)
        self.known: tuple[str, ...] = ()
        self.taken: dict[str, tuple[Any, Any]] = {}
        self._stop = stop

    def refuse_unknown(self, known: tuple[str, ...]) -> None:
        super().refuse_unknown(known)
        self.known = known
        if self._stop:
            raise Known

    def take(self, name: str, type_: Any, *default: Any) -> Any:
        self.taken[name] = (type_, default)
        return super().take(name, type_, *default)


PROVIDERS = sections(page("models").text)
COMMON, SERVICE = PROVIDERS.pop("Options of every model"), PROVIDERS.pop("Options of every service")
SERVICES = ("http", "kserve", "openai")


def cases() -> Iterator[tuple[str, str, dict[str, object], bool]]:
    """(provider, its text, options that make it, whether only the names of options can be had)."""
    given: dict[str, list[tuple[dict[str, object], bool]]] = {
        "color": [({}, False)],
        "opencv": [({}, False)],
        "onnx": [({"weights": "x.onnx"}, True)],
        "ultralytics": [({"weights": "yolov8n.yaml"}, False)],
        "torchvision": [({"model": "resnet18"}, False)],
        "embedding": [({"model": "."}, True), ({"model": "resnet18"}, False)],
        "lookup": [({"path": "labels.csv", "key": "id"}, False)],
        "http": [({"url": "http://localhost:1"}, False)],
        "kserve": [({"url": "http://localhost:1"}, True)],
        "openai": [({"url": "http://localhost:1", "model": "m"}, False)],
    }
    for provider, section in PROVIDERS.items():
        parts = list(sections(section, 3).values()) or [section]
        for text, (options, names_only) in zip(parts, given[provider], strict=True):
            yield provider, text, options, names_only


def test_each_provider_and_each_connector_has_a_section() -> None:
    assert set(PROVIDERS) == set(discover.entry_points("aidb.models"))
    assert set(sections(page("connectors").text)) == set(discover.entry_points("aidb.connectors"))


@pytest.mark.parametrize(("provider", "text", "options", "names_only"), list(cases()), ids=lambda x: str(x)[:12])
def test_options_of_models_and_their_defaults(
    provider: str,
    text: str,
    options: dict[str, object],
    names_only: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("labels.csv").write_text("id,label\n1,cat\n", encoding="utf-8")
    Path("config.json").write_text('{"hidden_size": 4}', encoding="utf-8")
    described = text + COMMON + (SERVICE if provider in SERVICES else "")
    probe = Probe(options, stop=names_only)
    make = discover.load("aidb.models", provider)
    try:
        if provider == "embedding" and names_only:
            known_of_texts(probe)
        else:
            make("m", probe).close()
    except Known:
        pass
    except errors.OperationalError as e:
        pytest.skip(str(e))  # the extra is not installed
    assert sorted(listed(described, "option")) == sorted(probe.known)
    for row in rows(text + COMMON, "option"):
        names, defaults = codes(row["option"]), codes(row["default"])
        for name in names:
            type_, default = probe.taken.get(name, (None, ()))
            compare_default(provider, name, row["default"], default)
            for choice in getattr(type_, "__name__", "").split(" | ")[1:]:
                assert choice in " ".join(codes(row["meaning"]) + defaults), f"{provider}.{name}: {choice}"


def known_of_texts(probe: Probe) -> None:
    """The options of text embeddings, which need a folder with a model to be asked in the usual way."""
    from aidb_models.embedding import TextEmbedding

    TextEmbedding(None, probe)  # type: ignore[arg-type]


def compare_default(provider: str, name: str, shown: str, default: Sequence[Any]) -> None:
    """Is a default that is shown as code the one that the code has?"""
    if shown == "needed":
        assert not default, f"{provider}.{name} has a default"
    elif default and re.fullmatch(r"`[^`]*`", shown) and isinstance(default[0], str | int | float | bool):
        value = default[0]
        wanted = (
            str(value).lower() if isinstance(value, bool) else repr(value) if isinstance(value, str) else f"{value:g}"
        )
        there = shown.strip("`")
        if not isinstance(value, str | bool):
            there = f"{float(there):g}"
        assert there == wanted, f"{provider}.{name}: {shown} is not {wanted}"


CONNECTORS = {
    "images": ("*.png", ""),
    "video": ("*.mp4", ""),
    "audio": ("*.wav", ""),
    "text": ("*.txt", "Documents"),
    "text tables": ("*.csv", "Tables"),
}


@pytest.mark.parametrize("name", CONNECTORS)
def test_columns_and_options_of_connectors(name: str, tmp_path: Path) -> None:
    pattern, part = CONNECTORS[name]
    (tmp_path / "a.txt").write_text("hello", encoding="utf-8")
    (tmp_path / "a.csv").write_text("id\n1\n", encoding="utf-8")
    text = sections(page("connectors").text)[name.split()[0]]
    connector = discover.load("aidb.connectors", name.split()[0])()
    for ending in re.findall(r"\.[a-z0-9]+\b", text.partition("|")[0].partition("pip")[0]):
        assert ending in (*connector.extensions, ".gz"), ending
    plain = {e for e in connector.extensions if e.count(".") == 1}
    assert all(re.search(rf"{re.escape(e)}\b", text) for e in plain), plain
    text = sections(text, 3)[part] if part else text
    probe = Probe({})
    schema = connector.schema(Scan(str(tmp_path / pattern), probe))
    columns = [(schema.key, "BIGINT"), *(c for c in schema.columns if c[0] != "id")]
    shown = [(codes(row["column"])[0], row["type"]) for row in rows(text, "column")]
    assert shown == [(c, "content" if c == schema.content else type_) for c, type_ in columns]
    assert sorted(listed(text, "option")) == sorted(probe.known)


# --- surfaces ---------------------------------------------------------------------------------------------------------

SHELL = page("shell").text


def test_commands_of_the_shell() -> None:
    described = dict(code.partition(" ")[::2] for code in listed(SHELL, "command"))
    assert described == {name: command.arguments for name, command in commands.COMMANDS.items()}
    for alias, name in commands.ALIASES.items():
        assert re.search(rf"`{re.escape(alias)}`[^;]*?`{re.escape(name)}`", SHELL), alias
    for alias, _ in commands._PSQL:
        assert f"`{alias}" in SHELL


def test_options_of_the_shell() -> None:
    described = {code.partition(" ")[0] for code in listed(SHELL, "option")}
    formats = {f"-{form}" for form in FORMATS}
    known = {o for action in _parser()._actions for o in action.option_strings or ["FILE"]} - formats
    assert described == known


def test_formats_of_the_shell() -> None:
    assert set(listed(SHELL, "format")) == set(FORMATS)


def test_keys_of_the_config_and_their_defaults() -> None:
    described = {codes(row["key"])[0]: row["default"] for row in rows(SHELL, "key")}
    assert set(described) == set(config._SHELL)
    fresh = config.Config()
    for key, shown in described.items():
        value = getattr(fresh, key)
        if value is not None:
            assert shown == f"`{json.dumps(value)}`", key


def test_options_of_the_magic() -> None:
    described = set(listed(page("notebook").text, "option")) - {"NAME <<", "NAME = <<"}
    assert described == {"--explain", *order._LONG, *order._LONG.values()}
    for option in described:
        order.read(f"{option} 5")


# --- Python -----------------------------------------------------------------------------------------------------------

PYTHON = sections(page("python").text)


def names(section: str, heading: str = "name") -> set[str]:
    return {code.partition("(")[0] for code in listed(PYTHON[section], heading)}


@pytest.mark.parametrize(("section", "class_"), [("Connection", Connection), ("Cursor", Cursor), ("Handles", Handle)])
def test_attributes_of_classes(section: str, class_: type) -> None:
    public = {name for name in dir(class_) if not name.startswith("_")} - set(vars(errors))
    assigned = set(re.findall(r"self\.([a-z]\w*)(?::[^=]+)? = ", inspect.getsource(class_.__init__)))  # type: ignore[misc]
    assert names(section) == public | assigned


@pytest.mark.parametrize(("section", "function"), [("connect", aidb.connect), ("Functions as models", aidb.model)])
def test_parameters_of_functions_and_their_defaults(section: str, function: Any) -> None:
    described = {codes(row["parameter"])[0]: row["default"] for row in rows(PYTHON[section], "parameter")}
    known = inspect.signature(function).parameters
    assert set(described) == set(known)
    for name, shown in described.items():
        if re.fullmatch(r"`.*`", shown):
            assert shown.strip("`").replace('"', "'") == repr(known[name].default), name


def test_parameters_of_execute() -> None:
    for class_ in (Connection, Cursor):
        shown = next(code for code in listed(PYTHON[class_.__name__], "name") if code.startswith("execute("))
        assert (
            re.findall(r"(\w+)[=,)]", shown.replace("=None", ""))
            == list(inspect.signature(class_.execute).parameters)[1:]
        )


def test_fields_of_a_report() -> None:
    assert listed(PYTHON["Report"], "field") == [f.name for f in dataclasses.fields(Report)]
    modes = re.findall(r"`(\w+)`", next(r for r in rows(PYTHON["Report"], "field") if "mode" in r["field"])["meaning"])
    assert modes == list(typing.get_args(typing.get_type_hints(Report)["mode"]))


def test_errors_and_what_they_are_below() -> None:
    described = {codes(row["error"])[0]: codes(row["below"])[0] for row in rows(PYTHON["Errors"], "error")}
    known = {
        name: class_.__bases__[0].__name__
        for name, class_ in vars(errors).items()
        if isinstance(class_, type) and issubclass(class_, Exception)
    }
    assert described == known
    assert set(known) <= set(aidb.__all__)
    attributes = {
        codes(row["error"])[0]: set(re.findall(r"`\.(\w+)`", row["when"])) for row in rows(PYTHON["Errors"], "error")
    }
    for name, shown in attributes.items():
        class_ = getattr(errors, name)
        if "__init__" in vars(class_):
            own = set(re.findall(r"self\.([a-z]\w*)", inspect.getsource(class_.__init__)))
            assert shown <= own | {"line", "column"}, name
            assert own - {"message", "sql"} <= shown, name
        else:
            assert not shown, name


def test_public_names_of_the_packages() -> None:
    text = page("python").text
    for name in aidb.__all__:
        assert re.search(rf"`(aidb\.|@aidb\.)?{name}\b", text) or name == "connect", name
    assert names("aidb.stats") == set(aidb.stats.__all__)


def test_names_that_do_not_exist_are_found() -> None:
    """The comparisons above rest on these two readers; here they see what is wrong."""
    with pytest.raises(UnknownName):
        Probe({"nonsense": 1}).refuse_unknown(("share",))
    assert listed("| option | default |\n|---|---|\n| `a`, `b` | `1` |\n", "option") == ["a", "b"]
