"""Columns of numbers that came as one array, and stay one: what is done with all of them is one operation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


class ColumnStack(Mapping[str, npt.NDArray[Any]]):
    """Values by column, each a row of `values` (columns, rows), floating; NaN is missing."""

    def __init__(self, names: Sequence[str], places: Mapping[str, int], values: npt.NDArray[Any]) -> None:
        """`places` is where each of `names` stands in them."""
        self.names = names
        self.stack = values
        self._places = places

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return np.ascontiguousarray(self.stack[self._places[name]])

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def doubles(self) -> npt.NDArray[np.float64]:
        """A copy, (columns, rows)."""
        return np.array(self.stack, dtype=np.float64, order="C")
