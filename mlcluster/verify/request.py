"""What a verification is asked, and with what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlcluster.data import TableSchema, Transform
from mlcluster.errors import DataError
from mlcluster.spec import GateSpec
from mlcluster.train import METRICS, Structure

FloatArray = npt.NDArray[np.float32] | npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class VerifyRequest:
    """A winner, its answers on the n rows of the test split, and the requirements.

    Raises:
        DataError: lengths differ, or `metric` does not measure the task.
    """

    gates: tuple[GateSpec, ...]
    metric: str
    """The main measure: what the baseline must be beaten in, and what slices show."""
    schema: TableSchema
    test_table: pa.Table
    """Raw columns: features, target, sensitive columns, and those that gates group by."""
    y: npt.NDArray[np.int64] | npt.NDArray[np.float64]
    """(n,): class indices, or values."""
    scores: FloatArray
    """Of the exported artifact: probabilities (n, k), or values (n,) or (n, 1)."""
    baseline_scores: FloatArray
    """Of the constant model, shaped like `scores`."""
    structure: Structure
    transform: Transform
    """The one that `structure` takes its inputs from."""
    number_scales: Mapping[str, float]
    """One standard deviation of each number column on the train split; see `number_scales`."""
    sensitive: tuple[str, ...] = ()
    """Columns whose groups are shown as slices."""
    seed: int = 0
    confidence: float = 0.95
    """Of each one-sided bound."""

    def __post_init__(self) -> None:
        lengths = (self.test_table.num_rows, len(self.y), len(self.scores), len(self.baseline_scores))
        if len(set(lengths)) > 1:
            raise DataError(f"test rows = {lengths} differ between table, y, scores and baseline; score the same rows.")
        if self.metric not in METRICS or self.schema.target.task not in METRICS[self.metric].tasks:
            raise DataError(
                f"metric = {self.metric!r} does not measure a {self.schema.target.task} task; choose another."
            )
