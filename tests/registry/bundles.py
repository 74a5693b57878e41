"""Small bundles with every kind of column, for the tests of the registry and of serving."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pyarrow as pa

from mlcluster.data import Encoding, FeatureColumn, Label, TableSchema, TargetColumn, Transform
from mlcluster.data.fit import fit_transform
from mlcluster.data.statistics import category_partial, number_partial
from mlcluster.registry import Bundle, ModelCard, to_onnx
from mlcluster.train.structure import Structure
from tests.registry.structures import random_ensemble, random_net

Task = Literal["binary", "multiclass", "regression"]
CLASSES: dict[Task, tuple[Label, ...]] = {
    "binary": ("no", "yes"),
    "multiclass": (1, 2, 3),
    "regression": (),
}


def sample_table(num_rows: int, seed: int = 0) -> pa.Table:
    """Raw rows: a float with missing values, a whole number, two categories and a boolean."""
    rng = np.random.default_rng(seed)
    income = [
        None if missing else float(value)
        for value, missing in zip(rng.normal(50, 20, num_rows), rng.random(num_rows) < 0.1, strict=True)
    ]
    city = [None if pick == 3 else ("Oslo", "Rome", "Ħal Qormi")[pick] for pick in rng.integers(0, 4, num_rows)]
    return pa.table(
        {
            "income": pa.array(income, pa.float64()),
            "age": pa.array(rng.integers(18, 90, num_rows), pa.int64()),
            "city": pa.array(city, pa.string()),
            "code": pa.array(rng.integers(0, 5, num_rows), pa.int64()),
            "member": pa.array(rng.random(num_rows) < 0.5, pa.bool_()),
        }
    )


def sample_schema(task: Task) -> TableSchema:
    return TableSchema(
        features=(
            FeatureColumn(name="income", kind="number", arrow_type="double", has_missing=True),
            FeatureColumn(name="age", kind="number", arrow_type="int64", has_missing=False),
            FeatureColumn(name="city", kind="category", arrow_type="string", has_missing=True),
            FeatureColumn(name="code", kind="category", arrow_type="int64", has_missing=False),
            FeatureColumn(name="member", kind="boolean", arrow_type="bool", has_missing=False),
        ),
        target=TargetColumn(name="outcome", task=task, classes=CLASSES[task]),
    )


def sample_transform(schema: TableSchema, encoding: Encoding) -> Transform:
    table = sample_table(500, seed=1)
    classes = schema.target.classes or (0.0, 1.0)
    drawn = np.random.default_rng(2).integers(0, 2, table.num_rows)
    target = pa.chunked_array([pa.array([classes[index] for index in drawn])])
    partials = {
        feature.name: category_partial(table.column(feature.name), target)
        if feature.kind == "category"
        else number_partial(table.column(feature.name))
        for feature in schema.features
    }
    return fit_transform(schema, partials, encoding)


def sample_bundle(task: Task = "binary", encoding: Encoding = "dense", version: str | None = "3") -> Bundle:
    schema = sample_schema(task)
    transform = sample_transform(schema, encoding)
    rng = np.random.default_rng(4)
    num_raw, link = {"binary": (1, "sigmoid"), "multiclass": (3, "softmax"), "regression": (1, "identity")}[task]
    structure: Structure = (
        random_net(rng, (transform.num_outputs, 8, num_raw), link)
        if encoding == "dense"
        else random_ensemble(rng, num_inputs=transform.num_outputs, num_outputs=num_raw, num_trees=10, link=link)
    )
    return Bundle(
        model=to_onnx(structure),
        transform=transform,
        schema=schema,
        card=sample_card(task, version),
        input_example=tuple(sample_table(2, seed=3).to_pylist()),
        evidence={"gates": [{"name": "roc_auc >= 0.9", "passed": True}]},
    )


def sample_card(task: Task, version: str | None) -> ModelCard:
    return ModelCard(
        name="demo",
        version=version,
        family="mlp",
        task=task,
        metric="roc_auc",
        validation={"roc_auc": 0.91},
        test={"roc_auc": 0.9},
        trial_id="t-007",
        study_id="s-1",
        configuration={"width": 8},
        snapshot_digest="0" * 64,
        code_version="0.1.0",
        run_id="r-1",
        spent_usd=0.01,
        created_at="2026-01-01T00:00:00+00:00",
    )


def columns_of(table: pa.Table) -> dict[str, list[Any]]:
    return table.to_pydict()
