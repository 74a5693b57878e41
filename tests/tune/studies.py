"""Studies of a synthetic family whose training is a pure function of the segment, for any runner."""

from __future__ import annotations

import itertools
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlcluster.cost import Ledger, WorkerKind
from mlcluster.search import BestFamiliesSource, Fidelity, HyperbandSettings, RandomWithinFamily, SearchPolicy
from mlcluster.spec import Configuration, FloatDomain, IntDomain
from mlcluster.train import CurvePoint, Segment, Span, TrialReport
from mlcluster.tune import (
    Study,
    StudyBudget,
    StudyPlan,
    StudyResult,
    VirtualClock,
    halving_policy,
    promise_policy,
    read_journal,
    simulate_study,
)
from mlcluster.tune.journal import Event

MAX_UNITS = 27
RUNGS = (1, 3, 9, 27)
"""Units at each rung, where a unit costs the same in each trial."""
SPACE = {"quality": FloatDomain(low=0.0, high=1.0, default=0.5), "pace": FloatDomain(low=0.1, high=1.0, default=0.3)}


def synthetic_plan(
    *,
    families: tuple[str, ...] = ("toy",),
    seconds: float = 10_000.0,
    num_slots: int = 1,
    usd_per_second: float = 1e-4,
    max_trials: int | None = None,
    seed: int = 0,
    unit_seconds: float = 1.0,
    max_together: int = 1,
    num_gpus: int = 0,
) -> StudyPlan:
    """A study in which a unit of each trial is nominally `unit_seconds` long.

    Trials of the family `toy` can be trained as one: each but the longest adds a tenth of what it would cost alone.
    They can also be trained on GPUs, in a fifth of the time after two units, at three times the price; a GPU's worker
    takes a share of `usd_per_second`, which is of all workers.
    """

    def nominal_seconds(configuration: Configuration, units: int) -> float:
        return units * unit_seconds

    def nominal_seconds_together(spans: Sequence[Span]) -> float:
        alone = sorted((span.stop_units - span.start_units) * unit_seconds for span in spans)
        return alone[-1] + 0.1 * sum(alone[:-1])

    def nominal_seconds_on_gpu(configuration: Configuration, units: int) -> float:
        return (2 + units / 5) * unit_seconds

    slot_usd = usd_per_second / (num_slots + 3 * num_gpus)
    kinds = (
        WorkerKind(name="cpu", num_slots=num_slots, usd_per_second=slot_usd),
        WorkerKind(name="gpu", num_slots=num_gpus, usd_per_second=3 * slot_usd, resources={"CPU": 1.0, "GPU": 1.0}),
    )
    fidelity = Fidelity(max_units=MAX_UNITS, nominal_seconds=nominal_seconds)
    return StudyPlan(
        study_id="synthetic",
        metric="log_loss",
        seed=seed,
        spaces=dict.fromkeys(families, SPACE),
        fidelities=dict.fromkeys(families, fidelity),
        settings=HyperbandSettings(rungs_seconds=tuple(units * unit_seconds for units in RUNGS)),
        budget=StudyBudget(
            seconds=seconds,
            num_slots=num_slots + num_gpus,
            usd_per_second=usd_per_second,
            max_trials=max_trials,
            max_together=max_together,
            kinds=kinds if num_gpus else (),
        ),
        grown_anew=frozenset({"tree"} & set(families)),
        together={name: nominal_seconds_together for name in families if name == "toy"},
        gpu_costs={name: nominal_seconds_on_gpu for name in families if name == "toy"},
    )


@dataclass(frozen=True, kw_only=True)
class Speeds:
    """Of learners whose work is their width, each unit: a core has no start, a GPU one that all widths pay."""

    cpu_width_per_second: float = 100.0
    gpu_width_per_second: float = 8_000.0
    gpu_start_seconds: float = 1.0

    def seconds(self, width: float, units: int, device: str) -> float:
        if device == "gpu":
            return units * (self.gpu_start_seconds + width / self.gpu_width_per_second)
        return units * width / self.cpu_width_per_second


