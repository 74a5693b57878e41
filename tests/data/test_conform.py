from __future__ import annotations

import pickle

import numpy as np
import pyarrow as pa
import pytest
from data_tables import PEOPLE, people, people_tables
from hypothesis import given, settings

from mlcluster.data import FeatureColumn, RowError, TableSchema, TargetColumn, columns_to_table, conform
from mlcluster.data.conform import arrow_type
from mlcluster.errors import DataError


def columns(**changed: list[object]) -> dict[str, list[object]]:
    return {"age": [40, 41], "hours": [38.5, None], "job": ["cook", None], "member": [True, False], **changed}


def test_a_conforming_table_has_exactly_the_features_in_order() -> None:
    table = people(5).select(["rich", "member", "person", "job", "hours", "age"])
    assert conform(table, PEOPLE).column_names == ["age", "hours", "job", "member"]
    assert conform(table, PEOPLE, need_target=True).column_names == ["age", "hours", "job", "member", "rich"]


@settings(deadline=None)
@given(table=people_tables())
def test_conforming_twice_changes_nothing(table: pa.Table) -> None:
    once = conform(table, PEOPLE)
    assert conform(once, PEOPLE).schema == once.schema


def test_numbers_are_cast_to_the_type_of_the_schema() -> None:
    table = people(3).set_column(0, "age", pa.array([1.0, float("nan"), 3.0]))
    table = table.set_column(1, "hours", pa.array([1, 2, 3], pa.int8()))
    result = conform(table, PEOPLE)
    assert result.column("age").to_pylist() == [1, None, 3]
    assert result.column("hours").type == pa.float64()


def test_a_column_of_nulls_fits_any_type() -> None:
    table = people(3).set_column(2, "job", pa.nulls(3))
    assert conform(table, PEOPLE).column("job").to_pylist() == [None] * 3


def test_a_missing_column_is_named_with_the_nearest_one() -> None:
    table = people(3).rename_columns(["age", "hour", "job", "member", "rich", "person"])
    with pytest.raises(RowError, match=r"^hours is missing \(there is hour\)") as caught:
        conform(table, PEOPLE)
    assert caught.value.field == "hours"
    assert isinstance(caught.value, DataError)


def test_the_target_must_be_there_when_it_is_needed() -> None:
    with pytest.raises(RowError, match=r"^rich is missing"):
        conform(people(3).drop_columns(["rich"]), PEOPLE, need_target=True)


def test_an_unknown_column_is_named_with_the_nearest_one() -> None:
    with pytest.raises(RowError, match=r"^jobs is no column of the model; did you mean job") as caught:
        conform(people(3).append_column("jobs", pa.nulls(3)), PEOPLE)
    assert caught.value.field == "jobs"


def test_a_value_that_does_not_fit_is_named_with_its_row() -> None:
    table = people(3).set_column(0, "age", pa.array([1.0, 2.5, 3.0]))
    with pytest.raises(RowError, match=r"^age = 2.5 in row 1 is no int64") as caught:
        conform(table, PEOPLE)
    assert caught.value.row == 1


def test_text_in_a_number_column_is_refused() -> None:
    with pytest.raises(RowError, match=r"^age has type string, not int64"):
        conform(people(3).set_column(0, "age", pa.array(["1", "2", "3"])), PEOPLE)


def test_python_values_become_a_table_of_the_schema() -> None:
    table = columns_to_table(columns(), PEOPLE)
    assert [str(kind) for kind in table.schema.types] == ["int64", "double", "string", "bool"]
    assert table.to_pylist()[1] == {"age": 41, "hours": None, "job": None, "member": False}


def test_whole_floats_pass_for_integers_and_integers_for_floats() -> None:
    table = columns_to_table(columns(age=[40.0, None], hours=[38, 2**53]), PEOPLE)
    assert table.column("age").to_pylist() == [40, None]
    assert table.column("hours").to_pylist() == [38.0, float(2**53)]


def test_numpy_scalars_pass_for_python_values() -> None:
    table = columns_to_table(columns(age=[np.int32(4), np.float32(5)], member=[np.True_, None]), PEOPLE)
    assert table.column("age").to_pylist() == [4, 5]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("age", "40"),
        ("age", True),
        ("age", 40.5),
        ("age", 2**63),
        ("age", [40]),
        ("age", {"value": 40}),
        ("hours", float("nan")),
        ("hours", float("inf")),
        ("hours", 10**400),
        ("hours", "38"),
        ("hours", False),
        ("job", 7),
        ("job", True),
        ("job", ["cook"]),
        ("job", "\ud800"),
        ("member", 1),
        ("member", "true"),
    ],
)
def test_a_value_of_the_wrong_type_is_named_with_its_row(field: str, value: object) -> None:
    fine = columns()[field][0]
    with pytest.raises(RowError, match=rf"^{field} = .* in row 1 is no ") as caught:
        columns_to_table(columns(**{field: [fine, value]}), PEOPLE)
    assert (caught.value.field, caught.value.row) == (field, 1)


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(RowError, match=r"^job holds 1 values, but age holds 2"):
        columns_to_table(columns(job=["cook"]), PEOPLE)


def test_a_missing_field_is_refused() -> None:
    values = columns()
    del values["member"]
    with pytest.raises(RowError, match=r"^member is missing"):
        columns_to_table(values, PEOPLE)


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(RowError, match=r"^height is no column of the model; leave it out"):
        columns_to_table(columns(height=[1, 2]), PEOPLE)


def test_categories_of_whole_numbers_take_whole_numbers() -> None:
    schema = TableSchema(
        features=(FeatureColumn(name="zip", kind="category", arrow_type="int64", has_missing=False),),
        target=TargetColumn(name="y", task="regression"),
    )
    assert columns_to_table({"zip": [10, None]}, schema).column("zip").to_pylist() == [10, None]
    with pytest.raises(RowError, match=r"^zip = '10' in row 0"):
        columns_to_table({"zip": ["10"]}, schema)


def test_row_errors_survive_pickling() -> None:
    error = RowError("age", "= 1 is bad", 3)
    again = pickle.loads(pickle.dumps(error))
    assert (again.field, again.row, str(again)) == ("age", 3, str(error))


@pytest.mark.parametrize("name", ["int8", "double", "large_string", "bool", "float", "decimal128(10, 2)"])
def test_types_are_read_back_as_arrow_spells_them(name: str) -> None:
    assert str(arrow_type(name)) == name
