"""The third stage: the winner, exported, against the requirements."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mlcluster.cli.bundling import draft_bundle, measure_trial, trained_structure
from mlcluster.cli.data_stage import baseline_scores, feature_table
from mlcluster.cli.planning import limits_of, resolve_metric
from mlcluster.cli.run_context import RunContext
from mlcluster.data import DatasetSnapshot, ReferenceProfile, TaskKind, answer_columns, reference_profile
from mlcluster.registry import Bundle
from mlcluster.serve.predictor import Predictor
from mlcluster.spec import FAMILIES as FAMILY_ORDER
from mlcluster.train import METRICS, Measured
from mlcluster.tune import Selection, StudyResult, TrialSummary, Winner, select_winner
from mlcluster.verify import Verdict, VerifyRequest, number_scales, verify

_REFERENCE_ROWS = 500_000
"""Enough for shares of a tenth to be off by less than a thousandth."""


def pick_winner(context: RunContext, snapshot: DatasetSnapshot, result: StudyResult) -> Winner:
    """The trial that ships, within the limits of the project file."""
    measured: dict[str, Measured] = {}

    def measure(trial: TrialSummary) -> Measured:
        measured[trial.trial_id] = measure_trial(context, snapshot, trial)
        return measured[trial.trial_id]

    winner = select_winner(
        result,
        simplicity=FAMILY_ORDER,
        within=context.spec.tune.prefer_simple_within,
        limits=limits_of(context.spec),
        measure=measure,
    )
    selection = Selection(trial_id=winner.trial.trial_id, reason=winner.reason, measured=measured)
    context.run.update(selection=selection.to_json())
    for line in winner.rejected:
        context.progress.say(f"         out of limits: {line}")
    context.progress.say(f"         winner {winner.trial.trial_id}: {winner.reason}")
    return winner


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
    bundle = replace(
        draft,
        card=card,
        evidence={"verdict": verdict.to_json(), "selection": winner.reason},
        reference=_reference(snapshot, scores["validation"]),
    )
    return Verified(
        bundle=bundle,
        verdict=verdict,
        winner=winner,
        validation=metrics["validation"],
        test=metrics["test"],
    )


def _reference(snapshot: DatasetSnapshot, scores: np.ndarray[Any, Any]) -> ReferenceProfile:
    """What live requests will be compared with: train rows, and the answers to the rows of validation."""
    schema = snapshot.schema
    watched = [feature.name for feature in schema.features if feature.kind != "image"]
    table = snapshot.table("train", max_rows=_REFERENCE_ROWS, columns=watched)
    return reference_profile(table, schema, answer_columns(scores, schema.target))


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
