"""The stages of a run: each takes what the one before has left in the run's folder, and leaves its own record there.

A stage that is done is not done again, so that the same command after a crash goes on where it was.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mlcluster.cli.metering import StageMeter
from mlcluster.cli.planning import Machine, plan_search, resolve_metric, stage_forecasts, study_budget
from mlcluster.cli.progress import Progress
from mlcluster.cli.ray_local import LocalRay
from mlcluster.cli.records import study_from_json, study_to_json
from mlcluster.cli.workspace import RunFolder, Workspace, write_json
from mlcluster.cost import Ledger
from mlcluster.data import DatasetSnapshot, Engine, LocalEngine, TaskKind, prepare
from mlcluster.errors import BudgetExhausted
from mlcluster.registry import Bundle, ModelCard, to_onnx
from mlcluster.search import BestFamiliesSource, CandidateSource, RandomWithinFamily
from mlcluster.serve.predictor import Predictor
from mlcluster.spec import FAMILIES as FAMILY_ORDER
from mlcluster.spec import ProjectSpec
from mlcluster.train import (
    FAMILIES,
    METRICS,
    CheckpointFolder,
    Encoding,
    Matrices,
    Segment,
    TrainingData,
    TrialReport,
    constant_scores,
    load_learner,
    run_segment,
)
from mlcluster.tune import Limits, Measured, Study, StudyPlan, StudyResult, TrialSummary, Winner, select_winner
from mlcluster.verify import Verdict, VerifyRequest, number_scales, verify

_ENCODINGS: tuple[Encoding, ...] = ("ordinal", "dense")
_NUM_EXAMPLE_ROWS = 3
_LATENCY_CALLS = 200


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """All that the stages of one run share."""

    spec: ProjectSpec
    project_folder: Path
    workspace: Workspace
    run: RunFolder
    machine: Machine
    ledger: Ledger
    meter: StageMeter
    progress: Progress
    seed: int

    @property
    def usd_per_second(self) -> float:
        return self.machine.num_cpus * self.spec.prices.cpu_hour / 3600


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
        )
    context.run.update(data="done")
    rows = ", ".join(f"{count} {split}" for split, count in snapshot.num_rows.items())
    context.progress.stage("data", f"snapshot {snapshot.digest[:12]}: {rows} rows")
    for finding in snapshot.findings:
        context.progress.say(f"         {finding.severity}: {finding.message}")
    return snapshot


def local_engine() -> Engine:
    """Reads in this process, for verbs that start no Ray."""
    return LocalEngine()


def load_training_data(snapshot: DatasetSnapshot, families: tuple[str, ...]) -> TrainingData:
    """The train and validation splits, in the encodings that these families take."""
    encodings: set[Encoding] = {FAMILIES[name].encoding for name in families}

    def matrices(split: str) -> dict[Encoding, Matrices]:
        found: dict[Encoding, Matrices] = {}
        for encoding in sorted(encodings):
            features, targets = snapshot.matrices(split, encoding)
            found[encoding] = Matrices(features=features, targets=targets)
        return found

    return TrainingData(
        task=snapshot.schema.target.task,
        num_classes=len(snapshot.schema.target.classes),
        train=matrices("train"),
        validation=matrices("validation"),
    )


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


def run_tune_stage(context: RunContext, snapshot: DatasetSnapshot) -> StudyResult:
    """Searches on Ray Tune, going on with an interrupted study, or takes the one that is done."""
    from mlcluster.tune.ray_study import run_study_on_ray

    result_file = context.run.study / "result.json"
    if context.run.state().get("tune") == "done":
        result = read_study(context.run)
        context.progress.stage("tune", f"study of {len(result.trials)} trials is there already")
        return result
    data = load_training_data(snapshot, context.spec.models)
    plan = _plan_study(context, snapshot, data)
    study = Study(
        plan,
        folder=context.run.study,
        ledger=context.ledger,
        source=candidate_source(plan),
        clock=time.time,
    )
    if study.is_resumed:
        context.progress.say(f"tune     going on with {len(study.trials)} trials of an interrupted study")
    checkpoints = CheckpointFolder(context.run.study.resolve() / "checkpoints")
    result = run_study_on_ray(
        study,
        _trainer(data, checkpoints, plan.metric),
        folder=context.run.study,
        progress=context.progress.study,
    )
    write_json(result_file, study_to_json(result))
    context.run.update(tune="done")
    if not result.ranked():
        raise BudgetExhausted(
            f"tune.budget (${context.spec.tune.budget.usd:g}, {context.spec.tune.budget.minutes:g} minutes) was spent "
            "before any trial gave a score; raise it."
        )
    best = result.ranked()[0]
    context.progress.stage(
        "tune",
        f"{len(result.trials)} trials for ${result.usd:.4f} in {result.seconds:.0f} s, "
        f"best {result.metric} {best.value:.4f} ({best.family} {best.trial_id})",
    )
    return result


def read_study(run: RunFolder) -> StudyResult:
    """The finished study of a run."""
    import json

    return study_from_json(json.loads((run.study / "result.json").read_text()))


def _trainer(data: TrainingData, checkpoints: CheckpointFolder, metric: str) -> Callable[[Segment], TrialReport]:
    def train(segment: Segment) -> TrialReport:
        return run_segment(segment, data, checkpoints, metric=metric)

    return train


def _plan_study(context: RunContext, snapshot: DatasetSnapshot, data: TrainingData) -> StudyPlan:
    sizes = {encoding: data.size(encoding) for encoding in data.train}
    budget = study_budget(context.spec, context.machine, free_usd=context.ledger.free_usd)
    # An interrupted study goes on with the rungs that it began with; what is left of its time, the ledger knows.
    seconds = context.run.state().get("study_seconds", budget.seconds)
    context.run.update(study_seconds=seconds)
    budget = replace(budget, seconds=seconds)
    return plan_search(context.spec, sizes, budget, task=snapshot.schema.target.task, seed=context.seed)


def candidate_source(plan: StudyPlan) -> CandidateSource:
    """Defaults first, then families by how well they do, with TPE inside each."""
    from mlcluster.search.optuna_source import TpeWithinFamily

    random = RandomWithinFamily(plan.spaces, seed=plan.seed)
    return BestFamiliesSource(
        TpeWithinFamily(plan.spaces, fallback=random, seed=plan.seed), list(plan.spaces), seed=plan.seed
    )


def pick_winner(context: RunContext, snapshot: DatasetSnapshot, result: StudyResult) -> Winner:
    """The trial that ships, within the limits of the project file."""
    limits = Limits(p99_ms=context.spec.tune.limits.p99_ms, model_mb=context.spec.tune.limits.model_mb)
    winner = select_winner(
        result,
        simplicity=FAMILY_ORDER,
        within=context.spec.tune.prefer_simple_within,
        limits=limits,
        measure=lambda trial: measure_trial(context, snapshot, trial),
    )
    for line in winner.rejected:
        context.progress.say(f"         out of limits: {line}")
    context.progress.say(f"         winner {winner.trial.trial_id}: {winner.reason}")
    return winner


def measure_trial(context: RunContext, snapshot: DatasetSnapshot, trial: TrialSummary) -> Measured:
    """What the trial's served artifact needs: milliseconds for a row at the 99th percentile, and megabytes."""
    bundle = draft_bundle(context, snapshot, trial)
    predictor = Predictor(bundle)
    row = snapshot.table("validation", max_rows=1).select(snapshot.schema.feature_names)
    seconds = []
    for _ in range(_LATENCY_CALLS):
        started = time.perf_counter()
        predictor.predict(row)
        seconds.append(time.perf_counter() - started)
    size_mb = sum(len(data) for data in bundle.files().values()) / 1e6
    return Measured(p99_ms=float(np.quantile(seconds, 0.99)) * 1000, model_mb=size_mb)


