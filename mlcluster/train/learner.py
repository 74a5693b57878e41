"""The seam between a search and a training loop: incremental, resumable, seeded.

A family says which configurations it takes and how much work they are; a learner trains one of them, unit by unit
(epochs, rounds, trees, row shares), and hands out its structure. The same configuration, data and seed give the same
bits, in one go or resumed any number of times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from mlcluster.data.augment import EpochAugmentation
from mlcluster.data.schema import ImageShape, TaskKind
from mlcluster.spec import Configuration, Device, SearchSpace
from mlcluster.train.structure import Structure

Encoding = Literal["ordinal", "dense"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Matrices:
    """Features (n, d) float32 in one encoding, and targets (n,): int64 class indices, or float64 values."""

    features: npt.NDArray[np.float32]
    targets: npt.NDArray[np.int64] | npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingData:
    """What learners see: the train and validation splits in each encoding. The test split stays away from here."""

    task: TaskKind
    num_classes: int
    train: Mapping[Encoding, Matrices]
    validation: Mapping[Encoding, Matrices]
    augmentation: EpochAugmentation | None = None
    """What nets make of the dense train rows in each epoch."""
    image: ImageShape | None = None
    """Of a table whose one feature is an image: what a row of either encoding is."""

    def size(self, encoding: Encoding) -> DataSize:
        rows, columns = self.train[encoding].features.shape
        draws = self.augmentation.draws_per_row if self.augmentation is not None and encoding == "dense" else 0
        outputs = max(1, self.num_classes)
        return DataSize(rows=rows, columns=columns, outputs=outputs, draws_per_row=draws, image=self.image)

    @property
    def sizes(self) -> dict[Encoding, DataSize]:
        """Of each encoding that there is."""
        return {encoding: self.size(encoding) for encoding in self.train}


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSize:
    """What the work of a training depends on besides its configuration."""

    rows: int
    columns: int
    outputs: int
    draws_per_row: int = 0
    """Random numbers by which each row is made anew in each epoch."""
    image: ImageShape | None = None
    """Where each row is one image."""


class Learner(Protocol):
    """One configuration in training."""

    @property
    def units(self) -> int:
        """Units of fidelity trained so far."""

    def advance(self, until: int) -> None:
        """Trains up to `until` units; does nothing where that many are trained already."""

    def scores(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Probabilities (n, k) of the k classes, or values (n,) of a regression."""

    def structure(self) -> Structure:
        """The model as numbers, for export and proofs."""

    def state(self) -> bytes:
        """All that `Family.restore` needs. Trusted: it is written and read only inside a study's own folder."""


class LearnerBatch(Protocol):
    """Learners of one family that are trained as one, until they are released."""

    def advance(self) -> None:
        """Trains each by one unit; their `units` grow, all else of them only when they are released."""

    def scores(self, features: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float64]]:
        """What `Learner.scores` would give for each, to float32 rounding."""

    def release(self) -> None:
        """Makes each learner what it would be after the same units alone, to float32 rounding."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """A configuration, and the units through which it is to be trained."""

    configuration: Configuration
    start_units: int
    stop_units: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Together:
    """How a family trains several configurations as one."""

    nominal_seconds: Callable[[Sequence[Span], DataSize], float]
    """Seconds that a reference core needs for all of them; infinite where they cannot be one. One span: as alone."""
    build: Callable[[Sequence[Learner]], LearnerBatch]


@dataclass(frozen=True, kw_only=True, slots=True)
class OnGpu:
    """How a family trains on a GPU."""

    nominal_seconds: Callable[[Configuration, DataSize, int], float]
    """Seconds that a reference GPU needs for that many units."""
    move: Callable[[Learner], None]
    """Takes a learner there. Raises ClusterError where there is no GPU that can be used."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """A kind of model that can be searched."""

    name: str
    encoding: Encoding
    fidelity_unit: str
    """What one unit is, in the plural: `epochs`, `rounds`."""
    space: SearchSpace
    max_units: int
    nominal_seconds: Callable[[Configuration, DataSize, int], float]
    """Seconds that a reference core needs for that many units: the work, counted before any of it is done."""
    build: Callable[[Configuration, TrainingData, int], Learner]
    """A fresh learner of a configuration, with a seed."""
    restore: Callable[[bytes, Configuration, TrainingData, int], Learner]
    """The learner that gave that state."""
    grows_anew: bool = False
    """Whether more units mean beginning again: a segment then pays for all of its units, and reports once."""
    model_grows: bool = False
    """Whether more units make a larger model, and not only a better one."""
    together: Together | None = None
    """None where each configuration is trained by itself."""
    on_gpu: OnGpu | None = None
    """None where it trains on CPUs only."""

    @property
    def devices(self) -> tuple[Device, ...]:
        """What it may be trained on."""
        return ("cpu",) if self.on_gpu is None else ("cpu", "gpu")
