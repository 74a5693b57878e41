"""`tune --replay`: the newest run's study, played from its journal to a policy that has seen nothing yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import click

from mlcluster.cli.data_stage import load_training_data
from mlcluster.cli.options import print_json
from mlcluster.cli.planning import plan_search
from mlcluster.cli.project import Project
from mlcluster.cli.tune_stage import read_events, search_policy
from mlcluster.cli.warm_start import read_first_trials
from mlcluster.cli.workspace import RunFolder
from mlcluster.cost import WorkerKind
from mlcluster.data import DatasetSnapshot
from mlcluster.errors import SpecError
from mlcluster.spec import Device, ProjectSpec
from mlcluster.tune import Divergence, Replay, StudyBudget, StudyPlan, as_plain_json, replay_study
from mlcluster.tune.journal import Event

DIVERGED = 3


def replay(project: Project, *, as_json: bool) -> int:
    """Plays the newest study and prints whether all decisions are as recorded; gives the exit code."""
    run = project.workspace.latest_run()
    events = read_events(run)
    plan = recorded_plan(project.spec, run, events)
    found = replay_study(events, plan, search_policy(project.spec.tune.search, plan))
    if as_json:
        print_json({"run": run.run_id, "study_id": plan.study_id, "seed": plan.seed, **_as_json(found)})
    else:
        click.echo(f"run {run.run_id}, seed {plan.seed}: {replay_text(found)}")
    return 0 if found.is_equal else DIVERGED


def recorded_plan(spec: ProjectSpec, run: RunFolder, events: Sequence[Event]) -> StudyPlan:
    """The plan of a run's study, as the project file has it now, at the seed and the prices that its journal names.

    Raises:
        SpecError: the run has no data any more, or has not begun its study.
    """
    begin = next((event.data for event in events if event.kind == "begin"), None)
    if begin is None or not run.snapshot.exists():
        raise SpecError(f"run {run.run_id} cannot be replayed without its snapshot and journal; make one anew.")
    snapshot = DatasetSnapshot.load(run.snapshot)
    data = load_training_data(snapshot, spec.models, augment=spec.data.augment, seed=int(begin["seed"]))
    plan = plan_search(
        spec,
        data.sizes,
        StudyBudget.of_kinds(_kinds(begin), seconds=_study_seconds(run, spec)),
        task=snapshot.schema.target.task,
        seed=int(begin["seed"]),
    )
    first = read_first_trials(run)
    return plan if first is None else replace(plan, first=first.candidates)


def replay_text(found: Replay) -> str:
    """What came of it, as a person reads it."""
    guess = (
        f"\nThe journal is from before it held what the policy was asked: {found.num_guessed} suggestions were asked "
        "for without a limit of time, and may differ for that."
        if found.num_guessed
        else ""
    )
    if found.divergence is None:
        return f"all {found.num_equal} decisions are equal{guess}"
    return f"{found.num_equal} decisions are equal, and then one is not\n{_divergence_text(found.divergence)}{guess}"


def _divergence_text(one: Divergence) -> str:
    return "\n".join(
        [
            f"decision {one.number} differs, at line {one.line} of the journal ({one.kind} of {one.trial_id})",
            f"  recorded  {_decision_text(one.recorded)}",
            f"  now       {'nothing to do' if one.now is None else _decision_text(one.now)}",
        ]
    )


def _decision_text(told: dict[str, Any]) -> str:
    if "action" in told:
        return f"{told['action']} at rung {told['rung']}: {told['reason']}"
    candidate = told["candidate"]
    values = ", ".join(
        f"{name} {value:.6g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in candidate["configuration"].items()
    )
    return (
        f"{told['trial_id']} {candidate['family']} ({candidate['origin']}) to rung {told['rung']}, "
        f"{told['start_units']} to {told['stop_units']} units: {told['reason']}\n            {values}"
    )


def _as_json(found: Replay) -> dict[str, Any]:
    divergence = None if found.divergence is None else as_plain_json(asdict(found.divergence))
    return {
        "is_equal": found.is_equal,
        "num_equal": found.num_equal,
        "num_guessed": found.num_guessed,
        "divergence": divergence,
    }


def _kinds(begin: Any) -> list[WorkerKind]:
    """With the prices of that driver; how many slots there were decides nothing in a replay."""
    whole = float(begin.get("usd_per_second", 1.0)) / int(begin.get("num_slots", 1))
    prices: dict[Device, float] = begin.get("slot_usd_per_second", {"cpu": whole})
    return [WorkerKind(name=name, num_slots=1, usd_per_second=price) for name, price in prices.items()]


def _study_seconds(run: RunFolder, spec: ProjectSpec) -> float:
    return float(run.state().get("study_seconds", spec.tune.budget.minutes * 60))
