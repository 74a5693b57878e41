from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcluster.data.hashing import mix, seeded_shares, value_hashes
from mlcluster.data.split import (
    IN_GAP,
    TEST,
    TRAIN,
    VALIDATION,
    gap_of,
    split_by_column,
    split_by_hash,
    split_by_stratum,
    split_by_time,
    time_values,
)
from mlcluster.errors import DataError
from mlcluster.spec import SplitSpec

SHARES = SplitSpec(validation=0.2, test=0.3)


def rows(num_rows: int) -> np.ndarray:
    return mix(np.arange(num_rows, dtype=np.uint64))


def words(*values: str | None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, pa.string())])


def test_hashes_never_change() -> None:
    # A new value here would move rows of everybody's data from test to train.
    assert mix(np.array([0, 1], np.uint64)).tolist() == [16294208416658607535, 10451216379200822465]
    assert value_hashes(words("a", None)).tolist() == [3405396810240292928, 30796717039906407]
    assert seeded_shares(np.array([1, 2], np.uint64), 7).round(6).tolist() == [0.206219, 0.104949]


def test_shares_of_rows_are_near_what_was_asked_for() -> None:
    counts = np.bincount(split_by_hash(rows(100_000), SHARES, seed=1))
    assert counts / 100_000 == pytest.approx([0.5, 0.2, 0.3], abs=0.01)


def test_another_seed_gives_another_split() -> None:
    first, second = (split_by_hash(rows(1000), SHARES, seed=seed) for seed in (1, 2))
    assert (first == split_by_hash(rows(1000), SHARES, seed=1)).all()
    assert 0.4 < (first != second).mean() < 0.8


@given(keys=st.lists(st.integers(0, 20) | st.none(), min_size=1), seed=st.integers(0, 2**63))
def test_rows_of_one_entity_stay_together(keys: list[int | None], seed: int) -> None:
    hashes = value_hashes(pa.chunked_array([pa.array(keys, pa.int64())]))
    labels = split_by_hash(hashes, SHARES, seed=seed)
    for key in set(keys):
        assert len({label for label, other in zip(labels.tolist(), keys, strict=True) if other == key}) == 1


def test_equal_numbers_of_different_width_are_one_entity() -> None:
    narrow, wide = (value_hashes(pa.chunked_array([pa.array([1, 2], kind)])) for kind in (pa.int8(), pa.int64()))
    assert narrow.tolist() == wide.tolist()


def test_a_column_that_holds_all_splits_is_followed() -> None:
    labels = split_by_column(words("train", "Test", " val", "training"), rows(4), SHARES, seed=0)
    assert labels.tolist() == [TRAIN, TEST, VALIDATION, TRAIN]


def test_validation_is_carved_from_train_alone() -> None:
    labels = split_by_column(words(*["train"] * 5000, *["test"] * 5000), rows(10_000), SHARES, seed=0)
    assert (labels[5000:] == TEST).all()
    assert (labels[:5000] == VALIDATION).mean() == pytest.approx(SHARES.validation, abs=0.02)
    assert not (labels[:5000] == TEST).any()


def test_test_rows_are_carved_where_the_column_has_none() -> None:
    labels = split_by_column(words(*["train"] * 5000, *["validation"] * 500), rows(5500), SHARES, seed=0)
    assert (labels[:5000] == TEST).mean() == pytest.approx(SHARES.test, abs=0.02)
    assert (labels[5000:] == VALIDATION).all()


@pytest.mark.parametrize("value", ["maybe", None])
def test_a_split_word_that_nobody_knows_is_refused(value: str | None) -> None:
    with pytest.raises(DataError, match=r"data\.split\.column = part holds .*use the words train"):
        split_by_column(words("train", value), rows(2), SplitSpec(column="part"), seed=0)


