"""More train rows of a rare group: copies, or rows between two near rows of the group (SMOTE-NC).

Made once, before training, so that every family sees them. An extra row is a recipe (`ExtraRows`), which is the same in
each encoding: a net and a tree learn from the same rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt

from mlcluster.data.augment.philox import uniforms

_PURPOSE = 3
_NUM_NEIGHBOURS = 5

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class ExtraRows:
    """m rows made of train rows: `base` as it is, but for numbers, which lie `weight` of the way to `neighbour`."""

    base: Rows
    neighbour: Rows
    weight: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.base)

    def of(self, features: npt.NDArray[np.float32], number_columns: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        """The extra rows (m, d) in the encoding of `features` (n, d); what either row lacks stays as in the base."""
        made = features[self.base]
        start = made[:, number_columns]
        step = self.weight[:, np.newaxis].astype(np.float32) * (features[self.neighbour][:, number_columns] - start)
        made[:, number_columns] = start + np.where(np.isnan(step), np.float32(0), step)
        return made

    @classmethod
    def together(cls, parts: list[ExtraRows]) -> ExtraRows:
        """All parts, one after the other."""
        empty = np.zeros(0, dtype=np.int64)
        return cls(
            base=np.concatenate([empty, *(part.base for part in parts)]),
            neighbour=np.concatenate([empty, *(part.neighbour for part in parts)]),
            weight=np.concatenate([np.zeros(0), *(part.weight for part in parts)]),
        )


def num_extra_rows(num_members: Sequence[int], num_rows: int, shares: Sequence[float]) -> list[int]:
    """How many more rows of each group make it its share of all rows at least, the extra ones included.

    The least such numbers where no row is of two groups. The shares add up to less than 1.
    """
    extra = [0] * len(num_members)
    while True:
        whole = num_rows + sum(extra)
        # Less a hair: a share that is met exactly needs no row more.
        wanted = [max(0, ceil(share * whole - have - 1e-9)) for have, share in zip(num_members, shares, strict=True)]
        if wanted == extra:
            return extra
        extra = wanted


def copies(members: Rows, *, count: int, seed: int, group: int) -> ExtraRows:
    """`count` rows drawn from the group's `members`, each of them as often as any other, to one row."""
    return _drawn(members, count, seed=seed, group=group)


def interpolations(
    members: Rows,
    targets: npt.NDArray[np.generic],
    features: npt.NDArray[np.float32],
    *,
    count: int,
    seed: int,
    group: int,
) -> ExtraRows:
    """`count` rows, each between a member and one of its five nearest in the group with the same target.

    Chawla et al. 2002 ("SMOTE", section 6.1 for categories, which here stay the base's). `features` (n, d) and
    `targets` (n,) are of all train rows, dense. A member that has no other of its target is copied.
    """
    from sklearn.neighbors import NearestNeighbors

    chosen = _drawn(members, count, seed=seed, group=group)
    draws = uniforms(np.arange(count), width=2, seed=seed, epoch=group, purpose=_PURPOSE + 1)
    neighbour, weight = chosen.base.copy(), draws[:, 1]
    for target in np.unique(targets[members]):
        alike = members[targets[members] == target]
        num_near = min(_NUM_NEIGHBOURS, len(alike) - 1)
        is_of_target = targets[chosen.base] == target
        if num_near < 1 or not is_of_target.any():
            continue
        near = NearestNeighbors(n_neighbors=num_near).fit(features[alike]).kneighbors(return_distance=False)
        place = np.searchsorted(alike, chosen.base[is_of_target])
        pick = (draws[is_of_target, 0] * num_near).astype(np.int64)
        neighbour[is_of_target] = alike[near[place, pick]]
    return ExtraRows(base=chosen.base, neighbour=neighbour, weight=weight)


def _drawn(members: Rows, count: int, *, seed: int, group: int) -> ExtraRows:
    """Rounds over all members, and a random part of them in the last one; `members` are in ascending order."""
    order = members[np.argsort(uniforms(members, width=1, seed=seed, epoch=group, purpose=_PURPOSE)[:, 0])]
    base = np.resize(order, count)
    return ExtraRows(base=base, neighbour=base, weight=np.zeros(count))