def width_plan(
    kinds: Sequence[WorkerKind], speeds: Speeds, *, max_trials: int, seed: int = 0, unit_seconds: float = 1.0
) -> StudyPlan:
    """A study of nets of width 1 to 10,000, and of trees that know no GPU, which are as wide as 50."""
    spaces = {
        "nets": {**SPACE, "width": IntDomain(low=1, high=10_000, default=100, log=True)},
        "trees": {**SPACE, "width": IntDomain(low=50, high=51, default=50)},
    }

    def cost_on(device: str) -> Callable[[Configuration, int], float]:
        return lambda configuration, units: unit_seconds * speeds.seconds(configuration["width"], units, device)

    return StudyPlan(
        study_id="widths",
        metric="log_loss",
        seed=seed,
        spaces=spaces,
        fidelities=dict.fromkeys(spaces, Fidelity(max_units=MAX_UNITS, nominal_seconds=cost_on("cpu"))),
        settings=HyperbandSettings(rungs_seconds=tuple(10 * unit_seconds * units for units in RUNGS)),
        budget=StudyBudget.of_kinds(kinds, seconds=1e6, max_trials=max_trials),
        gpu_costs={"nets": cost_on("gpu")},
    )


def policy_of(plan: StudyPlan, search: str) -> SearchPolicy:
    """The policy that `search` names, `halving` or `promise`, before its first trial."""
    if search == "promise":
        return promise_policy(plan)
    source = BestFamiliesSource(RandomWithinFamily(plan.spaces, seed=plan.seed), tuple(plan.spaces), seed=plan.seed)
    return halving_policy(plan, source)


def open_study(
    plan: StudyPlan,
    folder: Path,
    *,
    cap_usd: float,
    clock: Callable[[], float],
    search: str = "halving",
    policy: SearchPolicy | None = None,
) -> tuple[Study, Ledger]:
    """The study as any driver begins it: what a crash left reserved is closed first.

    With `policy`, it decides, rather than a new one of those that `search` names.
    """
    ledger = Ledger(folder / "ledger.jsonl", cap_usd=cap_usd, now=clock())
    try:
        ledger.close_open_reservations(usd_per_second=plan.budget.usd_per_second, now=clock())
        decides = policy_of(plan, search) if policy is None else policy
        return Study(plan, folder=folder / "study", ledger=ledger, policy=decides, clock=clock), ledger
    except BaseException:
        ledger.close()
        raise


def loss_after(configuration: Configuration, units: int) -> float:
    """Falls with units, each configuration at its own pace to its own floor."""
    return float(configuration["quality"]) + math.exp(-units * float(configuration["pace"]))


def report_of(segment: Segment, *, seconds: float, units: int | None = None) -> TrialReport:
    """What a training of `segment` reports that took `seconds`; cut at `units`, if given."""
    reached = segment.stop_units if units is None else units
    trained = range(segment.start_units + 1, reached + 1)
    curve = tuple(
        CurvePoint(units=unit, value=loss_after(segment.configuration, unit), seconds=seconds) for unit in trained
    )
    return TrialReport(
        trial_id=segment.trial_id,
        units=reached,
        loss=loss_after(segment.configuration, reached),
        seconds=seconds,
        curve=curve,
        checkpoint=f"{segment.trial_id}-{reached}.state",
    )


def paced(segment: Segment) -> TrialReport:
    """What a training reports that takes half a second a unit."""
    return report_of(segment, seconds=0.5 * (segment.stop_units - segment.start_units))


def simulated(
    folder: Path, training: Callable[[Segment], TrialReport | None] = paced, **plan: Any
) -> tuple[StudyResult, list[Event]]:
    """A study of two families, 30 trials and two slots, if `plan` says nothing else; with its journal."""
    clock = VirtualClock(1_000.0)
    asked = {"families": ("toy", "other"), "num_slots": 2, "max_trials": 30, **plan}
    study, ledger = open_study(synthetic_plan(**asked), folder, cap_usd=10.0, clock=clock)
    result = simulate_study(study, training, clock)
    ledger.close()
    return result, list(read_journal(folder / "study" / "journal.jsonl"))


