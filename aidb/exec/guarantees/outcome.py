"""What an executor of a guarantee hands back to the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from aidb.storage.answer import Answer


@dataclass(frozen=True)
class Guaranteed:
    """An answer and what the report says of its guarantee; see `aidb.report.Report` for the fields.

    sql: what gave the answer, while the statement runs; None for one that is not to be kept.
    """

    answer: Answer
    mode: str
    target: Mapping[str, float]
    method: str
    probability: float | None = None
    intervals: Mapping[str, object] = field(default_factory=dict)
    certified: Mapping[str, float] = field(default_factory=dict)
    labels_needed: int | None = None
    labels: int = 0
    oracle_calls: int = 0
    failed: int = 0
    proxy: str | None = None
    seed: int | None = None
    notes: tuple[str, ...] = ()
    sql: str | None = None
    arrays: Mapping[str, npt.NDArray[np.generic]] = field(default_factory=dict)
