"""What a server of the Open Inference Protocol says about a model, and what that means for us.

Our own server says everything: forms, DuckDB types, rows. Of another one the names, datatypes and shapes are known, and
the rest follows: a shape whose first dimension is -1 takes batches, 1 means one item a request, any other number that
there is no dimension for items at all; numbers of four dimensions with 3 channels are a picture; an output `ROW` says
that there may be many rows an item.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aidb.errors import Error, ProgrammingError, UnknownName
from aidb.protocol.columns import FORM, ROW, TYPE, natural_type
from aidb.spi import Input, Output

OURS = "aidb"
_FORMS = ("any", "image", "encoded", "text", "audio", "value")


@dataclass(frozen=True)
class Wire:
    """How one input travels. item: the shape of one item; leading: is there a dimension for items before it?"""

    name: str
    datatype: str
    item: tuple[int, ...]
    leading: bool = True

    @property
    def is_picture(self) -> bool:
        """Does it take pixels, as numbers?"""
        return self.datatype != "BYTES" and len(self.item) == 3 and 3 in (self.item[0], self.item[2])

    @property
    def channels_last(self) -> bool:
        """``[H, W, 3]`` rather than ``[3, H, W]``?"""
        return self.item[2] == 3 and self.item[0] != 3

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width, if the server fixes both."""
        height, width = self.item[:2] if self.channels_last else self.item[1:]
        return (height, width) if height > 0 and width > 0 else None


@dataclass(frozen=True)
class Schema:
    """A model as its server describes it.

    inputs and wires go together. one: a request carries one item only. versions: as the server has them.
    batch_size, seconds: what our server advises.
    """

    platform: str
    versions: tuple[str, ...]
    inputs: tuple[Input, ...]
    wires: tuple[Wire, ...]
    outputs: tuple[Output, ...]
    many: bool
    one: bool
    variadic: bool = False
    batch_size: int | None = None
    seconds: float | None = None

    @property
    def is_ours(self) -> bool:
        """Is it a server of ours, whose version is a fingerprint?"""
        return self.platform == OURS and len(self.versions) == 1


def schema_of(metadata: Any, given: Mapping[str, Input], wanted: tuple[Output, ...] | None) -> Schema:
    """Read the metadata of a model.

    given: what the option ``inputs`` says of inputs by name. wanted: the option ``outputs``, in the user's order and
    types. Raises `ProgrammingError` for options that name what is not there, ValueError for metadata of another shape.
    """
    if not isinstance(metadata, dict):
        raise ValueError("the metadata is no object")
    said = _dict(metadata.get("parameters"))
    entries = [_entry(e) for e in _list(metadata.get("inputs"))]
    for name in given:
        if name not in {n for n, _, _, _ in entries}:
            raise UnknownName.of("input", name, [n for n, _, _, _ in entries])
    wires = tuple(_wire(n, datatype, shape) for n, datatype, shape, _ in entries)
    inputs = tuple(
        given.get(w.name) or _input(w, parameters) for w, (*_, parameters) in zip(wires, entries, strict=True)
    )
    outs = [_entry(e) for e in _list(metadata.get("outputs"))]
    outputs, one_out = _outputs(outs, wanted)
    if not inputs or not outputs:
        raise ValueError("the server names no inputs or no outputs; name the outputs in the option outputs")
    batch, seconds = said.get("aidb_batch_size"), said.get("aidb_seconds_per_item")
    return Schema(
        platform=str(metadata.get("platform", "")),
        versions=tuple(map(str, _list(metadata.get("versions") or []))),
        inputs=inputs,
        wires=wires,
        outputs=outputs,
        many=said.get("aidb_rows") == "many" or any(n == ROW for n, *_ in outs),
        one=one_out or any(not w.leading for w in wires) or any(s[0] == 1 for _, _, s, _ in entries if s),
        variadic=said.get("aidb_variadic") is True,
        batch_size=batch if isinstance(batch, int) and batch > 0 else None,
        seconds=float(seconds) if isinstance(seconds, (int, float)) and seconds >= 0 else None,
    )


def _entry(entry: Any) -> tuple[str, str, list[int], dict[str, Any]]:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise ValueError("an input or output without a name")
    shape = [int(d) for d in _list(entry.get("shape"))]  # Triton's JSON has texts for large numbers
    return entry["name"], str(entry.get("datatype", "")), shape, _dict(entry.get("parameters"))


def _wire(name: str, datatype: str, shape: list[int]) -> Wire:
    if not shape:
        return Wire(name, datatype, ())
    # Three dimensions with channels are one picture without a dimension for items.
    leading = shape[0] in (-1, 1) and not (len(shape) == 3 and 3 in (shape[0], shape[2]) and shape[0] != -1)
    return Wire(name, datatype, tuple(shape[1:] if leading else shape), leading)


def _input(wire: Wire, parameters: dict[str, Any]) -> Input:
    form, type_ = parameters.get(FORM), parameters.get(TYPE)
    if form in _FORMS:
        return Input(wire.name, form, str(type_) if form == "value" and type_ is not None else None)
    if wire.is_picture:
        return Input(wire.name, "image")
    if wire.datatype == "BYTES":
        return Input(wire.name, "any")
    try:
        return Input(wire.name, "value", natural_type(wire.datatype, [-1, *wire.item]))
    except Error as e:
        raise ProgrammingError(f"input {wire.name!r}: {e}") from None


def _outputs(
    entries: list[tuple[str, str, list[int], dict[str, Any]]], wanted: tuple[Output, ...] | None
) -> tuple[tuple[Output, ...], bool]:
    """Columns, and whether one of them has room for one item only."""
    found: dict[str, Output] = {}
    one = False
    for name, datatype, shape, parameters in entries:
        if name == ROW:
            continue
        if wanted is not None and name not in {o.name for o in wanted}:
            continue
        one |= bool(shape) and shape[0] == 1
        type_ = parameters.get(TYPE) or natural_type(datatype, shape)
        if name.startswith("_") and wanted is None:
            raise ProgrammingError(
                f"the output {name!r} begins with an underscore; choose others in the option outputs"
            )
        found[name] = Output(name, str(type_))
    if wanted is None:
        return tuple(found.values()), one
    if entries:
        for output in wanted:
            if output.name not in found:
                raise UnknownName.of("output", output.name, [n for n, *_ in entries])
    return wanted, one


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"expected a list, got {value!r}")
    return value


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
