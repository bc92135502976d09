"""DuckDB types as JSON schema: what a language model is held to when it answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from aidb.errors import ProgrammingError
from aidb.spi import Output, arrow_type

_ENUM = re.compile(r"\s*ENUM\s*\((.*)\)\s*", re.IGNORECASE | re.DOTALL)
_LABEL = re.compile(r"'((?:[^']|'')*)'")


def schema_of(outputs: Sequence[Output], many: bool) -> dict[str, Any]:
    """An object with a field for each output; ``many``: an object with a list ``rows`` of such.

    Every field is there, and may be null. ``ENUM('a', 'b')`` allows only those texts.

    >>> schema_of([Output("n", "INTEGER")], False)["properties"]
    {'n': {'type': ['integer', 'null']}}
    """
    row = _object({o.name: _nullable(_of_output(o)) for o in outputs})
    return _object({"rows": {"type": "array", "items": row}}) if many else row


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    # Strict mode, as services have it, wants every field required and no other one.
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    wider = {**schema, "type": [schema["type"], "null"]}
    return {**wider, "enum": [*schema["enum"], None]} if "enum" in schema else wider


def _of_output(output: Output) -> dict[str, Any]:
    enum = _ENUM.fullmatch(output.type)
    if enum:
        return {"type": "string", "enum": [label.replace("''", "'") for label in _LABEL.findall(enum[1])]}
    try:
        return _of(arrow_type(output.type))
    except ProgrammingError as e:
        raise ProgrammingError(f"output {output.name!r} of the type {output.type}: {e}") from None


def _of(type_: pa.DataType) -> dict[str, Any]:
    t = pa.types
    if t.is_boolean(type_):
        return {"type": "boolean"}
    if t.is_integer(type_):
        return {"type": "integer"}
    if t.is_floating(type_):
        return {"type": "number"}
    if t.is_date(type_):
        return {"type": "string", "format": "date"}
    if t.is_timestamp(type_):
        return {"type": "string", "format": "date-time"}
    if t.is_time(type_):
        return {"type": "string", "format": "time"}
    if t.is_string(type_) or t.is_decimal(type_):
        return {"type": "string"}
    if t.is_list(type_) or t.is_fixed_size_list(type_):
        return {"type": "array", "items": _of(type_.value_type)}
    if t.is_struct(type_):
        fields = (type_.field(i) for i in range(type_.num_fields))
        return _object({f.name: _of(f.type) for f in fields})
    raise ProgrammingError("a language model can't answer with this type")
