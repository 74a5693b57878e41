"""The second stage: the search, or what an earlier attempt has left of it."""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from mlcluster.cli.augmented_data import augmented_line
from mlcluster.cli.bundling import bundle_around, example_row
from mlcluster.cli.data_stage import load_training_data
from mlcluster.cli.elastic_study import study_nodes
from mlcluster.cli.measuring import ServingMeasure, with_measure
from mlcluster.cli.node_accounts import node_savings
from mlcluster.cli.planning import plan_search, study_budget
from mlcluster.cli.ray_local import is_on_cluster
from mlcluster.cli.records import study_from_json, study_to_json
from mlcluster.cli.run_context import RunContext
from mlcluster.cli.warm_start import HISTORY_ARTIFACT, with_first_trials
from mlcluster.cli.workspace import RunFolder, write_json
from mlcluster.cost import savings_line
from mlcluster.data import DatasetSnapshot
from mlcluster.errors import BudgetExhausted, ClusterError, SpecError
from mlcluster.search import BestFamiliesSource, RandomWithinFamily, SearchPolicy
from mlcluster.spec import Search
from mlcluster.tracking import Tracker
from mlcluster.train import (
    CheckpointFolder,
    Checkpoints,
    Segment,
    TrainingData,
    TrialReport,
    run_segment,
    run_segments,
)
from mlcluster.tune import (
    Selection,
    Study,
    StudyPlan,
    StudyResult,
    StudyStory,
    TrialStory,
    check_limits_are_kept,
    halving_policy,
    past_study_to_json,
    promise_policy,
    read_journal,
    tell_study,
)
from mlcluster.tune.journal import Event

_RESULT_FILE = "result.json"


def run_tune_stage(
    context: RunContext, snapshot: DatasetSnapshot, tracker: Callable[[], Tracker | None]
) -> StudyResult:
    """Searches on Ray Tune, going on with an interrupted study, or takes the one that is done.

    `tracker` gives the store in which earlier studies are looked for, or None where there is none yet.
    """
    if context.run.state().get("tune") == "done":
        result = read_study(context.run)
        check_limits_are_kept(result)
        context.progress.stage("tune", f"study of {len(result.trials)} trials is there already")
        return result
    result = _search(context, snapshot, tracker)
    if result.failure is not None:
        raise ClusterError(
            f"models = {', '.join(context.spec.models)} failed in every trial ({result.failure}); see the log."
        )
    check_limits_are_kept(result)
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
    if (saved := savings_line(node_savings(context.run))) is not None:
        context.progress.say(f"         {saved}")
    return result


def _search(context: RunContext, snapshot: DatasetSnapshot, tracker: Callable[[], Tracker | None]) -> StudyResult:
    """The study to its end, which is written down."""
    from mlcluster.tune.ray_study import run_study_on_ray

    data = load_training_data(snapshot, context.spec.models, augment=context.spec.data.augment, seed=context.seed)
    if context.spec.data.augment.is_on:
        context.progress.say(f"         {augmented_line(data, snapshot.num_rows['train'], context.spec.data.augment)}")
    plan = _plan_study(context, snapshot, data)
    plan = with_first_trials(plan, context, task=snapshot.schema.target.task, tracker=tracker)
    study = Study(
        plan,
        folder=context.run.study,
        ledger=context.ledger,
        policy=search_policy(context.spec.tune.search, plan),
        clock=time.time,
    )
    if study.is_resumed:
        context.progress.say(f"tune     going on with {len(study.trials)} trials of an interrupted study")
    checkpoints = _checkpoints(context)
    measure = _serving_measure(context, snapshot, plan)
    result = run_study_on_ray(
        study,
        _trainer(data, checkpoints, plan.metric, measure),
        folder=context.run.study,
        progress=context.progress.study,
        together=_trainer_together(data, checkpoints, plan.metric, measure),
        nodes=study_nodes(context),
    )
    write_json(context.run.study / _RESULT_FILE, study_to_json(result))
    write_json(
        context.run.study / HISTORY_ARTIFACT,
        past_study_to_json(plan, result, name=f"{context.spec.project} {context.run.run_id}"),
    )
    context.run.update(tune="done")
    return result


