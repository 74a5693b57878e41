"""The nearest key where none agrees: for slips of the pen, which no normal form undoes.

Two keys are compared only if the same numbers stand in both, for 12 Oak Street is no slip of 13 Oak Street, and that
also keeps the comparisons few (record linkage calls it blocking). Nearness is the cosine of their weighted letter pairs
and triples; the weights are of the other source's keys alone, so that a key is found whatever block it stands in.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_NUMBER = re.compile(r"\w*\d\w*")
_MIN_LEAD = 0.05
"""By which the nearest key must be nearer than the second: what is near to two is neither's."""
_MAX_CELLS = 20_000_000
"""Of similarities at a time, 160 MB."""
_MAX_KNOWN = 2_000_000


class NearestKeys:
    """Finds the nearest of `keys`, (k,), which are in normal form and all different."""

    def __init__(self, keys: Sequence[str], *, min_similarity: float) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._min_similarity = min_similarity
        self._vectorizer = TfidfVectorizer(analyzer="char", ngram_range=(2, 3), lowercase=False)
        self._matrix = self._vectorizer.fit_transform([_framed(key) for key in keys])
        self._known: dict[str, int] = {}
        """What was found before: the same keys come again in each block."""
        self._by_numbers: dict[tuple[str, ...], list[int]] = {}
        for place, key in enumerate(keys):
            self._by_numbers.setdefault(_numbers(key), []).append(place)

    def find(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """For each text the place of its nearest key, or -1 where none is near enough or two are, (n,)."""
        new = list(dict.fromkeys(text for text in texts if text not in self._known))
        if len(self._known) + len(new) > _MAX_KNOWN:
            self._known.clear()
            new = list(dict.fromkeys(texts))
        self._known.update(zip(new, self._search(new).tolist(), strict=True))
        return np.array([self._known[text] for text in texts], dtype=np.int64)

    def _search(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        found = np.full(len(texts), -1, dtype=np.int64)
        groups: dict[tuple[str, ...], list[int]] = {}
        for row, text in enumerate(texts):
            groups.setdefault(_numbers(text), []).append(row)
        for numbers, rows in groups.items():
            places = np.array(self._by_numbers.get(numbers, []), dtype=np.int64)
            step = max(1, _MAX_CELLS // max(len(places), 1))
            for start in range(0, len(rows) if len(places) else 0, step):
                some = rows[start : start + step]
                found[some] = self._nearest([texts[row] for row in some], places)
        return found

    def _nearest(self, texts: Sequence[str], places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        vectors = self._vectorizer.transform([_framed(text) for text in texts])
        similarity = np.asarray((vectors @ self._matrix[places].T).todense())
        best = similarity.argmax(axis=1)
        nearest = similarity.max(axis=1)
        similarity[np.arange(len(best)), best] = 0.0
        is_clear = (nearest >= self._min_similarity) & (nearest - similarity.max(axis=1) >= _MIN_LEAD)
        return np.where(is_clear, places[best], -1)


def _framed(text: str) -> str:
    """With an edge at either end: a first letter says more than one within."""
    return f"\x02{text}\x03"


def _numbers(text: str) -> tuple[str, ...]:
    return tuple(sorted(_NUMBER.findall(text)))
