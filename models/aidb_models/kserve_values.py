"""A batch as tensors of a request, and a reply's tensors as columns of an answer."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa

from aidb.protocol.columns import FORM, ROW, TYPE, VALID, from_tensor, natural_type, to_tensors
from aidb.protocol.tensors import DTYPES, Malformed, Tensor
from aidb.spi import Input, ItemError, Values, arrow_type, duckdb_type
from aidb_models.kserve_schema import Schema, Wire
from aidb_models.pictures import Preparation, rgb


class Writer:
    """Makes the tensors of a request. preparations: by input, for pictures that travel as numbers of a fixed size.

    text_only: the server reads JSON alone, so that files travel in base64.
    """

    def __init__(self, schema: Schema, preparations: dict[str, Preparation], *, text_only: bool) -> None:
        self._schema, self._preparations, self._text_only = schema, preparations, text_only

    def tensors(self, inputs: Sequence[Values]) -> list[Tensor]:
        """One tensor for each input, and for those of our server with NULLs a second one. Raises `ItemError`."""
        found: list[Tensor] = []
        for i, values in enumerate(inputs):
            if i < len(self._schema.inputs):
                given, wire = self._schema.inputs[i], self._schema.wires[i]
            else:
                given, wire = Input(f"_{i + 1}"), Wire(f"_{i + 1}", "BYTES", ())
            found += self._input(given, wire, values)
        return found

    def _input(self, given: Input, wire: Wire, values: Values) -> list[Tensor]:
        if isinstance(values, (pa.Array, pa.ChunkedArray)):
            return self._column(given, wire, values)
        if wire.is_picture:
            return [self._pixels(wire, values)]
        first = values[0] if values else b""
        form = "image" if isinstance(first, np.ndarray) else "text" if isinstance(first, str) else "encoded"
        said = {FORM: form} if self._schema.is_ours and given.form == "any" else {}
        if form == "text":
            return [Tensor.of_bytes(wire.name, (str(v).encode("utf-8", "replace") for v in values), said)]
        write = (_netpbm if self._schema.is_ours else _png) if form == "image" else bytes
        files: list[bytes] = [write(v) for v in values]  # type: ignore[arg-type]
        if self._text_only:
            coded = (base64.b64encode(v) for v in files)
            return [Tensor.of_bytes(wire.name, coded, {**said, "content_type": "base64"})]
        return [Tensor.of_bytes(wire.name, files, said)]

    def _column(self, given: Input, wire: Wire, values: pa.Array) -> list[Tensor]:
        if isinstance(values, pa.ChunkedArray):
            values = values.combine_chunks()
        if self._schema.is_ours:
            said: dict[str, object] = {} if given.type is not None else {TYPE: duckdb_type(values.type)}
            return to_tensors(wire.name, values, said)
        if wire.datatype in DTYPES:
            target = arrow_type(given.type or natural_type(wire.datatype, [-1, *wire.item]))
            try:
                values = values if values.type == target else values.cast(target)
            except pa.ArrowException as e:
                raise ItemError(f"input {wire.name}: {values.type} is no {target}: {e}") from None
        [tensor, *_] = to_tensors(wire.name, values)
        if isinstance(tensor.data, np.ndarray) and wire.datatype in DTYPES:
            data = tensor.data.astype(DTYPES[wire.datatype], copy=False)
            ahead = (len(values),) if wire.leading else ()
            fixed = all(d > 0 for d in wire.item)
            tensor = Tensor.of_numbers(wire.name, data.reshape((*ahead, *wire.item)) if fixed else data)
        if isinstance(tensor.data, list) and wire.item == (1,):
            tensor = replace(tensor, shape=(len(values), 1))
        return [tensor]

    def _pixels(self, wire: Wire, values: Sequence[Any]) -> Tensor:
        preparation = self._preparations.get(wire.name)
        if preparation is not None:
            items = [preparation(image)[0] for image in values]
        else:  # any size goes: one item a request
            items = [rgb(image) if wire.channels_last else rgb(image).transpose(2, 0, 1) for image in values]
        data = np.stack(items).astype(DTYPES[wire.datatype], copy=False)
        return Tensor.of_numbers(wire.name, data if wire.leading else data[0])


def answered(schema: Schema, tensors: Sequence[Tensor], n: int) -> dict[str, Any]:
    """Columns of the answer to ``n`` items, with ``_row`` if there may be many rows. Raises `Malformed`."""
    by_name = {t.name: t for t in tensors}
    length = n
    columns: dict[str, Any] = {}
    if schema.many:
        if ROW not in by_name or isinstance(by_name[ROW].data, list):
            raise Malformed(f"the reply has no tensor {ROW!r} of numbers")
        columns[ROW] = np.asarray(by_name[ROW].data).reshape(-1)
        length = len(columns[ROW])
    for output in schema.outputs:
        tensor = by_name.get(output.name)
        if tensor is None:
            raise Malformed(f"the reply has no tensor {output.name!r}")
        if schema.one and not schema.many and tensor.shape[0] != 1:
            tensor = replace(
                tensor,
                shape=(1, *tensor.shape),
                data=tensor.data if isinstance(tensor.data, list) else tensor.data[None],
            )
        if tensor.shape[0] != length:
            raise Malformed(
                f"tensor {output.name!r} has the shape {list(tensor.shape)}, and {length} rows were expected"
            )
        columns[output.name] = from_tensor(tensor, by_name.get(VALID + output.name), output.type)
    return columns


def with_null(inputs: Sequence[Values]) -> np.ndarray:
    """Which items have a NULL among their inputs, ``bool [n]``."""
    found = np.zeros(len(inputs[0]), bool)
    for values in inputs:
        if isinstance(values, (pa.Array, pa.ChunkedArray)) and values.null_count:
            found |= np.asarray(values.is_null())
    return found


def _netpbm(image: Any) -> bytes:
    """A picture as a file that costs nothing to write and to read: PPM, a head of one line and the pixels."""
    pixels = rgb(image)
    return b"P6 %d %d 255\n" % (pixels.shape[1], pixels.shape[0]) + np.ascontiguousarray(pixels).tobytes()


def _png(image: Any) -> bytes:
    from PIL import Image

    file = BytesIO()
    try:
        Image.fromarray(rgb(image)).save(file, format="PNG", compress_level=1)
    except (ValueError, OSError) as e:
        raise ItemError(f"the picture can't be written as PNG: {e}") from e
    return file.getvalue()
