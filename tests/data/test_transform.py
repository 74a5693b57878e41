from __future__ import annotations

import json
import time

import numpy as np
import pyarrow as pa
import pytest
from data_tables import PEOPLE, encodings, fitted, partials_of, people, people_tables
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcluster.data import ENCODINGS, Encoding, Transform, columns_to_table
from mlcluster.data.fit import fit_transform
from mlcluster.data.transform import CodedCategory
from mlcluster.errors import DataError
from tests.pace import seconds_of_sum


def one_person(**values: object) -> pa.Table:
    row: dict[str, object] = {"age": 40, "hours": 38.5, "job": "cook", "member": True, **values}
    return columns_to_table({name: [value] for name, value in row.items()}, PEOPLE)


@settings(max_examples=60, deadline=None)
@given(train=people_tables(min_rows=2), rows=people_tables(), encoding=encodings, repeat=st.sampled_from([1, 2, 20]))
def test_a_row_alone_and_in_a_batch_gives_the_same_bits(
    train: pa.Table, rows: pa.Table, encoding: Encoding, repeat: int
) -> None:
    transform = fitted(train, encoding)
    batch = transform.apply(pa.concat_tables([rows] * repeat))
    alone = np.concatenate([transform.apply(rows.slice(index, 1)) for index in range(rows.num_rows)])
    assert batch.tobytes() == np.concatenate([alone] * repeat).tobytes()


@settings(max_examples=60, deadline=None)
@given(train=people_tables(min_rows=2), rows=people_tables())
def test_the_dense_encoding_is_always_finite(train: pa.Table, rows: pa.Table) -> None:
    assert np.isfinite(fitted(train, "dense").apply(rows)).all()


@settings(max_examples=60, deadline=None)
@given(train=people_tables(min_rows=2), rows=people_tables(), encoding=encodings)
def test_the_matrix_is_as_wide_as_its_names(train: pa.Table, rows: pa.Table, encoding: Encoding) -> None:
    transform = fitted(train, encoding)
    matrix = transform.apply(rows)
    assert matrix.shape == (rows.num_rows, transform.num_outputs) == (rows.num_rows, len(transform.output_names))
    assert matrix.dtype == np.float32
    assert matrix.flags["C_CONTIGUOUS"]
    assert not np.isinf(matrix).any()


@settings(max_examples=60, deadline=None)
@given(train=people_tables(min_rows=2), encoding=encodings)
def test_json_gives_back_an_equal_transform(train: pa.Table, encoding: Encoding) -> None:
    transform = fitted(train, encoding)
    again = Transform.from_json(json.loads(json.dumps(transform.to_json())))
    assert again == transform
    assert again.digest == transform.digest


