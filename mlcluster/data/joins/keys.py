"""Keys as texts that are equal where two sources mean the same, whatever types they are kept in, and as numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mlcluster.data.joins.nearest import NearestKeys
from mlcluster.data.joins.normalise import normalised
from mlcluster.data.transform import dictionary_of
from mlcluster.spec import JoinSpec

_PARTS = "\x1f"
"""Between the columns of a key: the unit separator of ASCII, which no key holds."""
_MAX_KNOWN = 2_000_000
"""Some 300 MB of short keys."""
NONE = -1
AMBIGUOUS = -2

AS_IS, NORMALISED, NEAR = 0, 1, 2

Ways = npt.NDArray[np.int8]
"""For each row (n,) how its key was found."""
Groups = npt.NDArray[np.int64]
"""For each row (n,) the number of its key on the right; `NONE` or `AMBIGUOUS` where it has none."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What n rows have found: their keys as text (null where missing), which of the right's, and how."""

    texts: pa.Array
    groups: Groups
    ways: Ways

    @property
    def is_matched(self) -> npt.NDArray[np.bool_]:
        return self.groups >= 0


def key_texts(table: pa.Table, columns: Sequence[str]) -> pa.Array:
    """The key of each row as text, null where a part of it is missing, (n,). 7, 7.0 and "7" are one key."""
    parts = [_texts(table.column(name)) for name in columns]
    joined = parts[0] if len(parts) == 1 else pc.binary_join_element_wise(*parts, _PARTS, null_handling="emit_null")
    return joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined


def shown(text: str) -> str:
    """A key for people."""
    return text.replace(_PARTS, " | ")


@dataclass(frozen=True, kw_only=True)
class RightKeys:
    """The keys of the other source. A key's number says where its rows begin in `rows`, and how many there are."""

    as_is: pa.Array
    """The distinct keys, (k,)."""
    by_form: pa.Array
    """The distinct normalised forms, (m,)."""
    form_groups: Groups
    """For each form the key's number, or `AMBIGUOUS` where several keys share it, (m,)."""
    starts: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    """Numbers of the other source's rows, by key and in their order."""
    known_forms: dict[str, str]
    """By key, those of both sides."""
    nearest: NearestKeys | None
    """Over `by_form`, where near keys are asked for."""
    wanted: JoinSpec

    @classmethod
    def of(cls, right: pa.Table, wanted: JoinSpec) -> RightKeys:
        """The keys of all rows; a missing one is found by nobody."""
        texts = key_texts(right, wanted.right_columns)
        encoded = dictionary_of(pa.chunked_array([texts]))
        keys = encoded.dictionary
        groups = pc.fill_null(encoded.indices, len(keys)).to_numpy(zero_copy_only=False).astype(np.int64)
        order = np.argsort(groups, kind="stable")
        counts = np.bincount(groups, minlength=len(keys) + 1)[: len(keys)].astype(np.int64)
        known: dict[str, str] = {}
        forms = dictionary_of(pa.chunked_array([_forms(keys, wanted, known)]))
        of_form = forms.indices.to_numpy(zero_copy_only=False)
        form_groups = np.full(len(forms.dictionary), NONE, dtype=np.int64)
        form_groups[of_form] = np.arange(len(keys))
        form_groups[np.bincount(of_form, minlength=len(form_groups)) > 1] = AMBIGUOUS
        return cls(
            as_is=keys,
            by_form=forms.dictionary,
            form_groups=form_groups,
            starts=np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64) if len(counts) else counts,
            counts=counts,
            rows=order[: int(counts.sum())],
            known_forms=known,
            nearest=None
            if wanted.near is None or not len(keys)
            else NearestKeys(forms.dictionary.to_pylist(), min_similarity=wanted.near),
            wanted=wanted,
        )

    def find(self, rows: pa.Table) -> Found:
        """The key of each row.

        A key that stands on the right just so is it, even where others have the same form or are near.
        """
        texts = key_texts(rows, self.wanted.left_columns)
        encoded = dictionary_of(pa.chunked_array([texts]))
        found = pc.fill_null(pc.index_in(encoded.dictionary, value_set=self.as_is), NONE)
        groups = found.to_numpy(zero_copy_only=False).astype(np.int64)
        ways = np.full(len(groups), AS_IS, dtype=np.int8)
        forms = _forms(encoded.dictionary, self.wanted, self.known_forms)
        if self.wanted.normalise:
            by_form = pc.fill_null(pc.index_in(forms, value_set=self.by_form), NONE)
            self._take(groups, ways, by_form.to_numpy(zero_copy_only=False), NORMALISED)
        if self.nearest is not None:
            is_open = groups == NONE
            places = np.full(len(groups), NONE, dtype=np.int64)
            places[is_open] = self.nearest.find(forms.filter(pa.array(is_open)).to_pylist())
            self._take(groups, ways, places, NEAR)
        indices = pc.fill_null(encoded.indices, len(groups)).to_numpy(zero_copy_only=False)
        return Found(
            texts=texts, groups=np.append(groups, NONE)[indices], ways=np.append(ways, np.int8(AS_IS))[indices]
        )

    def _take(self, groups: Groups, ways: Ways, places: npt.NDArray[np.int64], way: int) -> None:
        """The keys at `places` of `by_form` for those that have none yet."""
        is_found = (groups == NONE) & (places != NONE)
        groups[is_found] = self.form_groups[places[is_found]]
        ways[is_found] = way


def _forms(keys: pa.Array, wanted: JoinSpec, known: dict[str, str]) -> pa.Array:
    """The normalised form of each key, part by part, for an abbreviation ends with its part.

    `known` are forms from before, for the same keys come again in each block.
    """
    if not wanted.normalise:
        return keys
    texts = keys.to_pylist()
    new = [text for text in texts if text not in known]
    if len(known) + len(new) > _MAX_KNOWN:
        known.clear()
        new = texts
    flat = normalised([part for text in new for part in text.split(_PARTS)], wanted.normalise, wanted.abbreviations)
    width = len(wanted.on)
    forms = (_PARTS.join(flat[start : start + width]) for start in range(0, len(flat), width))
    known.update(zip(new, forms, strict=True))
    return pa.array([known[text] for text in texts], pa.string())


def _texts(column: pa.ChunkedArray) -> pa.Array:
    """By value, for what a type says in one block it must say in all."""
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind):
        return column.cast(pa.string()).combine_chunks()
    if pa.types.is_timestamp(kind):
        column = column.cast(pa.timestamp("us", tz=kind.tz), safe=False)
    if pa.types.is_date64(kind):
        column = column.cast(pa.date32())
    encoded = dictionary_of(column)
    words = [_text(value) for value in encoded.dictionary.to_pylist()]
    return pa.array(words, pa.string()).take(encoded.indices)


def _text(value: object) -> str | None:
    if value is None or value != value:  # noqa: PLR0124 - NaN, which is a missing key
        return None
    if isinstance(value, float) and math.isinf(value):
        return str(value)
    if isinstance(value, float | Decimal) and value == int(value):
        return str(int(value))
    return str(value)
