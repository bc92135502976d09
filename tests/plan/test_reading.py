"""Does the planner read expressions as DuckDB does? Precedence, names of aggregates, spellings of one thing."""

from __future__ import annotations

from random import Random

import duckdb
import pytest
from sqlglot import exp
from sqlglot.errors import ParseError

from aidb.plan.nodes import is_aggregate, parse
from aidb.plan.relax import Relaxer, Where
from aidb.plan.scopes import Scope, at_top
from aidb.plan.sources import KNOWN, Leaf
from tests.plan.harness import World

VALUES = "(VALUES (1, 2, true, 'a1'), (2, 1, false, 'b'), (NULL, 3, NULL, NULL), (0, NULL, true, '0')) AS t(x, y, f, s)"

OPERANDS = [
    "x",
    "y",
    "x + y",
    "x - 1",
    "-x",
    "x % 2",
    "x // 2",
    "x ** 2",
    "x ^ 2",
    "abs(x)",
    "x::VARCHAR::INTEGER",
    "2",
    "NULL",
]
TESTS = [
    "{} = {}", "{} <> {}", "{} != {}", "{} < {}", "{} IS NULL", "{} IS NOT NULL", "{} ISNULL", "{} NOTNULL",
    "{} BETWEEN {} AND {}", "{} NOT BETWEEN {} AND {}", "{} IN ({}, {})", "{} NOT IN ({}, 3)",
    "{} IS DISTINCT FROM {}", "{} IS NOT DISTINCT FROM {}", "f", "NOT f", "f IS TRUE", "f IS NOT TRUE", "f IS UNKNOWN",
    "s LIKE '%1'", "s NOT LIKE '%1'", "s ILIKE 'A%'", "s ~~ 'a%'", "s !~~ 'a%'", "s SIMILAR TO 'a.'", "s GLOB 'a*'",
    "s ^@ 'a'", "s || 'x' = 'bx'", "NOT {} = {}", "NOT {} IS NULL", "f = ({} > {})", "{} = {} IS NULL", "{} & 1 = 1",
    "CASE WHEN {} > 1 THEN f ELSE {} = 1 END", "CASE x WHEN 1 THEN true ELSE f END", "coalesce(f, {} > {})",
    "s COLLATE NOCASE = 'A1'", "x == y", "[x, y] = [1, 2]", "{{'a': x}}.a = 1", "s[1] = 'a'", "(x, y) = (1, 2)",
    "list_contains([x, y], {})", "s.upper() = 'B'", "x >> 1 = 0", "{} = ANY ([1, 2])", "@x = 1", "~x = -2",
]  # fmt: skip


def random_condition(rng: Random) -> str:
    parts = []
    for _ in range(rng.randint(1, 4)):
        text = rng.choice(TESTS)
        text = text.format(*(rng.choice(OPERANDS) for _ in range(text.count("{}"))))
        if rng.random() < 0.15:
            text = f"({text} {rng.choice(['AND', 'OR'])} f)"
        parts.append(f"{rng.choice(['', '', 'NOT '])}{text}")
    joined = parts[0]
    for part in parts[1:]:
        joined += f" {rng.choice(['AND', 'OR'])} {part}"
    return joined


@pytest.mark.parametrize("seed", range(4))
def test_conditions_over_known_columns_keep_their_meaning(seed: int) -> None:
    rng = Random(seed)
    con = duckdb.connect()
    relaxer = Relaxer(frozenset())
    checked = 0
    for _ in range(150):
        text = random_condition(rng)
        try:
            want = con.sql(f"SELECT ({text}) IS TRUE FROM {VALUES}").fetchall()
        except duckdb.Error:
            continue
        select = parse(f"SELECT 1 FROM t WHERE {text}")
        scope = Scope(select, {}, None, at_top)
        scope.tree = Leaf("t", dict.fromkeys("xyfs", KNOWN), VALUES)
        kept = [p.text for p in relaxer.conjuncts(scope, select.args["where"].this, Where())]
        low = relaxer.relax(scope, select.args["where"].this, False, Where()).text
        for bound in (" AND ".join(kept) or "TRUE", low):
            assert con.sql(f"SELECT ({bound}) IS TRUE FROM {VALUES}").fetchall() == want, f"{text}\n{bound}"
        checked += 1
    assert checked > 100


def test_every_aggregate_of_duckdb_is_seen() -> None:
    con = duckdb.connect()
    World.aggregates = World.aggregates or frozenset(
        r[0]
        for r in con.sql("SELECT function_name FROM duckdb_functions() WHERE function_type = 'aggregate'").fetchall()
    )
    for name in sorted(World.aggregates):
        if not name.isidentifier():
            continue
        try:
            (item,) = parse(f"SELECT {name}(x)").expressions
        except ParseError:  # it wants more arguments
            (item,) = parse(f"SELECT {name}(x, y)").expressions
        found = any(is_aggregate(n, World.aggregates) for n in item.walk())
        assert found, f"{name} is read as {type(item).__name__}"
    for text in ("count(*)", "list(x ORDER BY y)", "sum(x) FILTER (y > 1)", "array_agg(x)", "string_agg(x, ',')",
                 "quantile_cont(x, 0.5)", "max(x, 2)", "arg_max(x, y)", "mode() WITHIN GROUP (ORDER BY x)", "bool_and(x)",
                 "percentile_cont(0.5) WITHIN GROUP (ORDER BY x)", "first(x)", "any_value(x)", "group_concat(x)"):  # fmt: skip
        (item,) = parse(f"SELECT {text}").expressions
        assert any(is_aggregate(n, World.aggregates) for n in item.walk()), text
    for text in ("list_sum([x])", "greatest(x, y)", "x.upper()", "len(x)", "coalesce(x, 1)", "x::DOUBLE", "count"):
        (item,) = parse(f"SELECT {text}").expressions
        assert not any(is_aggregate(n, World.aggregates) for n in item.walk()), text


def test_a_filter_clause_is_not_a_plain_function() -> None:
    (item,) = parse("SELECT sum(x) FILTER (WHERE y > 1)").expressions
    assert isinstance(item, exp.Filter)