@settings(max_examples=40, deadline=None)
@given(train=people_tables(min_rows=2), encoding=encodings, data=st.data())
def test_the_order_of_train_rows_does_not_matter(train: pa.Table, encoding: Encoding, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(train.num_rows)))
    assert fitted(train.take(order), encoding).digest == fitted(train, encoding).digest


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_column_order_and_extra_columns_do_not_matter(encoding: Encoding) -> None:
    table = people(50)
    transform = fitted(table, encoding)
    shuffled = table.select(["rich", "member", "job", "person", "age", "hours"])
    assert transform.apply(shuffled).tobytes() == transform.apply(table).tobytes()


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("kind", [pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_how_strings_are_stored_does_not_matter(encoding: Encoding, kind: pa.DataType) -> None:
    table = people(50)
    position = table.schema.get_field_index("job")
    stored = table.set_column(position, "job", table.column("job").cast(kind))
    in_chunks = pa.concat_tables([stored.slice(0, 20), stored.slice(20)])
    transform = fitted(table, encoding)
    assert transform.apply(in_chunks).tobytes() == transform.apply(table).tobytes()


def test_an_unseen_level_is_the_other_level() -> None:
    train = people(400)
    dense, ordinal = fitted(train, "dense"), fitted(train, "ordinal")
    row = dense.apply(one_person(job="astronaut"))[0]
    hot = [name for name, value in zip(dense.output_names, row, strict=True) if name.startswith("job=") and value]
    assert hot == ["job=<other>"]
    category = next(column for column in ordinal.columns if isinstance(column, CodedCategory))
    assert ordinal.apply(one_person(job="astronaut"))[0, 2] == category.other_code


def test_missing_values_have_their_own_place_when_train_had_some() -> None:
    train = people(400)
    dense = fitted(train, "dense")
    row = dict(zip(dense.output_names, dense.apply(one_person(age=None, job=None))[0].tolist(), strict=True))
    assert row["age:missing"] == 1.0
    assert row["hours:missing"] == 0.0
    assert row["job=<missing>"] == 1.0
    assert np.isnan(fitted(train, "ordinal").apply(one_person(age=None))[0, 0])


def test_missing_values_that_train_never_had_are_still_encoded() -> None:
    train = people(400).drop_null()
    train = train.filter(pa.array(~np.isnan(train.column("hours").to_numpy())))
    dense = fitted(train, "dense")
    assert not [name for name in dense.output_names if "missing" in name]
    row = dict(zip(dense.output_names, dense.apply(one_person(hours=None, job=None))[0].tolist(), strict=True))
    assert row["job=<other>"] == 1.0
    assert np.isfinite(row["hours"])


def test_dense_numbers_are_standardised_on_train() -> None:
    table = people(2000)
    column = fitted(table, "dense").apply(table)[:, 0].astype(np.float64)
    assert abs(column.mean()) < 1e-6
    assert abs(column.std() - 1) < 1e-6


def test_dense_numbers_are_clipped_at_the_train_quantiles() -> None:
    transform = fitted(people(2000), "dense")
    far, further = transform.apply(one_person(hours=1e6)), transform.apply(one_person(hours=1e12))
    assert far.tobytes() == further.tobytes()


def test_a_column_that_is_constant_on_train_gives_zero() -> None:
    table = people(100).set_column(1, "hours", pa.array([7.25] * 100))
    dense = fitted(table, "dense")
    position = dense.output_names.index("hours")
    assert dense.apply(table)[:, position].tolist() == [0.0] * 100
    assert dense.apply(one_person(hours=9.0))[0, position] == 0.0


def test_a_rare_flag_is_not_clipped_away() -> None:
    table = people(1000).set_column(3, "member", pa.array([index < 3 for index in range(1000)]))
    dense = fitted(table, "dense")
    position = dense.output_names.index("member")
    assert dense.apply(one_person(member=True))[0, position] > 1
    assert dense.apply(one_person(member=False))[0, position] < 0


def test_levels_are_coded_in_the_order_of_their_target_mean() -> None:
    table = people(5000)
    transform = fitted(table, "ordinal")
    category = next(column for column in transform.columns if isinstance(column, CodedCategory))
    codes = dict(zip(category.levels, category.codes, strict=True))
    assert codes["pilot"] == max(codes.values())


def test_at_most_32_levels_are_one_hot() -> None:
    jobs = [f"job {index % 100}" for index in range(4000)]
    table = people(4000).set_column(2, "job", pa.array(jobs))
    names = [name for name in fitted(table, "dense").output_names if name.startswith("job=")]
    assert len(names) == 33
    assert names[-1] == "job=<other>"


def test_no_rows_give_an_empty_matrix() -> None:
    transform = fitted(people(50), "dense")
    assert transform.apply(people(0)).shape == (0, transform.num_outputs)


def test_an_absent_feature_is_named() -> None:
    with pytest.raises(DataError, match="lacks the feature 'job'"):
        fitted(people(50), "dense").apply(people(5).drop_columns(["job"]))


def test_text_in_a_number_column_is_refused() -> None:
    table = people(5).set_column(0, "age", pa.array(["a"] * 5))
    with pytest.raises(DataError, match="is no number"):
        fitted(people(50), "dense").apply(table)


@pytest.mark.parametrize("damage", [{}, {"encoding": "dense"}, {"encoding": "sparse", "columns": []}])
def test_damaged_json_is_refused(damage: dict[str, object]) -> None:
    with pytest.raises(DataError, match="no fitted transform"):
        Transform.from_json(damage)


def test_every_feature_knows_its_output_columns() -> None:
    transform = fit_transform(PEOPLE, partials_of(people(400)), "dense")
    spans = [transform.feature_slices[name] for name in PEOPLE.feature_names]
    assert spans[0].start == 0
    assert [span.stop for span in spans[:-1]] == [span.start for span in spans[1:]]
    assert spans[-1].stop == transform.num_outputs


@pytest.mark.slow
def test_one_row_takes_less_than_to_add_up_five_thousand_squares() -> None:
    transform = fitted(people(400), "dense")
    row = one_person()
    transform.apply(row)
    seconds = []
    for _ in range(300):
        start = time.perf_counter()
        transform.apply(row)
        seconds.append(time.perf_counter() - start)
    assert np.median(seconds) < seconds_of_sum()
