"""The nearest place within so many metres, for sources that agree on no name but on where things are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlcluster.data.joins.keys import NEAR, NONE, Found
from mlcluster.data.transform import numbers_of
from mlcluster.spec import JoinSpec, PlaceKey

_EARTH_METRES = 6_371_008.8
"""The mean radius (IUGG); on the ellipsoid a distance differs by 0.5 % at most."""


@dataclass(frozen=True, kw_only=True)
class RightPlaces:
    """The places of the other source, as `RightKeys` are its keys; each is that of one row."""

    as_is: pa.Array
    counts: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    tree: Any
    """Over (latitude, longitude) in radians, (k, 2); None where there is no place."""
    place: PlaceKey

    @classmethod
    def of(cls, right: pa.Table, wanted: JoinSpec) -> RightPlaces:
        """The rows that have a place; one without is found by nobody."""
        from sklearn.neighbors import BallTree

        assert wanted.place is not None
        points = _radians(right, wanted.place.on_right)
        rows = np.flatnonzero(~np.isnan(points).any(axis=1))
        return cls(
            as_is=_texts(points[rows]),
            counts=np.ones(len(rows), dtype=np.int64),
            starts=np.arange(len(rows)),
            rows=rows,
            tree=BallTree(points[rows], metric="haversine") if len(rows) else None,
            place=wanted.place,
        )

    def find(self, rows: pa.Table) -> Found:
        """The nearest place of each row, where one is within the distance."""
        points = _radians(rows, self.place.left)
        groups = np.full(len(points), NONE, dtype=np.int64)
        has_place = ~np.isnan(points).any(axis=1)
        if self.tree is not None and has_place.any():
            distances, nearest = self.tree.query(points[has_place], k=1)
            is_within = distances[:, 0] * _EARTH_METRES <= self.place.within_m
            groups[has_place] = np.where(is_within, nearest[:, 0], NONE)
        return Found(texts=_texts(points), groups=groups, ways=np.full(len(points), NEAR, dtype=np.int8))


def _radians(table: pa.Table, columns: tuple[str, str]) -> npt.NDArray[np.float64]:
    """Latitude and longitude, (n, 2); NaN where one is missing or can be none."""
    latitude, longitude = (numbers_of(table.column(name)) for name in columns)
    is_wrong = ~((np.abs(latitude) <= 90) & (np.abs(longitude) <= 180))
    points = np.radians(np.stack([latitude, longitude], axis=1))
    points[is_wrong] = np.nan
    return np.ascontiguousarray(points)


def _texts(points: npt.NDArray[np.float64]) -> pa.Array:
    degrees = np.degrees(points)
    words = np.char.mod("%.5f", degrees) if len(degrees) else np.empty((0, 2), dtype=str)
    joined = np.char.add(np.char.add(words[:, 0], ", "), words[:, 1])
    return pa.array(joined, pa.string(), mask=np.isnan(degrees).any(axis=1))
