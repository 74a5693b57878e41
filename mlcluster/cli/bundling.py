"""From a trial to what would be served: its structure, its bundle, its milliseconds and megabytes."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from mlcluster.cli.data_stage import load_training_data
from mlcluster.cli.measuring import measure_bundle
from mlcluster.cli.planning import resolve_metric
from mlcluster.cli.run_context import RunContext, code_version
from mlcluster.data import DatasetSnapshot
from mlcluster.registry import Bundle, ModelCard, to_onnx
from mlcluster.train import FAMILIES, CheckpointFolder, Measured, Segment, load_learner
from mlcluster.tune import TrialSummary

_NUM_EXAMPLE_ROWS = 3


def draft_bundle(context: RunContext, snapshot: DatasetSnapshot, trial: TrialSummary) -> Bundle:
    """The trial's model as it would be served, before it has evidence or a version."""
    around = bundle_around(context, snapshot, trial.family)
    card = replace(around.card, trial_id=trial.trial_id, configuration=dict(trial.configuration))
    return replace(around, model=to_onnx(trained_structure(context, snapshot, trial)), card=card)


def bundle_around(context: RunContext, snapshot: DatasetSnapshot, family: str) -> Bundle:
    """All that is served beside a model of that family."""
    example = snapshot.table("validation", max_rows=_NUM_EXAMPLE_ROWS).select(snapshot.schema.feature_names)
    card = ModelCard(
        name=context.spec.project,
        version=None,
        family=family,
        task=snapshot.schema.target.task,
        metric=resolve_metric(context.spec, snapshot.schema.target.task),
        validation={},
        test={},
        trial_id="",
        study_id=context.run.run_id,
        configuration={},
        snapshot_digest=snapshot.digest,
        code_version=code_version(context.project_folder),
        run_id="",
        spent_usd=0.0,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return Bundle(
        model=b"",
        transform=snapshot.transforms[FAMILIES[family].encoding],
        schema=snapshot.schema,
        card=card,
        input_example=json_rows(example),
        evidence={},
    )


def trained_structure(context: RunContext, snapshot: DatasetSnapshot, trial: TrialSummary) -> Any:
    """The trial's best checkpoint as numbers."""
    data = load_training_data(snapshot, (trial.family,), augment=context.spec.data.augment, seed=context.seed)
    segment = Segment(
        trial_id=trial.trial_id,
        family=trial.family,
        configuration=trial.configuration,
        seed=trial.seed,
        start_units=trial.units,
        stop_units=trial.units,
        limit_seconds=0.0,
        deadline=0.0,
    )
    return load_learner(segment, data, CheckpointFolder(context.run.study / "checkpoints")).structure()


def measure_trial(context: RunContext, snapshot: DatasetSnapshot, trial: TrialSummary) -> Measured:
    """What the trial's served artifact needs, measured at length."""
    return measure_bundle(draft_bundle(context, snapshot, trial), example_row(snapshot))


def example_row(snapshot: DatasetSnapshot) -> pa.Table:
    """One row as it would be asked of the served model, to time its answer."""
    return snapshot.table("validation", max_rows=1).select(snapshot.schema.feature_names)


def json_rows(table: pa.Table) -> tuple[dict[str, Any], ...]:
    """Rows as JSON values: NaN is null, bytes are base64, and what JSON has no word for is text."""
    return tuple({name: _json_value(value) for name, value in row.items()} for row in table.to_pylist())


def _json_value(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)