@given(times=st.lists(st.integers(0, 30), min_size=3), data=st.data())
def test_no_test_row_is_earlier_than_a_train_row(times: list[int], data: st.DataObject) -> None:
    values = np.array(times, dtype=np.float64)
    if len(set(times)) < 3:
        with pytest.raises(DataError, match="too few for train"):
            split_by_time(values, SHARES)
        return
    labels, validation_from, test_from = split_by_time(values, SHARES)
    assert set(labels.tolist()) == {TRAIN, VALIDATION, TEST}
    assert values[labels == TRAIN].max() < validation_from <= values[labels == VALIDATION].min()
    assert values[labels == VALIDATION].max() < test_from <= values[labels == TEST].min()
    order = data.draw(st.permutations(range(len(times))))
    assert (split_by_time(values[order], SHARES)[0] == labels[order]).all()


def test_a_split_by_time_keeps_to_its_shares() -> None:
    labels, _, _ = split_by_time(np.arange(1000.0), SHARES)
    assert np.bincount(labels).tolist() == [500, 200, 300]


def test_times_in_any_form_have_one_order() -> None:
    days = [dt.date(2020, 1, 1), dt.date(2021, 6, 1), None]
    as_text = pa.chunked_array([pa.array([day.isoformat() if day else None for day in days])])
    as_dates = pa.chunked_array([pa.array(days)])
    as_times = as_dates.cast(pa.timestamp("ms"))
    expected = time_values(as_dates, "day")
    assert np.isnan(expected).tolist() == [False, False, True]
    for column in (as_text, as_times):
        assert time_values(column, "day")[:2].tolist() == expected[:2].tolist()


def test_text_that_is_no_time_is_refused() -> None:
    with pytest.raises(DataError, match=r"data\.time = day has type string with values that are no times"):
        time_values(words("soon"), "day")


def test_strata_have_their_share_of_every_split_to_the_row() -> None:
    rng = np.random.default_rng(0)
    strata = np.repeat(np.array([1, 2, 3], dtype=np.uint64), (1000, 50, 10))
    rng.shuffle(strata)
    hashes = mix(np.arange(len(strata), dtype=np.uint64))
    spec = SplitSpec(validation=0.2, test=0.1)
    labels = split_by_stratum(strata, hashes, spec, seed=3)
    for stratum, (num_validation, num_test) in {1: (200, 100), 2: (10, 5), 3: (2, 1)}.items():
        here = labels[strata == stratum]
        assert ((here == VALIDATION).sum(), (here == TEST).sum()) == (num_validation, num_test)
    assert (split_by_stratum(strata, hashes, spec, seed=3) == labels).all()
    assert (split_by_stratum(strata, hashes, spec, seed=4) != labels).any()


def test_a_gap_keeps_rows_away_from_both_cuts() -> None:
    times = np.arange(100.0)
    labels, validation_from, test_from = split_by_time(times, SplitSpec(), gap=5.0)
    assert (validation_from, test_from) == (60.0, 80.0)
    assert times[labels == TRAIN].max() < validation_from - 5
    assert times[labels == VALIDATION].max() < test_from - 5
    assert (labels == IN_GAP).sum() == 10
    assert (split_by_time(times, SplitSpec())[0] != IN_GAP).all()


@pytest.mark.parametrize(
    ("gap", "kind", "expected"),
    [("7d", pa.timestamp("ms"), 7 * 86400e6), ("30m", pa.string(), 1800e6), (48, pa.int64(), 48.0)],
)
def test_a_gap_is_in_the_units_of_the_time(gap: str | float, kind: pa.DataType, expected: float) -> None:
    assert gap_of(SplitSpec(gap=gap), kind) == expected


@pytest.mark.parametrize(("gap", "kind"), [("7d", pa.int64()), (7, pa.timestamp("us"))])
def test_a_gap_of_other_units_is_refused(gap: str | float, kind: pa.DataType) -> None:
    with pytest.raises(DataError, match=r"data\.split\.gap = 7(d|\.0) does not fit a time column of type"):
        gap_of(SplitSpec(gap=gap), kind)
