"""Embeddings as a column: arrays of one length, optionally of Euclidean length 1."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from aidb.spi.model import ItemError, Output


def vector_output(length: int) -> Output:
    """The column ``embedding``, a DuckDB array of ``length`` floats (for ``array_distance`` and the like)."""
    return Output("embedding", f"FLOAT[{length}]")


def vector_column(vectors: NDArray[Any], normalize: bool) -> pa.Array:
    """Vectors ``[n, length]`` as an Arrow column; ItemError for a number that is not finite."""
    values = vectors.astype(np.float32)
    if not np.isfinite(values).all():
        raise ItemError("the network answered an embedding with a number that is not finite")
    if normalize:
        values = unit_length(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def unit_length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row divided by its Euclidean length; a zero row stays zero."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    result: NDArray[np.float32] = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
    return result
