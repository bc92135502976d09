"""Documents in any encoding; tables with the columns and types that DuckDB gives them."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aidb_connectors.text import Text

from aidb.errors import ProgrammingError, SourceError, UnknownName
from aidb.spi import ItemFailure, Options, Ref, Scan

# Documents


def text_of(data: bytes, folder: Path, refs, **options):
    path = folder / "a.txt"
    path.write_bytes(data)
    (result,) = Text().read(refs(Text(), path, **options))
    return result


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("Füße 猫\r\n".encode(), "Füße 猫\r\n"),
        ("Füße".encode("utf-8-sig"), "Füße"),
        ("Füße".encode("utf-16"), "Füße"),
        ("Füße".encode("utf-32"), "Füße"),
        ("hello".encode("utf-16-le"), "hello"),
        ("Füße €".encode("utf-16-be"), "Füße €"),
        ("Füße €".encode("cp1252"), "Füße €"),
        (b"a\x81b\xff", "a\x81bÿ"),
        (b"", ""),
        (b"a\0b", "a\0b"),
    ],
)
def test_encodings_are_recognised(tmp_path, refs, data, expected):
    assert text_of(data, tmp_path, refs) == expected


def test_a_given_encoding_is_obeyed(tmp_path, refs):
    data = "Příliš".encode("cp1250")
    assert text_of(data, tmp_path, refs, encoding="CP1250") == "Příliš"
    assert text_of("Příliš".encode("utf-8-sig"), tmp_path, refs, encoding="utf8") == "Příliš"
    failed = text_of(data, tmp_path, refs, encoding="utf-8")
    assert isinstance(failed, ItemFailure)
    assert "utf-8" in failed.message
    with pytest.raises(ProgrammingError, match=r"encoding.*cp9999"):
        Text().items(Scan(str(tmp_path), Options({"encoding": "cp9999"})))


def test_binary_files_fail(tmp_path, refs):
    failed = text_of(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\xff\0\0", tmp_path, refs)
    assert isinstance(failed, ItemFailure)
    assert "zero bytes" in failed.message
    (gone,) = Text().read([Ref(str(tmp_path / "gone.txt"), None, "text", "text")])
    assert "No such file" in gone.message


def test_documents_have_their_facts(tmp_path, rows):
    for name in ("b.md", "a.txt", "c.jpg"):
        (tmp_path / name).write_text(name)
    items = rows(Text(), tmp_path)
    assert [Path(r["file"]).name for r in items] == ["a.txt", "b.md"]
    assert [r["size"] for r in items] == [5, 4]
    assert items[0]["text"] == {"uri": items[0]["file"], "pos": None, "media": "text", "connector": "text"}
    (raw,) = Text().read([Ref(**items[0]["text"])], encoded=True)
    assert raw == b"a.txt"


def test_documents_and_tables_do_not_mix(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "b.csv").write_text("x\n1\n")
    with pytest.raises(SourceError, match=r"both documents and tables.*b\.csv"):
        list(Text().items(Scan(str(tmp_path))))
    (tmp_path / "0.csv").write_text("x\n1\n")
    with pytest.raises(SourceError, match=r"both documents and tables.*a\.txt"):
        Text().schema(Scan(str(tmp_path)))
    with pytest.raises(UnknownName, match="delimiter"):
        Text().schema(Scan(str(tmp_path / "a.txt"), Options({"delimiter": ";"})))


# Tables


def table(connector: Text, source: object, **options: object) -> tuple[dict[str, str], list[tuple]]:
    scan = Scan(str(source), Options(options))
    columns = dict(connector.schema(scan).columns)
    rows = []
    for batch in connector.items(scan):
        assert batch.schema.names == [*columns, "content_id"]
        rows += [tuple(r.values())[2:-1] for r in batch.to_pylist()]
    return {k: v for k, v in columns.items() if k not in ("file", "row")}, rows


def test_csv(tmp_path):
    (tmp_path / "a.csv").write_text('id,body,score\n1,"x, ""y""\nz",0.5\n2,,\n')
    assert table(Text(), tmp_path) == (
        {"id": "BIGINT", "body": "VARCHAR", "score": "DOUBLE"},
        [(1, 'x, "y"\nz', 0.5), (2, None, None)],
    )


def test_tsv_and_a_named_delimiter(tmp_path):
    (tmp_path / "a.tsv").write_text("id\tbody\n1\tx y\n")
    assert table(Text(), tmp_path)[1] == [(1, "x y")]
    (tmp_path / "a.csv").write_text("1|x;y\n2|z\n")
    assert table(Text(), tmp_path / "a.csv", delimiter="|", header=False)[1] == [(1, "x;y"), (2, "z")]


def test_jsonl_with_mixed_and_nested_values(tmp_path):
    lines = [
        {"id": 1, "tags": ["a", "b"], "who": {"name": "x"}},
        {"id": 2, "extra": None, "who": {"age": 3}},
        {"id": 3, "tags": []},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    columns, rows = table(Text(), tmp_path)
    assert columns["tags"] == "VARCHAR[]"
    assert columns["who"].startswith("STRUCT(")
    assert [r[:2] for r in rows] == [(1, ["a", "b"]), (2, None), (3, [])]
    (tmp_path / "m.ndjson").write_text('{"v": 1}\n{"v": "x"}\n{"v": {"y": 2}}\n')
    columns, rows = table(Text(), tmp_path / "m.ndjson")
    assert columns == {"v": "JSON"}
    assert rows == [("1",), ('"x"',), ('{"y":2}',)]


def test_parquet(tmp_path):
    data = pa.table({"id": [1, 2], "price": [Decimal("1.50"), None], "vector": [[0.5], [1.0, 2.0]]})
    pq.write_table(data, tmp_path / "a.parquet")
    columns, rows = table(Text(), tmp_path)
    assert columns == {"id": "BIGINT", "price": "DECIMAL(3,2)", "vector": "DOUBLE[]"}
    assert rows == [(1, Decimal("1.50"), [0.5]), (2, None, [1.0, 2.0])]


def test_compressed_files(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"id\n1\n"))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b'{"id": 2}\n'))
    assert table(Text(), tmp_path) == ({"id": "BIGINT"}, [(1,), (2,)])
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress("id,ä\n3,ö\n".encode("cp1252")))
    assert table(Text(), tmp_path / "c.csv.gz", encoding="latin-1") == ({"id": "BIGINT", "ä": "VARCHAR"}, [(3, "ö")])


def test_several_files_are_united_by_name(tmp_path):
    (tmp_path / "1.csv").write_text("id,code,a\n1,7,x\n")
    (tmp_path / "2.csv").write_text("b,CODE,id\ny,A7,2\n")
    (tmp_path / "3.jsonl").write_text('{"id": 2.5}\n')
    (tmp_path / "4.csv").write_text("")
    (tmp_path / "10.csv").write_text("id,code\n3,008\n")
    columns, rows = table(Text(), tmp_path)
    assert columns == {"id": "DOUBLE", "code": "VARCHAR", "a": "VARCHAR", "b": "VARCHAR"}
    assert rows == [
        (1.0, "7", "x", None),
        (2.0, "A7", None, "y"),
        (2.5, None, None, None),
        (3.0, "008", None, None),  # read as text from the start, not as a number and back
    ]


def test_rows_are_numbered_in_their_file(tmp_path, rows):
    (tmp_path / "a.csv").write_text("id\n" + "\n".join(map(str, range(10_000))))
    (tmp_path / "b.csv").write_text("id\n5\n6\n")
    items = rows(Text(), tmp_path)
    assert [r["row"] for r in items] == [*range(10_000), 0, 1]
    assert [r["id"] for r in items[:10_000]] == list(range(10_000))


def test_a_row_keeps_its_content_id_when_others_come(tmp_path, rows):
    path = tmp_path / "a.csv"
    path.write_text("id,body\n1,x\n2,\n3,z\n")
    before = [r["content_id"] for r in rows(Text(), path)]
    path.write_text("id,body\n1,x\n2,y\n3,z\n4,w\n")
    after = [r["content_id"] for r in rows(Text(), path)]
    assert [a == b for a, b in zip(before, after, strict=False)] == [True, False, True]
    assert len(set(after)) == 4


def test_columns_that_bear_our_names(tmp_path):
    (tmp_path / "a.csv").write_text("file,row,doc_id,content_id,File_1\na,b,c,d,e\n")
    columns, rows = table(Text(), tmp_path)
    assert list(columns) == ["file_2", "row_1", "doc_id_1", "content_id_1", "File_1"]
    assert rows == [("a", "b", "c", "d", "e")]


def test_columns_are_chosen(tmp_path):
    (tmp_path / "a.csv").write_text("id,a,b\n1,2,3\n")
    assert table(Text(), tmp_path, columns="B, id") == ({"b": "BIGINT", "id": "BIGINT"}, [(3, 1)])
    assert table(Text(), tmp_path, columns=["a"])[1] == [(2,)]
    with pytest.raises(UnknownName, match="column 'c'"):
        table(Text(), tmp_path, columns="c")
    with pytest.raises(ProgrammingError, match="columns"):
        table(Text(), tmp_path, columns="a,,b")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_tables_in_other_encodings(tmp_path, encoding):
    (tmp_path / "a.csv").write_bytes("id,body\n1,Füße\n".encode(encoding))
    (tmp_path / "b.jsonl").write_bytes('{"id": 2, "body": "Maß"}\n'.encode(encoding))
    options = {"encoding": encoding} if encoding in ("utf-16-le", "cp1252") else {}
    assert table(Text(), tmp_path, **options)[1] == [(1, "Füße"), (2, "Maß")]


def test_a_table_that_is_not_utf8_says_what_to_do(tmp_path):
    (tmp_path / "a.csv").write_bytes("id,body\n1,Füße\n".encode("cp1252"))
    with pytest.raises(SourceError, match=r"(?s)a\.csv.*encoding = 'cp1252'"):
        table(Text(), tmp_path)


@pytest.mark.parametrize(
    ("name", "data"),
    [("a.parquet", b"no parquet"), ("a.jsonl", b'{"a": 1}\n{"a":'), ("a.jsonl", b"[[["), ("a.csv.gz", b"no gzip")],
)
def test_damaged_tables_are_named(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SourceError, match=f"can't read the table.*{name}"):
        table(Text(), tmp_path)


def test_damage_far_down_a_csv_is_found(tmp_path):
    (tmp_path / "a.csv").write_text("id\n" + "1\n" * 50_000 + "x\n")
    with pytest.raises(SourceError, match=r"(?s)can't read the table.*a\.csv.*50002"):
        table(Text(), tmp_path)


def test_names_that_look_like_patterns(tmp_path):
    (tmp_path / "ab.csv").write_text("id\n1\n")
    for name in ("a*.csv", "a[b].csv", "it's.csv"):
        (tmp_path / name).write_text("id\n2\n")
        assert table(Text(), tmp_path / name)[1] == [(2,)]


def test_partitions_in_the_path_are_not_columns(tmp_path):
    folder = tmp_path / "year=2020"
    folder.mkdir()
    pq.write_table(pa.table({"id": [1]}), folder / "a.parquet")
    (folder / "b.csv").write_text("id\n2\n")
    assert table(Text(), f"{tmp_path}/**") == ({"id": "BIGINT"}, [(1,), (2,)])


def test_tables_over_the_web(tmp_path, serve):
    (tmp_path / "a b.csv").write_text("id,body\n1,x\n")
    server = serve()
    assert table(Text(), f"{server.url}/a%20b.csv")[1] == [(1, "x")]
