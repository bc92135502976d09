"""The Harlequin adapter, with Harlequin's own classes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from harlequin.catalog import CatalogItem
from harlequin.exception import HarlequinConfigError, HarlequinConnectionError, HarlequinQueryError
from harlequin.plugins import load_adapter

from aidb.surfaces.harlequin import AidbAdapter, AidbConnection, TableItem
from aidb.testing import FakeModel


@pytest.fixture
def harlequin(tmp_path: Path) -> Iterator[AidbConnection]:
    """What Harlequin holds while it runs on a file."""
    connection = load_adapter("aidb")((str(tmp_path / "a.aidb"),), theme="any").connect()
    assert isinstance(connection, AidbConnection)
    connection.connection.execute("SET threads = 1")
    connection.connection.register(FakeModel("twice", {"y": "INTEGER"}, lambda x: 2 * x, batch_size=5))
    for sql in (
        "CREATE BLOB TABLE t AS SELECT range AS id, range::INTEGER AS x FROM range(20) KEY (id)",
        "CREATE VIRTUAL TABLE v AS twice(t.x)",
        "CREATE TABLE plain (a INTEGER)",
        "CREATE VIEW large AS SELECT * FROM v WHERE y > 10",
        "CREATE SCHEMA other; CREATE TABLE other.z (b DOUBLE[])",
    ):
        assert connection.execute(sql) is None
    yield connection
    connection.close()


def test_the_catalogue(harlequin: AidbConnection) -> None:
    catalog = harlequin.get_catalog()
    tops = {item.label: item for item in catalog.items}
    assert list(tops) == ["main", "other", "aidb", "models"]

    def shown(item: CatalogItem) -> list[tuple[str, str, str]]:
        return [(c.label, c.type_label, str(c.type_name)) for c in item.children]

    assert shown(tops["main"]) == [
        ("large", "v", "view"), ("plain", "t", "table"), ("t", "bt", "blob table"), ("v", "vt", "virtual table"),
    ]  # fmt: skip
    table = tops["main"].children[3]
    assert shown(table) == [("id", "#", "BIGINT"), ("y", "#", "INTEGER, filled by twice")]
    assert (table.query_name, tops["other"].children[0].query_name) == ('"v"', '"other"."z"')
    assert [c.type_label for c in tops["other"].children[0].children] == ["[]"]
    assert shown(tops["models"]) == [("twice", "m", "model, python")]
    names = [c.qualified_identifier for top in catalog.items for c in top.children]
    assert len(names) == len(set(names))


def test_what_the_menu_of_a_table_puts_into_the_editor(harlequin: AidbConnection) -> None:
    class Driver:
        texts: list[str] = []  # noqa: RUF012

        def insert_text_in_new_buffer(self, text: str) -> None:
            self.texts.append(text)

    item = harlequin.get_catalog().items[0].children[3]
    assert isinstance(item, TableItem)
    for _, action in item.INTERACTIONS:
        action(item, Driver())
    results = [harlequin.execute(text) for text in Driver.texts]
    assert [len(r.fetchall() or ()) for r in results if r is not None] == [10, 1]  # a row for each model


def test_rows_and_their_limit(harlequin: AidbConnection) -> None:
    cursor = harlequin.execute("SELECT id, y, y / 3 AS f, 'a' AS s FROM v ORDER BY id")
    assert cursor is not None
    assert cursor.columns() == [("id", "#"), ("y", "#"), ("f", "#.#"), ("s", "s")]
    table = cursor.set_limit(7).fetchall()
    assert isinstance(table, pa.Table)
    assert table.column("y").to_pylist() == [0, 2, 4, 6, 8, 10, 12]
    everything = harlequin.execute("FROM v")
    assert everything is not None
    assert len(everything.set_limit(1000).fetchall() or ()) == 20
    assert len(everything.fetchall() or ()) == 20


def test_pictures_are_shown_by_name(harlequin: AidbConnection, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    harlequin.execute(f"CREATE BLOB TABLE docs FROM '{tmp_path}/*.txt'")
    cursor = harlequin.execute("SELECT text FROM docs")
    assert cursor is not None
    assert cursor.columns() == [("text", "img")]
    table = cursor.fetchall()
    assert table is not None
    assert str(table.column("text")[0]).endswith("a.txt>")


def test_errors_are_harlequins(harlequin: AidbConnection, tmp_path: Path) -> None:
    with pytest.raises(HarlequinQueryError, match="nothing"):
        harlequin.execute("FROM nothing")
    with pytest.raises(HarlequinConnectionError, match="does not exist"):
        AidbAdapter((str(tmp_path / "none.aidb"),), read_only=True).connect()
    with pytest.raises(HarlequinConfigError, match="one file"):
        AidbAdapter(("a", "b"))
    harlequin.cancel()  # nothing runs
    harlequin.close()
    with pytest.raises(HarlequinQueryError, match="closed"):
        harlequin.execute("SELECT 1")


def test_transactions_by_hand(harlequin: AidbConnection) -> None:
    assert harlequin.transaction_mode.label == "Auto"
    mode = harlequin.toggle_transaction_mode()
    assert (mode.label, mode.rollback is not None) == ("Manual", True)
    harlequin.execute("INSERT INTO plain VALUES (1)")
    assert mode.rollback is not None
    mode.rollback()
    harlequin.execute("INSERT INTO plain VALUES (2)")
    assert harlequin.toggle_transaction_mode().label == "Auto"
    cursor = harlequin.execute("FROM plain")
    assert cursor is not None
    assert (cursor.fetchall() or pa.table({})).to_pylist() == [{"a": 2}]


def test_what_is_remembered_by(tmp_path: Path) -> None:
    assert AidbAdapter(()).connection_id == ""
    assert AidbAdapter((str(tmp_path / "a.aidb"),)).connection_id == str(tmp_path.resolve() / "a.aidb")
    assert "RECALL TARGET" in {c.label for c in AidbAdapter(()).connect().get_completions()}
