"""Our own study, through the runner that users get."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from mlcluster.cost import Ledger, PriceBook, cpu_workers
from mlcluster.search import SearchPolicy
from mlcluster.spec import PricesSpec
from mlcluster.train import FAMILIES, CheckpointFolder, Segment, TrainingData, TrialReport, run_segment, run_segments
from mlcluster.tune import Study, StudyBudget, StudyPlan, StudyResult, plan_study, promise_policy, read_journal
from mlcluster.tune.journal import Event
from study_bench.task import Money, SearchTask
from study_bench.trace import Found, Report

MAX_TOGETHER = 16
"""As `mlcluster tune` does it."""


def policy_of(plan: StudyPlan) -> SearchPolicy:
    """Search by promise, with nothing learnt from earlier studies."""
    return promise_policy(plan)


def run_ours(task: SearchTask) -> Found:
    """`mlcluster tune`, without the stages around it."""
    from mlcluster.tune.ray_study import run_study_on_ray

    plan = study_plan(task)
    # A hair more than the study's own end, which is its time: both are products, and may be off by a rounding.
    ledger = Ledger(task.folder / "ledger.jsonl", cap_usd=task.money.usd * (1 + 1e-9), now=time.time())
    study = Study(plan, folder=task.folder, ledger=ledger, policy=policy_of(plan), clock=time.time)
    trainers = _Trainers(task.dataset.training, CheckpointFolder(task.folder.resolve() / "checkpoints"), plan.metric)
    try:
        result = run_study_on_ray(
            study, trainers.one, folder=task.folder, progress=lambda _: None, together=trainers.together
        )
    finally:
        ledger.close()
    events = list(read_journal(task.folder / "journal.jsonl"))
    return Found(
        reports=list(_reports(events, result)),
        seconds=result.seconds,
        num_trials=len(result.trials),
        num_failed=len({event.data["trial_id"] for event in events if event.kind in ("failed", "lost")}),
    )


def study_plan(task: SearchTask) -> StudyPlan:
    """What `mlcluster plan` would make of it, were all of the money for the search."""
    dataset = task.dataset
    return plan_study(
        f"{dataset.name}-{task.seed}",
        {name: FAMILIES[name].space for name in dataset.families},
        dataset.training.sizes,
        metric=dataset.metric,
        seed=task.seed,
        budget=_budget(task.money),
    )


def _budget(money: Money) -> StudyBudget:
    given = PricesSpec()
    prices = PriceBook(cpu_usd_per_hour=given.cpu_hour, gpu_usd_per_hour=given.gpu_hour)
    kinds = (cpu_workers(prices, num_slots=money.num_workers),)
    return StudyBudget.of_kinds(kinds, seconds=money.seconds, max_together=MAX_TOGETHER)


class _Trainers:
    """What runs in the workers; both hold the same data, which is sent once."""

    def __init__(self, data: TrainingData, checkpoints: CheckpointFolder, metric: str) -> None:
        self._data, self._checkpoints, self._metric = data, checkpoints, metric

    def one(self, segment: Segment) -> TrialReport:
        return run_segment(segment, self._data, self._checkpoints, metric=self._metric)

    def together(self, segments: Sequence[Segment]) -> Sequence[TrialReport]:
        return run_segments(segments, self._data, self._checkpoints, metric=self._metric)


def _reports(events: Sequence[Event], result: StudyResult) -> Iterator[Report]:
    """Each segment's end: only there is a checkpoint, and so a model that could ship."""
    for event in events:
        if event.kind == "report":
            trial = result.trials[event.data["trial_id"]]
            yield Report(
                seconds=float(event.data["elapsed"]),
                validation=float(event.data["curve"][-1]["value"]),
                trial=trial.trial_id,
                family=trial.family,
                configuration=trial.configuration,
                seed=trial.seed,
                units=int(event.data["units"]),
            )