def draft_bundle(context: RunContext, snapshot: DatasetSnapshot, trial: TrialSummary) -> Bundle:
    """The trial's model as it would be served, before it has evidence or a version."""
    structure = trained_structure(context, snapshot, trial)
    example = snapshot.table("validation", max_rows=_NUM_EXAMPLE_ROWS).select(snapshot.schema.feature_names)
    card = ModelCard(
        name=context.spec.project,
        version=None,
        family=trial.family,
        task=snapshot.schema.target.task,
        metric=resolve_metric(context.spec, snapshot.schema.target.task),
        validation={},
        test={},
        trial_id=trial.trial_id,
        study_id=context.run.run_id,
        configuration=dict(trial.configuration),
        snapshot_digest=snapshot.digest,
        code_version=code_version(context.project_folder),
        run_id="",
        spent_usd=0.0,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return Bundle(
        model=to_onnx(structure),
        transform=snapshot.transforms[FAMILIES[trial.family].encoding],
        schema=snapshot.schema,
        card=card,
        input_example=json_rows(example),
        evidence={},
    )


def trained_structure(context: RunContext, snapshot: DatasetSnapshot, trial: TrialSummary) -> Any:
    """The trial's best checkpoint as numbers."""
    data = load_training_data(snapshot, (trial.family,))
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """The winner with its evidence, not yet registered."""

    bundle: Bundle
    verdict: Verdict
    winner: Winner
    validation: dict[str, float]
    test: dict[str, float]


def run_verify_stage(context: RunContext, snapshot: DatasetSnapshot, result: StudyResult) -> Verified:
    """Picks the winner and holds its exported artifact against the gates, on the test split."""
    with context.meter.running("verify"):
        winner = pick_winner(context, snapshot, result)
        draft = draft_bundle(context, snapshot, winner.trial)
        predictor = Predictor(draft)
        scores = {split: predictor.predict(feature_table(snapshot, split)).scores for split in ("validation", "test")}
        metrics = {split: all_metrics(snapshot, split, scores[split]) for split in scores}
        verdict = verify(_verify_request(context, snapshot, winner.trial, draft, scores["test"]))
    context.progress.stage("verify", "passed" if verdict.passed else "failed")
    for line in verdict.summary().splitlines():
        context.progress.say(f"         {line}")
    card = replace(draft.card, validation=metrics["validation"], test=metrics["test"])
    bundle = replace(draft, card=card, evidence={"verdict": verdict.to_json(), "selection": winner.reason})
    return Verified(
        bundle=bundle,
        verdict=verdict,
        winner=winner,
        validation=metrics["validation"],
        test=metrics["test"],
    )


def _verify_request(
    context: RunContext,
    snapshot: DatasetSnapshot,
    trial: TrialSummary,
    draft: Bundle,
    scores: np.ndarray[Any, Any],
) -> VerifyRequest:
    return VerifyRequest(
        gates=context.spec.verify,
        metric=resolve_metric(context.spec, snapshot.schema.target.task),
        schema=snapshot.schema,
        test_table=snapshot.table("test"),
        y=snapshot.matrices("test", "ordinal")[1],
        scores=scores,
        baseline_scores=baseline_scores(snapshot, "test"),
        structure=trained_structure(context, snapshot, trial),
        transform=draft.transform,
        number_scales=number_scales(snapshot.transforms["dense"], snapshot.schema),
        sensitive=context.spec.data.sensitive,
        seed=context.seed,
    )


def feature_table(snapshot: DatasetSnapshot, split: str) -> pa.Table:
    """The raw feature columns of a split."""
    return snapshot.table(split).select(snapshot.schema.feature_names)


def all_metrics(snapshot: DatasetSnapshot, split: str, scores: np.ndarray[Any, Any]) -> dict[str, float]:
    """Every metric of the task that these answers allow."""
    from mlcluster.train.metrics import UndefinedMetric

    task: TaskKind = snapshot.schema.target.task
    targets = snapshot.matrices(split, "ordinal")[1]
    values = {}
    for name, definition in METRICS.items():
        if task in definition.tasks:
            try:
                values[name] = float(definition.compute(targets, scores))
            except UndefinedMetric:
                continue
    return values


def run_deploy_stage(context: RunContext, bundle: Bundle, *, port: int, previous: Bundle | None) -> dict[str, Any]:
    """Serves the bundle on the connected Ray and gives its endpoint's record."""
    from mlcluster.serve.plan import ServePlan
    from mlcluster.serve.ray_app import deploy

    def plan_for(which: Bundle) -> ServePlan:
        serve = context.spec.serve
        return ServePlan(
            name=context.spec.project,
            bundle_files=which.files(),
            min_replicas=serve.replicas.min,
            max_replicas=serve.replicas.max,
            target_ongoing=serve.target_ongoing,
            cpus_per_replica=0.5 if is_on_cluster() else 0.0,
            records_folder=str(context.workspace.predictions.resolve()),
            port=port,
        )

    worst_case = stage_forecasts(context.spec, context.machine, num_rows=0)["deploy"].worst_case_seconds
    with context.meter.running("deploy"):
        endpoint = deploy(
            plan_for(bundle),
            timeout_seconds=worst_case,
            fallback=None if previous is None else plan_for(previous),
        )
    record = {**asdict(endpoint), "infer_url": endpoint.infer_url, "run": context.run.run_id}
    write_json(context.workspace.endpoint_file, record)
    context.progress.stage("deploy", f"{endpoint.model} version {endpoint.version} answers at {endpoint.url}")
    return record


def is_on_cluster() -> bool:
    """Whether this process runs as a job on a cluster, and not on a Ray of its own."""
    import os

    return bool(os.environ.get("RAY_ADDRESS"))


def connect_ray(workspace: Workspace, machine: Machine) -> None:
    """Connects to the cluster of this job, or to the project's local Ray."""
    LocalRay(workspace.ray).connect(num_cpus=machine.num_cpus)


def json_rows(table: pa.Table) -> tuple[dict[str, Any], ...]:
    """Rows as JSON values: NaN is null, and what JSON has no word for is text."""
    return tuple({name: _json_value(value) for name, value in row.items()} for row in table.to_pylist())


def _json_value(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)


def code_version(folder: Path) -> str:
    """The commit that the project file lies in, marked where it has changes; else the package's version."""
    from mlcluster import __version__

    git = ["git", "-C", str(folder)]
    try:
        commit = subprocess.run(  # noqa: S603 - our own words
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=5
        ).stdout.strip()
        status = subprocess.run(  # noqa: S603
            [*git, "status", "--porcelain"], capture_output=True, text=True, check=True, timeout=5
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return f"mlcluster {__version__}"
    return commit + ("-dirty" if status else "")
