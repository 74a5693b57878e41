"""A row alone, in a batch of Python values and in an Arrow table: the same bits, or left to the careful way."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcluster.data import RowError, columns_to_table
from mlcluster.data.schema import FeatureColumn
from mlcluster.serve.short_way.row_encoder import RowEncoder
from mlcluster.spec import Expectation
from tests.registry.bundles import sample_schema, sample_table, sample_transform

SCHEMA = sample_schema("binary")
TRANSFORMS = {name: sample_transform(SCHEMA, name) for name in ("dense", "ordinal")}
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = {
    "income": st.none()
    | st.floats(-1e15, 1e15)
    | st.integers(-(10**15), 10**15)
    | st.sampled_from([0.0, -0.0, 5e-324]),
    "age": st.none() | st.integers(-(10**15), 10**15),
    "city": st.none() | st.sampled_from(["Oslo", "Rome", "Ħal Qormi", "", "Elsewhere"]) | st.text(max_size=3),
    "code": st.none() | st.integers(-3, 8),
    "member": st.none() | st.booleans(),
}
ANY = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=3), st.just([]), st.just({})
)


def columns_of(cells: dict[str, st.SearchStrategy], max_rows: int) -> st.SearchStrategy:
    rows = st.lists(st.fixed_dictionaries(cells), min_size=1, max_size=max_rows)
    return rows.map(lambda drawn: {name: [row[name] for row in drawn] for name in cells})


@pytest.mark.parametrize("encoding", ["dense", "ordinal"])
@given(columns=columns_of(PLAIN, 60))
@settings(max_examples=300, deadline=None)
def test_plain_values_give_the_bits_of_the_table(encoding, columns) -> None:
    transform = TRANSFORMS[encoding]
    encoder = RowEncoder.of(SCHEMA, transform)
    assert encoder is not None
    num_rows = len(columns["age"])
    expected = transform.apply(columns_to_table(columns, SCHEMA))
    found = encoder.encode(columns, num_rows)
    assert found is not None
    assert found.matrix.dtype == np.float32
    assert found.matrix.flags.c_contiguous
    assert found.matrix.tobytes() == expected.tobytes()


@pytest.mark.parametrize("encoding", ["dense", "ordinal"])
@given(columns=columns_of({name: cell | ANY for name, cell in PLAIN.items()}, 30))
@settings(max_examples=300, deadline=None)
def test_whatever_is_taken_is_also_taken_by_the_table_and_with_the_same_bits(encoding, columns) -> None:
    transform = TRANSFORMS[encoding]
    encoder = RowEncoder.of(SCHEMA, transform)
    assert encoder is not None
    found = encoder.encode(columns, len(columns["age"]))
    if found is not None:
        assert found.matrix.tobytes() == transform.apply(columns_to_table(columns, SCHEMA)).tobytes()


@pytest.mark.parametrize("num_rows", [1, 2, 500])
@pytest.mark.parametrize("encoding", ["dense", "ordinal"])
def test_arrays_are_taken_as_lists_are(encoding, num_rows) -> None:
    transform, table = TRANSFORMS[encoding], sample_table(num_rows, seed=5)
    encoder = RowEncoder.of(SCHEMA, transform)
    assert encoder is not None
    columns = {
        "income": np.array(table.column("income").to_pylist(), dtype=np.float64),
        "age": table.column("age").to_numpy(),
        "city": table.column("city").to_pylist(),
        "code": table.column("code").to_numpy(),
        "member": table.column("member").to_numpy(),
    }
    found = encoder.encode(columns, num_rows)
    assert found is not None
    assert found.matrix.tobytes() == transform.apply(table).tobytes()


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_an_infinity_in_an_array_is_left_to_the_careful(value) -> None:
    schema = dataclasses.replace(SCHEMA, features=SCHEMA.features[:2])
    transform = dataclasses.replace(TRANSFORMS["dense"], columns=TRANSFORMS["dense"].columns[:2])
    encoder = RowEncoder.of(schema, transform)
    assert encoder is not None
    columns = {"income": np.array([np.nan, 1.0] * 10), "age": np.arange(20)}
    table = columns_to_table({"income": [None, 1.0] * 10, "age": list(range(20))}, schema)
    found = encoder.encode(columns, 20)
    assert found is not None
    assert found.matrix.tobytes() == transform.apply(table).tobytes()
    columns["income"][3] = value
    assert encoder.encode(columns, 20) is None


def test_what_is_missing_in_an_array_breaks_the_rule_that_nothing_is() -> None:
    schema = dataclasses.replace(SCHEMA, expect={"income": Expectation(not_null=True)})
    encoder = RowEncoder.of(schema, TRANSFORMS["dense"])
    assert encoder is not None
    columns = sample_table(30).to_pydict() | {"income": np.linspace(0, 9, 30)}
    assert encoder.encode(columns, 30) is not None
    columns["income"][3] = np.nan
    assert encoder.encode(columns, 30) is None


@pytest.mark.parametrize("ends", [(0.0, 9.0), (-9.0, 0.0), (-0.0, 9.0), (-9.0, -0.0), (-9.0, 9.0)])
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_a_zero_has_one_sign_alone_and_in_a_batch(ends, zero) -> None:
    income, *others = TRANSFORMS["dense"].columns
    number = dataclasses.replace(income, low=ends[0], high=ends[1], center=0.0, scale=2.0)
    transform = dataclasses.replace(TRANSFORMS["dense"], columns=(number, *others))
    encoder = RowEncoder.of(SCHEMA, transform)
    assert encoder is not None
    for num_rows in (1, 40):
        columns = sample_table(num_rows).to_pydict() | {"income": [zero] * num_rows}
        found = encoder.encode(columns, num_rows)
        assert found is not None
        assert found.matrix.tobytes() == transform.apply(columns_to_table(columns, SCHEMA)).tobytes()


@pytest.mark.parametrize("num_rows", [1, 40])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("income", True),
        ("income", "1.5"),
        ("income", float("inf")),
        ("age", 41.5),
        ("age", 2**63),
        ("city", 3),
        ("code", 2**63),
        ("code", 1.0),
        ("member", 1),
    ],
)
def test_what_needs_care_is_left_to_it(num_rows, name, value) -> None:
    encoder = RowEncoder.of(SCHEMA, TRANSFORMS["dense"])
    assert encoder is not None
    columns = sample_table(num_rows).to_pydict()
    assert encoder.encode(columns, num_rows) is not None
    columns[name][-1] = value
    assert encoder.encode(columns, num_rows) is None


RULES = {
    "income": Expectation(min=0, max=100),
    "age": Expectation(not_null=True, min=18),
    "city": Expectation(one_of=("Oslo", "Rome", "Paris")),
    "code": Expectation(max=3),
    "member": Expectation(not_null=True),
}


@pytest.mark.parametrize("column", RULES)
@given(columns=columns_of({**PLAIN, "age": st.none() | st.integers(0, 99), "income": st.floats(-9, 109)}, 30))
@settings(max_examples=100, deadline=None)
def test_a_value_that_breaks_a_rule_is_never_taken_and_one_that_keeps_it_is(column, columns) -> None:
    schema = dataclasses.replace(SCHEMA, expect={column: RULES[column]})
    transform = TRANSFORMS["dense"]
    encoder = RowEncoder.of(schema, transform)
    assert encoder is not None
    found = encoder.encode(columns, len(columns["age"]))
    try:
        expected = transform.apply(columns_to_table(columns, schema))
    except RowError:
        assert found is None
        return
    assert found is not None
    assert found.matrix.tobytes() == expected.tobytes()


def test_a_column_of_another_type_leaves_the_whole_schema_to_the_table() -> None:
    decimal = FeatureColumn(name="income", kind="number", arrow_type="decimal128(10, 2)", has_missing=True)
    schema = dataclasses.replace(SCHEMA, features=(decimal, *SCHEMA.features[1:]))
    assert RowEncoder.of(schema, TRANSFORMS["dense"]) is None


def test_small_whole_numbers_keep_to_their_range() -> None:
    small = FeatureColumn(name="age", kind="number", arrow_type="int8", has_missing=False)
    schema = dataclasses.replace(SCHEMA, features=(SCHEMA.features[0], small, *SCHEMA.features[2:]))
    encoder = RowEncoder.of(schema, TRANSFORMS["dense"])
    assert encoder is not None
    columns = sample_table(1).to_pydict()
    for value, is_taken in ((-128, True), (127, True), (128, False), (-129, False)):
        assert (encoder.encode(columns | {"age": [value]}, 1) is not None) == is_taken


@pytest.mark.parametrize("encoding", ["dense", "ordinal"])
def test_raw_numbers_are_handed_on_as_they_came(encoding) -> None:
    encoder = RowEncoder.of(SCHEMA, TRANSFORMS[encoding])
    assert encoder is not None
    columns = sample_table(40, seed=6).to_pydict()
    columns["income"][:3] = [1e300, None, -0.0]
    found = encoder.encode(columns, 40)
    assert found is not None
    expected = np.array([columns["income"]], dtype=np.float64)
    np.testing.assert_array_equal(found.doubles, expected)
