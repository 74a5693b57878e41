"""Which row is learned from, which is tuned on, and which is kept for the verdict.

Pure functions of the values: they depend on the rows and the seed, never on the order in which workers finish.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mlcluster.data.hashing import HashVector, seeded_shares
from mlcluster.errors import DataError
from mlcluster.spec import SplitSpec, span_seconds

SPLITS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = 0, 1, 2
DROPPED, QUARANTINED, UNLABELLED, IN_GAP = -1, -2, -3, -4
"""Why a row is in no split: another reason, a broken expectation, no target, or too near to a cut in time."""
SplitLabels = npt.NDArray[np.int8]

_WORDS = {
    "train": TRAIN,
    "training": TRAIN,
    "validation": VALIDATION,
    "valid": VALIDATION,
    "val": VALIDATION,
    "dev": VALIDATION,
    "test": TEST,
    "testing": TEST,
    "holdout": TEST,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitRule:
    """How the rows were parted, in a form that can be written down. The cuts are of a split by time."""

    kind: Literal["column", "time", "key", "group", "stratum", "row"]
    column: str | None
    validation: float
    test: float
    seed: int
    validation_from: float | None = None
    """Rows at this time and later are no train rows (microseconds for dates, else the value)."""
    test_from: float | None = None
    gap: float | None = None
    """Rows nearer than this before a cut are in no split; in the units of the cuts."""
    stratified_by: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def split_by_hash(hashes: HashVector, spec: SplitSpec, *, seed: int) -> SplitLabels:
    """Labels of n rows by the hash of what must stay together: the entity, or the row number."""
    shares = seeded_shares(hashes, seed)
    labels = np.full(len(hashes), TRAIN, dtype=np.int8)
    labels[shares < spec.test + spec.validation] = VALIDATION
    labels[shares < spec.test] = TEST
    return labels


def split_by_stratum(strata: HashVector, hashes: HashVector, spec: SplitSpec, *, seed: int) -> SplitLabels:
    """Labels of n rows, in each stratum to the row: the rows with the smallest hashes are tested on, and so forth."""
    shares = seeded_shares(hashes, seed)
    labels = np.full(len(hashes), TRAIN, dtype=np.int8)
    order = np.lexsort((shares, strata))
    starts = np.flatnonzero(np.diff(strata[order], prepend=strata[order][:1] ^ np.uint64(1)))
    for rows in np.split(order, starts[1:]):
        num_test = round(spec.test * len(rows))
        num_held_out = round((spec.test + spec.validation) * len(rows))
        labels[rows[:num_held_out]] = VALIDATION
        labels[rows[:num_test]] = TEST
    return labels


def split_by_column(words: pa.ChunkedArray, hashes: HashVector, spec: SplitSpec, *, seed: int) -> SplitLabels:
    """Labels as the column says; what it does not know is set aside from its train rows by hash.

    Raises:
        DataError: a word is none of train, validation, test, or no row is for training.
    """
    encoded = words.cast(pa.string()).dictionary_encode().unify_dictionaries().combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0)
    levels = encoded.dictionary.to_pylist()
    unknown = [level for level in levels if level is None or level.strip().lower() not in _WORDS]
    if unknown or encoded.null_count:
        shown = repr(unknown[0]) if unknown else "missing values"
        raise DataError(
            f"data.split.column = {spec.column} holds {shown}; use the words train, validation and test in every row."
        )
    table = np.array([_WORDS[level.strip().lower()] for level in levels], dtype=np.int8)
    labels = np.asarray(table[encoded.indices.to_numpy(zero_copy_only=False)])
    shares = seeded_shares(hashes, seed)
    is_train = labels == TRAIN
    has_test = bool((labels == TEST).any())
    if not (labels == VALIDATION).any():
        low = 0.0 if has_test else spec.test
        labels[is_train & (shares >= low) & (shares < low + spec.validation)] = VALIDATION
    if not has_test:
        labels[is_train & (shares < spec.test)] = TEST
    return labels


def gap_of(spec: SplitSpec, kind: pa.DataType) -> float:
    """The gap in the units of `time_values` of a column of this type; 0 without one.

    Raises:
        DataError: a span of time is given for numbers, or a number for times.
    """
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if spec.gap is None:
        return 0.0
    if isinstance(spec.gap, str) == is_number:
        fix = "give a number in its units" if is_number else "give a span like 7d"
        raise DataError(f"data.split.gap = {spec.gap} does not fit a time column of type {kind}; {fix}.")
    return span_seconds(spec.gap.strip()) * 1e6 if isinstance(spec.gap, str) else float(spec.gap)


def split_by_time(
    times: npt.NDArray[np.float64], spec: SplitSpec, gap: float = 0.0
) -> tuple[SplitLabels, float, float]:
    """Labels by time, the latest rows for the test, and the two cuts. Rows of one moment stay together.

    `times` (n,) has no NaN. The cuts lie between two moments, as near to the shares as the moments allow.

    Raises:
        DataError: there are fewer than three moments.
    """
    moments, counts = np.unique(times, return_counts=True)
    if len(moments) < 3:
        raise DataError(
            f"data.time has {len(moments)} distinct values, too few for train, validation and test; "
            "use a finer time or drop `time`."
        )
    before = np.cumsum(counts)[:-1]  # rows before the cut in front of moment i + 1
    num_rows = len(times)
    test_cut = 1 + int(np.argmin(np.abs(before[1:] - num_rows * (1 - spec.test))))
    wanted = num_rows * (1 - spec.test - spec.validation)
    validation_cut = int(np.argmin(np.abs(before[:test_cut] - wanted)))
    validation_from, test_from = float(moments[validation_cut + 1]), float(moments[test_cut + 1])
    labels = np.full(num_rows, TRAIN, dtype=np.int8)
    labels[times >= validation_from - gap] = IN_GAP
    labels[times >= validation_from] = VALIDATION
    labels[(times >= max(test_from - gap, validation_from)) & (times < test_from)] = IN_GAP if gap else VALIDATION
    labels[times >= test_from] = TEST
    return labels, validation_from, test_from


def time_values(column: pa.ChunkedArray, name: str) -> npt.NDArray[np.float64]:
    """Times as numbers that order them, NaN where missing, (n,). Dates and timestamps are in microseconds.

    Raises:
        DataError: the column is no time, number or ISO 8601 text.
    """
    kind = column.type
    try:
        if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_date(kind):
            column = column.cast(pa.string()).cast(pa.timestamp("us")) if not pa.types.is_date(kind) else column
            column = column.cast(pa.timestamp("us"))
        if pa.types.is_timestamp(column.type):
            column = pc.cast(column, pa.timestamp("us", tz=column.type.tz), safe=False).cast(pa.int64())
        values = pc.cast(column, pa.float64(), safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"data.time = {name} has type {kind} with values that are no times; use a timestamp, a number or ISO 8601."
        ) from error
    return np.array(values.to_numpy(), dtype=np.float64)
