"""The short way from values to the matrix has the bits of the long one, and takes nothing that the long one refuses."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlcluster.data import Encoding, RowError, TableSchema, columns_to_table
from mlcluster.errors import DataError
from mlcluster.serve.short_way.row_encoder import RowEncoder
from mlcluster.spec import Expectation
from tests.registry.bundles import sample_schema, sample_table, sample_transform

NUMBER_TYPES = ("double", "float", "int64", "int8", "uint16", "uint64")
NUMBERS = st.one_of(
    st.none(),
    st.floats(width=64),
    st.sampled_from([0.0, -0.0, 1e300, -1e300, 3.5e38, 2**53, 2**53 + 1, 2**63, -(2**63), 2**70, 255, -1, 41.0, 0.5]),
    st.integers(-(2**70), 2**70),
    st.booleans(),
    st.text(max_size=2),
)
CELLS: dict[str, st.SearchStrategy[Any]] = {
    "income": NUMBERS,
    "age": NUMBERS,
    "city": st.one_of(st.none(), st.sampled_from(["Oslo", "Rome", "Ħal Qormi", "Bonn", ""]), st.integers(0, 3)),
    "code": st.one_of(st.none(), st.integers(-1, 9), st.sampled_from([2**63, 2.0, True, "1"])),
    "member": st.one_of(st.none(), st.booleans(), st.sampled_from([0, 1, "true"])),
}
PLAIN: dict[str, st.SearchStrategy[Any]] = {
    "income": st.none() | st.floats(-1e30, 1e30),
    "age": st.none() | st.integers(0, 120),
    "city": st.none() | st.sampled_from(["Oslo", "Rome", "Bonn"]),
    "code": st.none() | st.integers(0, 9),
    "member": st.none() | st.booleans(),
}
RULES = st.fixed_dictionaries(
    {},
    optional={
        "income": st.sampled_from([Expectation(min=-5.0), Expectation(max=10.0, not_null=True)]),
        "age": st.sampled_from([Expectation(min=0, max=120), Expectation(one_of=(1, 41, 255))]),
        "city": st.just(Expectation(one_of=("Oslo", "Bonn"))),
        "code": st.just(Expectation(one_of=(1, 2, 3), not_null=True)),
        "member": st.just(Expectation(not_null=True)),
    },
)


def schema_of(kind: str, rules: dict[str, Expectation]) -> TableSchema:
    schema = sample_schema("binary")
    income, age, *others = schema.features
    return replace(schema, features=(income, replace(age, arrow_type=kind), *others), expect=rules)


def columns_of(cells: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, list[Any]]]:
    def rows(count: int) -> st.SearchStrategy[dict[str, list[Any]]]:
        return st.fixed_dictionaries(
            {name: st.lists(cell, min_size=count, max_size=count) for name, cell in cells.items()}
        )

    return st.integers(1, 3).flatmap(rows)


@pytest.mark.parametrize("encoding", ["dense", "ordinal"])
@given(columns=columns_of(CELLS), kind=st.sampled_from(NUMBER_TYPES), rules=RULES)
@example(columns={name: [-0.0 if name == "age" else None] for name in CELLS}, kind="int64", rules={})
@settings(max_examples=400)
def test_what_is_taken_has_the_bits_of_the_careful_way(
    encoding: Encoding, columns: dict[str, list[Any]], kind: str, rules: dict[str, Expectation]
) -> None:
    schema = schema_of(kind, rules)
    transform = sample_transform(sample_schema("binary"), encoding)
    encoder = RowEncoder.of(schema, transform)
    assert encoder is not None
    found = encoder.encode(columns, len(columns["age"]))
    try:
        expected = transform.apply(columns_to_table(columns, schema))
    except (RowError, DataError):
        assert found is None
        return
    if found is not None:
        assert found.matrix.tobytes() == expected.tobytes()
        assert found.matrix.dtype == expected.dtype


@pytest.mark.parametrize("encoding", ["dense", "ordinal"])
@given(columns=columns_of(PLAIN), kind=st.sampled_from(["double", "int64", "uint16"]))
def test_plain_values_are_taken(encoding: Encoding, columns: dict[str, list[Any]], kind: str) -> None:
    transform = sample_transform(sample_schema("binary"), encoding)
    encoder = RowEncoder.of(schema_of(kind, {}), transform)
    assert encoder is not None
    assert encoder.encode(columns, len(columns["age"])) is not None


def test_a_row_alone_has_the_bits_of_a_row_among_others() -> None:
    schema = sample_schema("binary")
    table = sample_table(200, seed=9)
    columns = table.to_pydict()
    columns["income"][:3] = [1e300, -1e300, -0.0]
    for encoding in ("dense", "ordinal"):
        encoder = RowEncoder.of(schema, sample_transform(schema, encoding))  # type: ignore[arg-type]
        assert encoder is not None
        together = encoder.encode(columns, 200)
        alone = [encoder.encode({name: [values[row]] for name, values in columns.items()}, 1) for row in range(200)]
        assert together is not None
        assert np.concatenate([one.matrix for one in alone]).tobytes() == together.matrix.tobytes()


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"income": [1.0]},
        {"income": [1.0], "age": [1], "city": ["Oslo"], "code": [1], "member": [True], "extra": [1]},
        {"income": [1.0], "age": [1], "city": ["Oslo"], "code": [1], "membre": [True]},
        {"income": [1.0, 2.0], "age": [1], "city": ["Oslo"], "code": [1], "member": [True]},
        {"income": [math.nan], "age": [1], "city": ["Oslo"], "code": [1], "member": [True]},
        {"income": [[1.0]], "age": [1], "city": ["Oslo"], "code": [1], "member": [True]},
    ],
)
def test_other_columns_are_left_to_the_careful_way(columns: dict[str, list[Any]]) -> None:
    schema = sample_schema("binary")
    encoder = RowEncoder.of(schema, sample_transform(schema, "dense"))
    assert encoder is not None
    assert encoder.encode(columns, 1) is None


@pytest.mark.parametrize("kind", ["decimal128(10, 2)", "halffloat"])
def test_types_that_it_cannot_take_make_no_encoder(kind: str) -> None:
    schema = sample_schema("binary")
    assert RowEncoder.of(schema_of(kind, {}), sample_transform(schema, "dense")) is None
