"""The numbers of a join, added up block by block from what the rows have found."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlcluster.data.joins.keys import AMBIGUOUS, AS_IS, NEAR, NORMALISED, Found, RightKeys, shown
from mlcluster.data.joins.places import RightPlaces
from mlcluster.data.joins.report import NUM_EXAMPLES, JoinReport
from mlcluster.spec import JoinSpec


class Tally:
    """What the blocks so far have found among `keys`."""

    def __init__(self, keys: RightKeys | RightPlaces, wanted: JoinSpec) -> None:
        self._keys = keys
        self._wanted = wanted
        self._counts: Counter[str | int] = Counter()
        self._is_used = np.zeros(len(keys.counts), dtype=bool)
        self._lost: dict[str, None] = {}
        self._near: dict[str, None] = {}
        self._fan_out, self._fan_out_key = 0, ""

    def add(self, found: Found) -> None:
        """One more block."""
        is_matched = found.is_matched
        fan_outs = self._keys.counts[found.groups[is_matched]]
        is_missing = found.texts.is_null().to_numpy(zero_copy_only=False)
        self._is_used[found.groups[is_matched]] = True
        for way in (AS_IS, NORMALISED, NEAR):
            self._counts[way] += int((is_matched & (found.ways == way)).sum())
        kept = int((~is_matched).sum()) if self._wanted.how == "left" else 0
        self._counts["in"] += len(is_matched)
        self._counts["out"] += int(fan_outs.sum()) + kept
        self._counts["missing"] += int(is_missing.sum())
        self._counts["ambiguous"] += int((found.groups == AMBIGUOUS).sum())
        for row in np.flatnonzero(~is_matched & ~is_missing):
            if not _add_example(self._lost, _text(found.texts, row)):
                break
        for row in np.flatnonzero(is_matched & (found.ways == NEAR)):
            pair = f"{_text(found.texts, row)} ~ {_text(self._keys.as_is, found.groups[row])}"
            if not _add_example(self._near, pair):
                break
        if len(fan_outs) and fan_outs.max() > self._fan_out:
            self._fan_out = int(fan_outs.max())
            self._fan_out_key = _text(found.texts, np.flatnonzero(is_matched)[fan_outs.argmax()])

    def report(self, *, rows_right: int) -> JoinReport:
        """All of it."""
        unused = self._keys.as_is.filter(pa.array(~self._is_used)).slice(0, NUM_EXAMPLES)
        return JoinReport(
            source=self._wanted.source,
            on=_on(self._wanted),
            how=self._wanted.how,
            rows_in=self._counts["in"],
            rows_right=rows_right,
            rows_out=self._counts["out"],
            matched_as_is=self._counts[AS_IS],
            matched_normalised=self._counts[NORMALISED],
            matched_near=self._counts[NEAR],
            missing_key=self._counts["missing"],
            ambiguous=self._counts["ambiguous"],
            unmatched_examples=tuple(self._lost),
            near_examples=tuple(self._near),
            unmatched_right=rows_right - int(self._keys.counts[self._is_used].sum()),
            unmatched_right_examples=tuple(shown(key) for key in unused.to_pylist()),
            largest_fan_out=self._fan_out,
            largest_fan_out_key=self._fan_out_key or None,
        )


def _add_example(examples: dict[str, None], text: str) -> bool:
    """Whether there is room for more."""
    if len(examples) < NUM_EXAMPLES:
        examples[text] = None
    return len(examples) < NUM_EXAMPLES


def _text(texts: pa.Array, row: npt.NDArray[np.int64] | np.int64) -> str:
    return shown(texts[int(row)].as_py())


def _on(wanted: JoinSpec) -> tuple[str, ...]:
    if wanted.place is not None:
        left, right = (", ".join(columns) for columns in (wanted.left_columns, wanted.right_columns))
        return (f"{left if left == right else f'{left} = {right}'} within {wanted.place.within_m:g} m",)
    return tuple(key.left if key.left == key.right else f"{key.left} = {key.right}" for key in wanted.on)
