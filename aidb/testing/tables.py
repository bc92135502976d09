"""Recorded answers as a model, for tests: `table_model`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from aidb_models.lookup import Lookup


def table_model(
    name: str,
    table: Any,
    key: str | Sequence[str],
    *,
    outputs: Sequence[str] | Mapping[str, str] = (),
    rows: Literal["one", "many"] | None = None,
    missing: Literal["null", "error"] = "null",
    version: str | None = None,
    **spec: Any,
) -> Lookup:
    """A model that replays a table: `aidb_models.lookup.Lookup.of`, which says what each argument means.

    ``calls`` and ``items`` of the result count what was asked, to be compared with a report.

    >>> truth = table_model("truth", {"id": [1, 2, 2], "label": ["car", "bus", "van"]}, "id")
    >>> truth.spec.rows, [o.name for o in truth.spec.outputs]
    ('many', ['label'])
    """
    # By name, as the engine finds every plugin: aidb itself depends on none.
    lookup = import_module("aidb_models.lookup").Lookup
    made: Lookup = lookup.of(name, table, key, outputs=outputs, rows=rows, missing=missing, version=version, **spec)
    return made
