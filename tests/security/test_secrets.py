"""A planted token and a planted password are nowhere: not in the file, a log, a report, EXPLAIN or a message."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

import aidb
from aidb.exec.secrets import NOT_KEPT, holds_secret
from aidb.testing import FakeModel
from tests.models.service import Handler, Service

TOKEN = "planted-0123456789abcdef"
PASSWORD = "planted-password"


class Echo(Service):
    """Answers well, then says the token back in every way a service might."""

    def __init__(self) -> None:
        self.fails = False
        super().__init__(self._reply)

    def _reply(self, handler: Handler) -> None:
        said = handler.headers.get("Authorization") or handler.headers.get("X-Mine") or ""
        assert TOKEN in said
        if self.fails:
            handler.answer({"error": {"message": f"not with {said}"}}, 500)
        elif "/v2" in handler.path:
            handler.answer({"error": f"no such model for {said}"}, 404)
        elif "chat" in handler.path:
            handler.answer({"choices": [{"message": {"content": f"who says {said}?"}}]})
        else:
            entries = handler.json["inputs"]
            handler.answer({"outputs": [{"y": 1} if i else {"error": f"bad {said}"} for i in range(len(entries))]})


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Echo]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("PLANTED", TOKEN)
    service = Echo()
    yield service
    service.close()


def _tell(con: aidb.Connection, sql: str) -> str:
    """All that a statement says to its user."""
    try:
        cursor = con.execute(sql)
    except aidb.Error as e:
        causes, cause = [], e.__cause__
        while cause is not None:
            causes.append(f"{cause!r} {cause}")
            cause = cause.__cause__
        return f"{e!r} {e} {causes} {getattr(e, 'report', None)}"
    rows = [] if cursor.description is None else cursor.fetchall()
    return f"{rows} {cursor.message} {cursor.report!r} {cursor.report.json()}"


@pytest.mark.parametrize(
    "create",
    [
        "http WITH (url = '{url}', inputs = 'x', outputs = {{'y': 'INTEGER'}}, token_env = 'PLANTED', retries = 0)",
        "http WITH (url = '{url}', inputs = 'x', outputs = {{'y': 'INTEGER'}}, token_env = 'PLANTED', "
        "token_header = 'X-Mine', retries = 0)",
        "openai WITH (url = '{url}/v1', model = 'm', inputs = 'x', prompt = 'How?', outputs = {{'y': 'INTEGER'}}, "
        "token_env = 'PLANTED', retries = 0)",
        "kserve WITH (url = '{url}', token_env = 'PLANTED', retries = 0)",
    ],
    ids=["http", "header", "openai", "kserve"],
)
def test_a_token_is_nowhere(tmp_path: Path, service: Echo, caplog: pytest.LogCaptureFixture, create: str) -> None:
    caplog.set_level(logging.DEBUG)
    said = []
    with aidb.connect(tmp_path / "a.db") as con:
        con.execute("SET aidb.max_error_ratio = 1")
        con.execute("CREATE BLOB TABLE t AS SELECT range AS id, 'a' || range AS x FROM range(5) KEY (id)")
        said.append(_tell(con, f"CREATE MODEL m USING {create.format(url=service.url)}"))
        said += [_tell(con, sql) for sql in ("CREATE VIRTUAL TABLE v AS m(t.x)", "EXPLAIN SELECT y FROM v")]
        said += [_tell(con, sql) for sql in ("SELECT y FROM v WHERE id < 4", "EXPLAIN ANALYZE SELECT y FROM v")]
        service.fails = True
        con.execute("RETRY FAILED")
        said += [_tell(con, sql) for sql in ("SELECT y FROM v", "SELECT * FROM aidb.errors", "SHOW MODELS")]
        said += [_tell(con, f"SELECT * FROM aidb.{view}") for view in ("models", "queries", "calls", "virtual_tables")]
        said.append(repr(con.explain("SELECT 1")))
        said.append(repr(con.engine.registry.models))
    assert len(service.seen) > 0, "the service was asked, with the token"
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert TOKEN not in "\n".join(said)
    assert TOKEN.encode() not in stored
    assert TOKEN not in caplog.text


@pytest.mark.parametrize(
    "create",
    [
        "CREATE MODEL m USING http WITH (url = 'http://me:{secret}@127.0.0.1/', outputs = {{'y': 'INTEGER'}})",
        "CREATE MODEL m USING http WITH (url = ['http://a.test', 'http://b.test?api_key={secret}'])",
        "CREATE MODEL m USING http WITH (url = 'http://a.test', token = '{secret}')",
        "CREATE MODEL m USING http WITH (url = 'http://a.test', token_env = '{secret}')",
        "CREATE MODEL m USING http WITH (url = 'http://a.test', headers = {{'Authorization': 'Bearer {secret}'}})",
        "CREATE MODEL m USING http WITH (url = 'http://a.test', headers = {{'X-Api-Key': '{secret}'}})",
        "CREATE MODEL m USING openai WITH (url = 'http://a.test', model = 'm', api_key = '{secret}')",
        "CREATE MODEL m USING kserve WITH (url = 'http://me:{secret}@a.test')",
        "CREATE MODEL m USING http WITH (url = 'http://a.test', version = 'sk-{secret}')",
        "CREATE BLOB TABLE t FROM 'https://me:{secret}@a.test/a.jpg'",
        "CREATE BLOB TABLE t FROM 'https://a.test/a.jpg?X-Amz-Signature={secret}'",
        "CREATE BLOB TABLE t FROM 's3://b/*.jpg' WITH (secret = '{secret}')",
        "CREATE BLOB TABLE t AS SELECT * FROM read_csv('https://me:{secret}@a.test/a.csv')",
        "ATTACH MATERIALIZED v FROM 's3://me:{secret}@b/x'",
        "EXPORT VIRTUAL TABLE v TO 's3://me:{secret}@b/x'",
    ],
)
def test_a_secret_in_a_definition_is_refused_and_not_said_back(tmp_path: Path, create: str) -> None:
    with aidb.connect(tmp_path / "a.db") as con:
        con.register(FakeModel("n", {"y": "INTEGER"}, len))
        con.execute("CREATE BLOB TABLE there AS SELECT 1 AS id, 'a' AS x KEY (id)")
        con.execute("CREATE VIRTUAL TABLE v AS n(there.x)")
        with pytest.raises(aidb.ProgrammingError) as wrong:
            con.execute(create.format(secret=PASSWORD))
    assert PASSWORD not in str(wrong.value)
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert PASSWORD.encode() not in stored


def test_what_names_columns_is_no_secret() -> None:
    with aidb.connect() as con:
        con.execute(
            "CREATE MODEL m USING http WITH (url = 'http://a.test', inputs = {'password': 'text'}, "
            "outputs = {'token': 'VARCHAR'}, version = 'max_tokens')"
        )


@pytest.mark.parametrize(
    "sql",
    [
        f"SELECT y FROM v JOIN t USING (id) WHERE 'token = ' <> x AND 'https://me:{PASSWORD}@a.test' <> x",
        f"SELECT y FROM v WHERE 'password={PASSWORD}' <> '' AND id <> 5",
        f"SELECT y FROM v, (SELECT 1 AS one WHERE 'Bearer 1-{PASSWORD}' <> '') WHERE one = 1",
        f"SELECT avg(y) FROM v JOIN t USING (id) WHERE 'sk-{PASSWORD}' <> x ERROR TARGET 50% SEED 1",
    ],
)
def test_the_text_of_a_query_with_a_secret_is_not_kept(tmp_path: Path, sql: str) -> None:
    with aidb.connect(tmp_path / "a.db") as con:
        con.register(FakeModel("n", {"y": "INTEGER"}, len))
        con.execute("CREATE BLOB TABLE t AS SELECT range AS id, range::VARCHAR AS x FROM range(200) KEY (id)")
        con.execute("CREATE VIRTUAL TABLE v AS n(t.x)")
        con.execute(sql)
        assert con.execute("SELECT DISTINCT text FROM aidb.queries").fetchall() == [(NOT_KEPT,)]
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert PASSWORD.encode() not in stored


@pytest.mark.parametrize(
    "sql",
    [
        f"CREATE SECRET s (TYPE s3, KEY_ID 'a', SECRET '{PASSWORD}')",
        f"ATTACH 'other.db' AS o (ENCRYPTION_KEY '{PASSWORD}')",
        f"ATTACH 'host=h password={PASSWORD}' AS p (TYPE postgres)",
        f"SET s3_secret_access_key = '{PASSWORD}'",
    ],
)
def test_statements_that_hold_secrets_leave_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sql: str) -> None:
    """They are DuckDB's alone; whether it can carry them out here or not, nothing of them is stored."""
    monkeypatch.chdir(tmp_path)
    assert holds_secret(sql)
    with aidb.connect(tmp_path / "a.db") as con:
        con.execute("CREATE TABLE t AS SELECT 1 AS a")
        _tell(con, sql)
        con.execute("SELECT * FROM t")
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert PASSWORD.encode() not in stored


def test_parameters_are_not_kept(tmp_path: Path) -> None:
    """A value that is bound is in no text, so that a query with a secret can be kept all the same."""
    with aidb.connect(tmp_path / "a.db") as con:
        con.register(FakeModel("n", {"y": "INTEGER"}, len))
        con.execute("CREATE BLOB TABLE t AS SELECT 1 AS id, 'a' AS x KEY (id)")
        con.execute("CREATE VIRTUAL TABLE v AS n(t.x)")
        con.execute("SELECT y FROM v JOIN t USING (id) WHERE x <> $secret", {"secret": PASSWORD})
        assert con.execute("SELECT text FROM aidb.queries").fetchall() == [
            ("SELECT y FROM v JOIN t USING (id) WHERE x <> $secret",)
        ]
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert PASSWORD.encode() not in stored
