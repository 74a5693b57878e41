"""What was answered, and where that goes: the seam between answers and whatever keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from mlcluster.serve.records.layout import RecordLayout
from mlcluster.serve.tracing import RequestIds


class Answered(NamedTuple):
    """What an answer leaves behind, as it lies there. A tuple: a frozen dataclass takes a microsecond to make."""

    layout: RecordLayout
    id: str
    at_ms: int
    """Since 1970."""
    latency_ms: float
    columns: Mapping[str, Any]
    """Raw values by column: lists with None for missing, or arrays in which NaN is missing."""
    doubles: npt.NDArray[np.float64] | None
    """(columns, rows): those of floating point, in the schema's order, where they have been put together already."""
    scores: npt.NDArray[np.float64]
    """As `Prediction.scores`."""
    body: bytes
    ids: RequestIds


class RecordSink(Protocol):
    """Where answers go. `write` never fails and never waits for a disk."""

    @property
    def num_lost(self) -> int:
        """Answers that were taken and never kept."""
        ...

    def write(self, answered: Answered) -> None: ...

    def close(self) -> None: ...


class NoRecords:
    """Keeps nothing, and loses nothing that it was to keep."""

    num_lost = 0

    def write(self, answered: Answered) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""
