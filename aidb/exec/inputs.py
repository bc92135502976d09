"""What a model's inputs are in SQL: from the keys of items to the columns that the model gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from aidb.catalog.definitions import FillDefinition
from aidb.catalog.names import quoted
from aidb.catalog.relations import Relation, Relations
from aidb.errors import InternalError
from aidb.spi import Input, ModelSpec
from aidb.sql.render import relation_sql


@dataclass(frozen=True)
class JobInputs:
    """Where one job's inputs stand in the rows of the input query: names of columns, in the order of arguments."""

    columns: tuple[str, ...]
    forms: tuple[str, ...]
    flag: str | None


def form_of(spec: ModelSpec, place: int) -> Input:
    """The declared input of an argument; the last one stands for all that follow it in a variadic model."""
    return spec.inputs[min(place, len(spec.inputs) - 1)]


def input_query(
    jobs: Sequence[tuple[FillDefinition, ModelSpec]], relations: Relations, types: dict[tuple[str, str], str]
) -> tuple[str, list[JobInputs]]:
    """SELECT of keys, inputs and, for several jobs, a flag for each that says whether it wants the row.

    The wanted keys are read from the registered tables ``aidb_keys_0``, ``aidb_keys_1``... ``types`` gives the DuckDB
    type of each (relation, column) in lower case. Rows come sorted by content, so that a file is read from its
    beginning to its end once.
    """
    keys = [name for name, _ in jobs[0][0].keys]
    if any([name.lower() for name, _ in fill.keys] != [k.lower() for k in keys] for fill, _ in jobs):
        raise InternalError("jobs that run together must have the same items")
    flags = [f"w{n}" if len(jobs) > 1 else None for n in range(len(jobs))]
    same = "IS NOT DISTINCT FROM" if jobs[0][0].null_safe else "="
    if len(jobs) == 1:
        source = "aidb_keys_0 k"
    else:
        union = " UNION ".join(f"FROM aidb_keys_{n}" for n in range(len(jobs)))
        source = f"({union}) k"
        for n in range(len(jobs)):
            on = " AND ".join(f"k.{quoted(k)} {same} f{n}.{quoted(k)}" for k in keys)
            source += f" LEFT JOIN (SELECT *, TRUE AS w FROM aidb_keys_{n}) f{n} ON {on}"
    aliases: dict[str, str] = {}
    selected: dict[str, str] = {}
    order: list[str] = []
    described = []
    for (fill, spec), flag in zip(jobs, flags, strict=True):
        names, forms = [], []
        for place, (relation_name, column) in enumerate(fill.args):
            relation = relations.get(relation_name)
            if relation is None:
                raise InternalError(f"{fill.model}: {relation_name} is gone from the catalog")
            if fill.null_safe:
                expression = f"k.{quoted(column)}"
            else:
                alias = aliases.get(relation_name.lower())
                if alias is None:
                    alias = aliases[relation_name.lower()] = f"r{len(aliases)}"
                    on = " AND ".join(f"{alias}.{quoted(k)} = k.{quoted(k)}" for k in relation.key)
                    source += f" JOIN {_source(relation)} {alias} ON {on}"
                expression = f"{alias}.{quoted(column)}"
            declared = form_of(spec, place)
            is_content = types.get((relation_name.lower(), column.lower()), "").startswith("STRUCT(uri VARCHAR, pos ")
            if declared.type and not is_content:
                expression = f"CAST({expression} AS {declared.type})"
            if expression not in selected:
                selected[expression] = f"i{len(selected)}"
                if is_content:
                    order += [f"{expression}.uri", f"{expression}.pos"]
            names.append(selected[expression])
            forms.append(declared.form)
        described.append(JobInputs(tuple(names), tuple(forms), flag))
    what = [f"k.{quoted(k)} AS {quoted(k)}" for k in keys] + [f"{e} AS {n}" for e, n in selected.items()]
    what += [f"coalesce(f{n}.w, FALSE) AS {flag}" for n, flag in enumerate(flags) if flag]
    sql = f"SELECT {', '.join(what)} FROM {source}" + (f" ORDER BY {', '.join(order)}" if order else "")
    return sql, described


def _source(relation: Relation) -> str:
    """The stored part suffices, unless a virtual column may be asked for."""
    return f"({relation_sql(relation)})" if relation.extensions else relation.base


def keys_of(table: pa.Table, fill: FillDefinition) -> pa.Table:
    """The key columns of rows of the input query."""
    return table.select([name for name, _ in fill.keys])
