"""Models to serve, trained on drawn tables: a net and boosting on numbers, a net on rows with text and nulls."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlcluster.cli.bundling import json_rows
from mlcluster.cli.data_stage import load_training_data
from mlcluster.data import DatasetSnapshot, LocalEngine, ReferenceProfile, answer_columns, prepare, reference_profile
from mlcluster.registry import Bundle, ModelCard, to_onnx
from mlcluster.serve import Predictor
from mlcluster.spec import AugmentSpec, DataSpec, default_configuration
from mlcluster.train import FAMILIES

NUM_NUMBERS, NUM_WIDE = 10, 54
_UNITS = {"mlp": 3, "boosting": 50}
_CITIES = ("Oslo", "Rome", "Valletta", "Lyon", "Ħal Qormi")
_JOBS = ("clerk", "smith", "nurse", "cook")


@dataclass(frozen=True, kw_only=True)
class Model:
    """A bundle, and rows of its test split to ask it about."""

    name: str
    bundle: Bundle
    rows: pa.Table

    @property
    def has_text(self) -> bool:
        return any(column.kind == "category" for column in self.bundle.schema.features)


def numbers(num_rows: int, rng: np.random.Generator, num_columns: int = NUM_NUMBERS) -> pa.Table:
    """Columns of numbers, and a class that hangs on three of them."""
    values = rng.normal(size=(num_rows, num_columns))
    is_yes = values[:, 0] + values[:, 1] * values[:, 2] + rng.normal(size=num_rows) > 0
    columns = {f"x{index}": values[:, index] for index in range(num_columns)}
    return pa.table({**columns, "outcome": np.where(is_yes, "yes", "no")})


def wide(num_rows: int, rng: np.random.Generator) -> pa.Table:
    """As many columns of numbers as the forest cover types have."""
    return numbers(num_rows, rng, NUM_WIDE)


def raw_rows(num_rows: int, rng: np.random.Generator) -> pa.Table:
    """Six numbers, a flag and three columns of text; one value in ten is null."""

    def with_nulls(values: np.ndarray) -> pa.Array:
        return pa.array(values.tolist(), mask=rng.random(num_rows) < 0.1)

    drawn = rng.normal(50, 20, size=(num_rows, 5)).round(2)
    columns = {f"x{index}": with_nulls(drawn[:, index]) for index in range(5)}
    is_yes = (drawn[:, 0] + rng.normal(0, 10, num_rows)) > 50
    return pa.table(
        {
            **columns,
            "age": with_nulls(rng.integers(18, 90, num_rows)),
            "member": with_nulls(rng.random(num_rows) < 0.5),
            "city": with_nulls(rng.choice(_CITIES, num_rows)),
            "job": with_nulls(rng.choice(_JOBS, num_rows)),
            "district": with_nulls(np.array([f"d{number}" for number in rng.integers(0, 40, num_rows)])),
            "outcome": np.where(is_yes, "yes", "no"),
        }
    )


Draw = Callable[[int, np.random.Generator], pa.Table]
MODELS: dict[str, tuple[str, Draw]] = {
    "mlp": ("mlp", numbers),
    "boosting": ("boosting", numbers),
    "raw": ("mlp", raw_rows),
    "wide": ("mlp", wide),
}
"""The family of each, and what it learns from."""


def train(name: str, *, seed: int, num_rows: int = 4_000) -> Model:
    """The model of that name, trained here and now, without Ray."""
    family_name, draw = MODELS[name]
    family = FAMILIES[family_name]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        pq.write_table(draw(num_rows, np.random.default_rng(seed)), folder / "table.parquet")
        spec = DataSpec(source=str(folder / "table.parquet"), target="outcome")
        snapshot = prepare(spec, base=folder, folder=folder / "snapshot", seed=seed, engine=LocalEngine())
        data = load_training_data(snapshot, (family_name,), augment=AugmentSpec(), seed=seed)
        learner = family.build(default_configuration(family.space), data, seed)
        learner.advance(_UNITS[family_name])
        rows = snapshot.table("test", max_rows=200).select(snapshot.schema.feature_names)
        bundle = Bundle(
            model=to_onnx(learner.structure()),
            transform=snapshot.transforms[family.encoding],
            schema=snapshot.schema,
            card=_card(name, family_name, snapshot),
            input_example=json_rows(rows.slice(0, 2)),
            evidence={},
        )
        bundle = replace(bundle, reference=_reference(bundle, snapshot))
    return Model(name=name, bundle=bundle, rows=rows)


def _reference(bundle: Bundle, snapshot: DatasetSnapshot) -> ReferenceProfile:
    scores = Predictor(bundle).predict(snapshot.table("validation")).scores
    return reference_profile(snapshot.table("train"), snapshot.schema, answer_columns(scores, snapshot.schema.target))


def _card(name: str, family: str, snapshot: DatasetSnapshot) -> ModelCard:
    return ModelCard(
        name=name,
        version="1",
        family=family,
        task=snapshot.schema.target.task,
        metric="roc_auc",
        validation={},
        test={},
        trial_id="bench",
        study_id="bench",
        configuration={},
        snapshot_digest=snapshot.digest,
        code_version="bench",
        run_id="",
        spent_usd=0.0,
        created_at="2026-01-01T00:00:00+00:00",
    )