def _checkpoints(context: RunContext) -> Checkpoints:
    """The study's folder of them, as its workers reach it: on a cluster they may be on other nodes."""
    folder = context.run.study.resolve() / "checkpoints"
    if not is_on_cluster():
        return CheckpointFolder(folder)
    from mlcluster.tune.ray_checkpoints import NodeCheckpoints

    return NodeCheckpoints(folder)


def read_study(run: RunFolder) -> StudyResult:
    """The finished study of a run."""
    import json

    return study_from_json(json.loads((run.study / _RESULT_FILE).read_text()))


def read_story(run: RunFolder) -> StudyStory:
    """The story of a run's study, whether it has ended or not.

    Raises:
        SpecError: the run has no study yet.
    """
    events = read_events(run)
    has_ended = run.state().get("tune") == "done"
    return tell_study(events, read_study(run) if has_ended else None)


def trial_of(story: StudyStory, trial_id: str) -> TrialStory:
    """One trial of the study.

    Raises:
        SpecError: there is none of that id; it names the near ones.
    """
    by_id = {trial.trial_id: trial for trial in story.trials}
    if trial_id in by_id:
        return by_id[trial_id]
    near = difflib.get_close_matches(trial_id, by_id, n=3, cutoff=0.5)
    known = f"it has {min(by_id)} to {max(by_id)}" if by_id else "it has none yet"
    fix = f"did you mean {' or '.join(near)}?" if near else "see them all with `mlcluster tune --explain`."
    raise SpecError(f"--explain = {trial_id!r} is no trial of study {story.study_id}, for {known}; {fix}")


def read_events(run: RunFolder) -> tuple[Event, ...]:
    """The journal of a run's study.

    Raises:
        SpecError: the run has no study yet.
    """
    journal = run.study / "journal.jsonl"
    if not journal.exists():
        raise SpecError(f"run {run.run_id} has no study yet; make one with `mlcluster tune`.")
    return tuple(read_journal(journal))


def read_selection(run: RunFolder) -> Selection | None:
    """Which trial was chosen to ship; None where none was yet."""
    selection = run.state().get("selection")
    return None if selection is None else Selection.from_json(selection)


def _serving_measure(context: RunContext, snapshot: DatasetSnapshot, plan: StudyPlan) -> ServingMeasure:
    return ServingMeasure(
        around={family: bundle_around(context, snapshot, family) for family in plan.spaces},
        row=example_row(snapshot),
        limits=plan.limits,
    )


def _trainer(
    data: TrainingData, checkpoints: Checkpoints, metric: str, measure: ServingMeasure
) -> Callable[[Segment], TrialReport]:
    def train(segment: Segment) -> TrialReport:
        report = run_segment(segment, data, checkpoints, metric=metric)
        return with_measure(report, segment, data, checkpoints, measure)

    return train


def _trainer_together(
    data: TrainingData, checkpoints: Checkpoints, metric: str, measure: ServingMeasure
) -> Callable[[Sequence[Segment]], Sequence[TrialReport]]:
    def train(segments: Sequence[Segment]) -> Sequence[TrialReport]:
        reports = run_segments(segments, data, checkpoints, metric=metric)
        return [
            with_measure(report, segment, data, checkpoints, measure)
            for report, segment in zip(reports, segments, strict=True)
        ]

    return train


def _plan_study(context: RunContext, snapshot: DatasetSnapshot, data: TrainingData) -> StudyPlan:
    budget = study_budget(context.spec, context.lease, free_usd=context.ledger.free_usd)
    # An interrupted study goes on with the rungs that it began with; what is left of its time, the ledger knows.
    seconds = context.run.state().get("study_seconds", budget.seconds)
    context.run.update(study_seconds=seconds)
    budget = replace(budget, seconds=seconds)
    return plan_search(context.spec, data.sizes, budget, task=snapshot.schema.target.task, seed=context.seed)


def search_policy(search: Search, plan: StudyPlan) -> SearchPolicy:
    """What decides: by promise, or by rank with families by how well they do and TPE inside each."""
    if search == "promise":
        return promise_policy(plan)
    from mlcluster.search.optuna_source import TpeWithinFamily

    random = RandomWithinFamily(plan.spaces, seed=plan.seed)
    tpe = TpeWithinFamily(plan.spaces, fallback=random, seed=plan.seed)
    return halving_policy(plan, BestFamiliesSource(tpe, list(plan.spaces), seed=plan.seed))