class WorkerDies(Exception):
    """Raised by a trainer to say that its worker is gone."""


@dataclass(frozen=True)
class SyntheticTrainer:
    """Trains at `seconds_per_unit`, and notes each segment that it has finished in `folder`.

    `deaths` are (trial id, units, times): the worker dies that often at that trial's segment from those units.
    """

    folder: Path
    seconds_per_unit: float = 0.0
    reports_seconds: bool = True
    """Whether it says how long it took. What is reported does not depend on the machine otherwise."""
    deaths: tuple[tuple[str, int, int], ...] = ()

    def __call__(self, segment: Segment) -> TrialReport:
        self._perhaps_die(segment)
        started = time.monotonic()
        for _ in range(segment.start_units, segment.stop_units):
            time.sleep(self.seconds_per_unit)
        note(self.folder / "executed.jsonl", segment_key(segment))
        is_measured = self.seconds_per_unit > 0 and self.reports_seconds
        seconds = time.monotonic() - started if is_measured else 0.01
        return report_of(segment, seconds=seconds)

    def together(self, segments: Sequence[Segment]) -> tuple[TrialReport, ...]:
        """The same for several as one, which it notes as well; it dies where any of them would."""
        for segment in segments:
            self._perhaps_die(segment)
        note(self.folder / "together.jsonl", [segment_key(segment) for segment in segments])
        return tuple(self(segment) for segment in segments)

    def _perhaps_die(self, segment: Segment) -> None:
        times = sum(
            times for name, units, times in self.deaths if (name, units) == (segment.trial_id, segment.start_units)
        )
        if noted(self.folder / "deaths.jsonl").count(segment_key(segment)) < times:
            note(self.folder / "deaths.jsonl", segment_key(segment))
            raise WorkerDies


@dataclass(frozen=True)
class InWorker:
    """A trainer whose worker really dies."""

    trainer: SyntheticTrainer

    def __call__(self, segment: Segment) -> TrialReport:
        try:
            return self.trainer(segment)
        except WorkerDies:
            os._exit(1)

    def together(self, segments: Sequence[Segment]) -> tuple[TrialReport, ...]:
        try:
            return self.trainer.together(segments)
        except WorkerDies:
            os._exit(1)


@dataclass(frozen=True)
class StuckTrainer:
    """One trial never returns, and never lets go of the interpreter either."""

    folder: Path
    stuck: str

    def __call__(self, segment: Segment) -> TrialReport:
        if segment.trial_id == self.stuck:
            note(self.folder / "stuck.jsonl", [time.time(), segment.deadline])
            sum(itertools.repeat(0))  # in C, for ever: no other thread of the process runs again
        return SyntheticTrainer(self.folder)(segment)


@dataclass(frozen=True)
class WhereTrainer:
    """Notes on which node it begins each segment."""

    folder: Path

    def __call__(self, segment: Segment) -> TrialReport:
        import ray

        note(self.folder / "begun.jsonl", [ray.get_runtime_context().get_node_id(), segment_key(segment)])
        return SyntheticTrainer(self.folder, seconds_per_unit=0.3)(segment)


class UnreadableTrainer:
    """A worker that is sent it cannot even read it."""

    def __reduce__(self) -> Any:
        return _refuse, ()


def _refuse() -> None:
    raise ImportError("no such module on this worker")


def segment_key(segment: Segment) -> list[Any]:
    return [segment.trial_id, segment.start_units, segment.stop_units]


def note(path: Path, value: Any) -> None:
    """Appends a line; short writes in append mode are whole, whoever else appends."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, json.dumps(value).encode() + b"\n")
    os.close(descriptor)


def noted(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def journal_of(folder: Path, *kinds: str) -> Iterator[dict[str, Any]]:
    """The events of these kinds in a study's journal, in order."""
    for line in (folder / "study" / "journal.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["kind"] in kinds:
            yield event
