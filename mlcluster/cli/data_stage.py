"""The first stage: a snapshot of the data, and what a constant model makes of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from mlcluster.cli.augmented_data import augmented
from mlcluster.cli.labelling import Labelling
from mlcluster.cli.row_text import rows_line
from mlcluster.cli.run_context import RunContext
from mlcluster.cli.time_gap import measure_time_gap
from mlcluster.cli.workspace import RunFolder, write_json, write_whole
from mlcluster.data import DataProfile, DatasetSnapshot, Engine, prepare
from mlcluster.spec import AugmentSpec
from mlcluster.train import (
    FAMILIES,
    METRICS,
    Encoding,
    Matrices,
    TrainingData,
    constant_scores,
)

_AUDITED_ROWS = 1000


def write_profile(run: RunFolder, profile: DataProfile) -> None:
    """The profile that the plan was made from, as a page and as JSON."""
    write_whole(run.profile_page, profile.to_html())
    write_json(run.profile_page.with_suffix(".json"), profile.to_json())


def run_data_stage(context: RunContext, engine: Engine) -> DatasetSnapshot:
    """Prepares the data, or takes what an earlier attempt has prepared."""
    if context.run.state().get("data") == "done":
        snapshot = DatasetSnapshot.load(context.run.snapshot)
        context.progress.stage("data", f"snapshot {snapshot.digest[:12]} is there already")
        return snapshot
    with context.meter.running("data"):
        snapshot = prepare(
            context.spec.data,
            base=context.project_folder,
            folder=context.run.snapshot,
            seed=context.seed,
            engine=engine,
            cache=context.sources,
        )
        snapshot = snapshot.with_parent(parent_of(context.run, snapshot.digest, context.workspace.runs()))
        audit = _audited(context) if context.spec.data.labels.audit else None
        gap = measure_time_gap(snapshot, context.seed)
    context.run.update(data="done")
    context.progress.stage("data", f"snapshot {snapshot.digest[:12]}, {rows_line(snapshot.manifest['rows'])}")
    for finding in snapshot.findings:
        context.progress.say(f"         {finding.severity}: {finding.message}")
    if gap is not None:
        write_json(context.run.time_gap, asdict(gap))
        context.progress.say(f"         {gap}")
    if audit is not None:
        context.progress.say(f"         {audit}")
    return snapshot


def parent_of(current: RunFolder, digest: str, runs: Sequence[RunFolder]) -> str | None:
    """The snapshot before this one in the project: data that is what it was keeps the parent that it had."""
    for run in reversed(runs):
        if run.path != current.path and run.state().get("data") == "done":
            manifest = json.loads((run.snapshot / "manifest.json").read_text(encoding="utf-8"))
            parent: str | None = manifest["digest"] if manifest["digest"] != digest else manifest.get("parent")
            return parent
    return None


def _audited(context: RunContext) -> str:
    """Which labels are probably wrong, said in a line; the list is in the run's folder. Nothing is changed by it."""
    labelling = Labelling(spec=context.spec.data, folder=context.project_folder, seed=context.seed)
    told = labelling.audit(limit=_AUDITED_ROWS)
    write_json(context.run.label_audit, told)
    rows = ", ".join(str(one["row"]) for one in told["rows"][:5])
    shown = f" (rows {rows}, ... from 0; all in {context.run.label_audit.name})" if rows else ""
    return f"label audit: {told['suspects']} of {told['audited']} labels are probably wrong{shown}"


def load_training_data(
    snapshot: DatasetSnapshot, families: tuple[str, ...], *, augment: AugmentSpec, seed: int
) -> TrainingData:
    """The train and validation splits, in the encodings that these families take; the train split augmented.

    Raises:
        DataError: `augment` names a group that there is not.
    """
    encodings: set[Encoding] = {FAMILIES[name].encoding for name in families}

    def matrices(split: str) -> dict[Encoding, Matrices]:
        found: dict[Encoding, Matrices] = {}
        for encoding in sorted(encodings):
            features, targets = snapshot.matrices(split, encoding)
            found[encoding] = Matrices(features=features, targets=targets)
        return found

    plain = TrainingData(
        task=snapshot.schema.target.task,
        num_classes=len(snapshot.schema.target.classes),
        train=matrices("train"),
        validation=matrices("validation"),
        image=snapshot.schema.only_image,
    )
    return augmented(plain, snapshot, augment, seed=seed) if augment.is_on else plain


@dataclass(frozen=True, kw_only=True, slots=True)
class Baseline:
    """The constant model's score on validation and test."""

    validation: float
    test: float


def score_baseline(snapshot: DatasetSnapshot, metric: str) -> Baseline:
    """Scored first, before anything is trained."""
    values = {}
    for split in ("validation", "test"):
        targets = snapshot.matrices(split, "ordinal")[1]
        values[split] = float(METRICS[metric].compute(targets, baseline_scores(snapshot, split)))
    return Baseline(validation=values["validation"], test=values["test"])


def baseline_scores(snapshot: DatasetSnapshot, split: str) -> np.ndarray[Any, Any]:
    """The constant model's answers to a split."""
    features, targets = snapshot.matrices("train", "ordinal")
    return constant_scores(
        Matrices(features=features, targets=targets),
        num_classes=len(snapshot.schema.target.classes),
        num_rows=snapshot.num_rows[split],
    )


def feature_table(snapshot: DatasetSnapshot, split: str) -> pa.Table:
    """The raw feature columns of a split."""
    return snapshot.table(split).select(snapshot.schema.feature_names)
