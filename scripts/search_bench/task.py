"""What a policy is told before a run."""

from __future__ import annotations

from dataclasses import dataclass

from mlcluster.spec import Configuration, SearchSpace
from mlcluster.tune.benchmark import Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class PastTrial:
    """A training on another task, as far as it went; both arrays of shape (epochs,)."""

    configuration: Configuration
    losses: Floats
    """After each epoch, lower is better. Tasks differ in scale: compare losses within a study only."""
    seconds: Floats
    """From the start of the training to the end of each epoch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PastStudy:
    """An earlier search on another task of the same space."""

    task: str
    trials: tuple[PastTrial, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyTask:
    """All that a policy may know: not the task's name, its costs or what is good there."""

    space: SearchSpace
    max_epochs: int
    seed: int
    num_workers: int
    warm_history: tuple[PastStudy, ...] = ()
    """Empty for a cold run."""
