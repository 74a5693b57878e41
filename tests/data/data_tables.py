"""Tables to try things on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import strategies as st

from mlcluster.data import ENCODINGS, Encoding, FeatureColumn, TableSchema, TargetColumn, Transform
from mlcluster.data.fit import fit_transform
from mlcluster.data.statistics import CategoryTally, ColumnPartial, number_partial

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared"

PEOPLE = TableSchema(
    features=(
        FeatureColumn(name="age", kind="number", arrow_type="int64", has_missing=True),
        FeatureColumn(name="hours", kind="number", arrow_type="double", has_missing=True),
        FeatureColumn(name="job", kind="category", arrow_type="string", has_missing=True),
        FeatureColumn(name="member", kind="boolean", arrow_type="bool", has_missing=True),
    ),
    target=TargetColumn(name="rich", task="binary", classes=("no", "yes")),
    non_features=("person",),
)


def shared_data() -> Path:
    """The folder of real tables; the test is skipped where there is none."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("the real tables are not on this machine")
    return folder


def people(num_rows: int, seed: int = 0) -> pa.Table:
    """Rows of `PEOPLE` with missing values, a key, and a target that the features can tell."""
    rng = np.random.default_rng(seed)
    age = rng.integers(17, 91, num_rows)
    hours = np.round(rng.normal(40, 12, num_rows), 1)
    jobs = np.array(["clerk", "cook", "pilot", "nurse", "poet"])[rng.integers(0, 5, num_rows)]
    rich = (age / 90 + (jobs == "pilot") + rng.normal(0, 0.3, num_rows)) > 0.9
    return pa.table(
        {
            "age": pa.array(age, mask=rng.random(num_rows) < 0.05),
            "hours": pa.array(np.where(rng.random(num_rows) < 0.05, np.nan, hours)),
            "job": pa.array(jobs, mask=rng.random(num_rows) < 0.05),
            "member": pa.array(rng.random(num_rows) < 0.3, mask=rng.random(num_rows) < 0.05),
            "rich": pa.array(np.where(rich, "yes", "no")),
            "person": pa.array(rng.integers(0, max(num_rows // 3, 1), num_rows)),
        }
    )


def write_people(folder: Path, num_rows: int = 400, *, seed: int = 0, row_group_size: int = 100) -> pa.Table:
    """The people in `folder/people.parquet`."""
    table = people(num_rows, seed)
    pq.write_table(table, folder / "people.parquet", row_group_size=row_group_size)
    return table


def partials_of(table: pa.Table, schema: TableSchema = PEOPLE) -> dict[str, ColumnPartial]:
    """The statistics of a whole table as one chunk."""
    tally = CategoryTally(table.column(schema.target.name))
    return {
        feature.name: tally.partial(table.column(feature.name))
        if feature.kind == "category"
        else number_partial(table.column(feature.name))
        for feature in schema.features
    }


def fitted(table: pa.Table, encoding: Encoding) -> Transform:
    """The transform that is fitted to all rows of `table`."""
    return fit_transform(PEOPLE, partials_of(table), encoding)


encodings = st.sampled_from(ENCODINGS)


@st.composite
def people_tables(draw: st.DrawFn, *, min_rows: int = 1, max_rows: int = 60) -> pa.Table:
    """Any rows of `PEOPLE`, without a thought for sense."""
    num_rows = draw(st.integers(min_rows, max_rows))

    def column(values: st.SearchStrategy[object], kind: pa.DataType) -> pa.Array:
        return pa.array(draw(st.lists(st.none() | values, min_size=num_rows, max_size=num_rows)), kind)

    return pa.table(
        {
            "age": column(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 100), pa.int64()),
            "hours": column(st.floats(width=64) | st.sampled_from([0.0, -0.0, 1e308, float("nan")]), pa.float64()),
            "job": column(st.text(max_size=3) | st.sampled_from(["cook", "poet"]), pa.string()),
            "member": column(st.booleans(), pa.bool_()),
            "rich": pa.array(
                draw(st.lists(st.sampled_from(["no", "yes"]), min_size=num_rows, max_size=num_rows)), pa.string()
            ),
            "person": pa.array(range(num_rows), pa.int64()),
        }
    )
