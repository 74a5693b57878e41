"""One piece of training: from a checkpoint to a number of units, within a limit of seconds that holds.

The limit is what makes a reserved worst case true. Between units the clock is asked whether one more unit fits; a unit
that overruns all the same is ended from outside by the runner (a watchdog that needs no cooperation).
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from mlcluster.spec import Configuration, Device
from mlcluster.train.families import FAMILIES
from mlcluster.train.learner import Learner, TrainingData
from mlcluster.train.metrics import METRICS, as_loss

SOFT_SHARE = 0.8
"""Share of the limit within which the next unit must be expected to end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """What to train: one configuration of a family, from the units in its checkpoint (or none) up to `stop_units`."""

    trial_id: str
    family: str
    configuration: Configuration
    seed: int
    start_units: int
    stop_units: int
    limit_seconds: float
    """What it may take once it has begun."""
    deadline: float
    """Seconds since the epoch up to which its worker is paid for, late beginnings included."""
    device: Device = "cpu"
    """What its worker trains on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CurvePoint:
    """The validation metric after that many units, and the seconds that training them took in this segment."""

    units: int
    value: float
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What serving a trial's model needs."""

    p99_ms: float
    """Of an answer to one row."""
    model_mb: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialReport:
    """What a segment came to. `units` below `stop_units` of its segment means that the limit cut it short."""

    trial_id: str
    units: int
    loss: float
    """The metric as a loss, lower is better, at `units`."""
    seconds: float
    """From the start of the segment to its written checkpoint; of several trained together, this one's share."""
    curve: tuple[CurvePoint, ...]
    checkpoint: str
    """File name of the checkpoint, in the study's folder for them."""
    measured: Measured | None = None
    """Of its model, where that was measured after this segment."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; `from_json` gives an equal report."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def of(
        cls, trial_id: str, metric: str, curve: Sequence[CurvePoint], *, seconds: float, checkpoint: str
    ) -> TrialReport:
        """The report of a curve; its last point is what the segment came to."""
        return cls(
            trial_id=trial_id,
            units=curve[-1].units,
            loss=as_loss(metric, curve[-1].value),
            seconds=seconds,
            curve=tuple(curve),
            checkpoint=checkpoint,
        )

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TrialReport:
        curve = tuple(CurvePoint(**point) for point in value["curve"])
        measured = Measured(**value["measured"]) if value.get("measured") is not None else None
        return cls(**{**value, "curve": curve, "measured": measured})


class Checkpoints(Protocol):
    """What a training reads its state from and writes it to; it is written before the segment is reported."""

    def read(self, name: str) -> bytes:
        """The state under this name, which was written before."""

    def write(self, name: str, state: bytes) -> None:
        """Keeps a state, whole or not at all."""


class CheckpointFolder:
    """Where a study keeps the state of its trials, one file for each (trial, units); written whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()

    def write(self, name: str, state: bytes) -> None:
        """0600, and moved into place: a reader never sees half a state."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=self._folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(state)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(self._folder / name)
        except BaseException:
            Path(temporary).unlink()
            raise

    def delete(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)


def checkpoint_name(trial_id: str, units: int) -> str:
    """Of the state of a trial after that many units."""
    return f"{trial_id}-{units}.state"


def load_learner(segment: Segment, data: TrainingData, checkpoints: Checkpoints) -> Learner:
    """The learner of a segment at its `start_units`, on the segment's device."""
    family = FAMILIES[segment.family]
    if segment.start_units == 0:
        learner = family.build(segment.configuration, data, segment.seed)
    else:
        state = checkpoints.read(checkpoint_name(segment.trial_id, segment.start_units))
        learner = family.restore(state, segment.configuration, data, segment.seed)
    if segment.device == "gpu":
        assert family.on_gpu is not None, f"{segment.family} trains on CPUs"
        family.on_gpu.move(learner)
    return learner


def save_learner(segment: Segment, learner: Learner, checkpoints: Checkpoints) -> str:
    """Writes the checkpoint of a segment as far as it came; gives its name."""
    name = checkpoint_name(segment.trial_id, learner.units)
    checkpoints.write(name, learner.state())
    return name


@dataclass(kw_only=True, slots=True)
class Pace:
    """Whether one more unit fits into a limit, going by the slowest so far; the first one always does."""

    started: float
    limit_seconds: float
    _slowest_unit: float | None = None

    def has_room(self, now: float) -> bool:
        if self._slowest_unit is None:
            return True
        return now - self.started + self._slowest_unit <= SOFT_SHARE * self.limit_seconds

    def note(self, unit_seconds: float) -> None:
        """A unit took that long."""
        self._slowest_unit = max(self._slowest_unit or 0.0, unit_seconds)


def run_segment(
    segment: Segment,
    data: TrainingData,
    checkpoints: Checkpoints,
    *,
    metric: str,
    clock: Callable[[], float] = time.monotonic,
) -> TrialReport:
    """Trains a segment, scoring the validation split after each unit, and writes its checkpoint."""
    pace = Pace(started=clock(), limit_seconds=segment.limit_seconds)
    learner = load_learner(segment, data, checkpoints)
    validation = data.validation[FAMILIES[segment.family].encoding]
    curve: list[CurvePoint] = []
    while learner.units < segment.stop_units:
        before = clock()
        if not pace.has_room(before):
            break
        learner.advance(_next_stop(segment, learner.units))
        value = METRICS[metric].compute(validation.targets, learner.scores(validation.features))
        pace.note(clock() - before)
        curve.append(CurvePoint(units=learner.units, value=float(value), seconds=clock() - pace.started))
    name = save_learner(segment, learner, checkpoints)
    return TrialReport.of(segment.trial_id, metric, curve, seconds=clock() - pace.started, checkpoint=name)


def _next_stop(segment: Segment, units: int) -> int:
    """One unit on, except for what is grown anew each time, and so only at the end."""
    return segment.stop_units if FAMILIES[segment.family].grows_anew else units + 1
