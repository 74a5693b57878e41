"""What may a row turn into? The box of model inputs that a small change of its numbers can reach.

Numbers move, each on its own, by at most `eps` standard deviations of the train split; categories, booleans and
missing values stay. The box is taken through the model's own transform: of every number, the lowest and the highest
raw value are encoded. The transform does not fall where a number grows, so that the encoded corners hold everything
in between, float32 rounding and clipping included. Shapes: n rows, d model inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlcluster.data.schema import TableSchema
from mlcluster.data.transform import ScaledNumber, Transform, numbers_of
from mlcluster.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class Boxes:
    """One box a row: `lower` <= `center` <= `upper`, float32 (n, d); NaN where the input is missing, in all three."""

    center: npt.NDArray[np.float32]
    lower: npt.NDArray[np.float32]
    upper: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.center)

    def take(self, rows: npt.NDArray[np.int64]) -> Boxes:
        """The boxes of some rows."""
        return Boxes(center=self.center[rows], lower=self.lower[rows], upper=self.upper[rows])

    def clip(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """The float32 points (n, d) of the boxes that are nearest to `points`; NaN where the input is missing."""
        inside = np.clip(points, self.lower, self.upper).astype(np.float32)
        return np.where(np.isnan(self.center), self.center, np.clip(inside, self.lower, self.upper))


def number_scales(dense: Transform, schema: TableSchema) -> dict[str, float]:
    """One standard deviation of each number column on the train split (after clipping), by its name.

    Raises:
        DataError: `dense` is not the dense transform, which alone knows them.
    """
    if dense.encoding != "dense":
        raise DataError(f"transform = {dense.encoding} knows no standard deviations; give the dense transform.")
    numbers = {feature.name for feature in schema.features if feature.kind == "number"}
    return {
        column.name: column.scale
        for column in dense.columns
        if isinstance(column, ScaledNumber) and column.name in numbers
    }


def reachable_boxes(table: pa.Table, transform: Transform, scales: Mapping[str, float], eps: float) -> Boxes:
    """The boxes of the rows of `table` when each number moves by at most `eps` of its scale."""
    return Boxes(
        center=transform.apply(table),
        lower=transform.apply(_moved(table, scales, -eps)),
        upper=transform.apply(_moved(table, scales, eps)),
    )


def _moved(table: pa.Table, scales: Mapping[str, float], eps: float) -> pa.Table:
    for name, scale in scales.items():
        position = table.schema.get_field_index(name)
        moved = numbers_of(table.column(position)) + eps * scale
        table = table.set_column(position, name, pa.array(moved, from_pandas=True))
    return table
