"""Where configurations come from: the space of all families, and sources that draw from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mlcluster.spec import Configuration, SearchSpace, default_configuration


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A configuration of a family, before it is a trial."""

    family: str
    configuration: Configuration
    origin: str
    """What proposed it: `default`, `random`, `tpe`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """What a source may learn from: the loss of a candidate at one rung that it has reached."""

    candidate: Candidate
    rung: int
    loss: float


class CandidateSource(Protocol):
    """Proposes the next configuration. The same seed, index and observations give the same proposal."""

    def propose(self, index: int, observations: Sequence[Observation]) -> Candidate:
        """Candidate number `index` of the study."""


class BestFamiliesSource:
    """Draws more often from the families that do well: weights 1, 1/2, 1/4, ... by the rank of their best loss.

    Losses are compared at the highest rung at which all families that were seen stand, so that fidelities do not mix.
    `inner` gives the hyperparameters within the family that was drawn.
    """

    def __init__(self, inner: FamilySource, families: Sequence[str], *, seed: int) -> None:
        self._inner = inner
        self._families = tuple(families)
        self._seed = seed

    def propose(self, index: int, observations: Sequence[Observation]) -> Candidate:
        if index < len(self._families):
            return self._inner.propose_in(self._families[index], index, observations)
        ranked = rank_families(self._families, observations)
        weights = np.array([2.0 ** -ranked.index(family) for family in self._families])
        rng = np.random.default_rng([self._seed, index, 1])
        family = self._families[int(rng.choice(len(weights), p=weights / weights.sum()))]
        return self._inner.propose_in(family, index, observations)


class FamilySource(Protocol):
    """Proposes within one family; see `CandidateSource`."""

    def propose_in(self, family: str, index: int, observations: Sequence[Observation]) -> Candidate:
        """Candidate number `index` of the study, of that family."""


class RandomWithinFamily:
    """The family's default at first, then even draws; the seed and the index alone decide."""

    def __init__(self, spaces: Mapping[str, SearchSpace], *, seed: int) -> None:
        self._spaces = spaces
        self._seed = seed

    def propose_in(self, family: str, index: int, observations: Sequence[Observation]) -> Candidate:  # noqa: ARG002
        space = self._spaces[family]
        if index < len(self._spaces):
            return Candidate(family=family, configuration=default_configuration(space), origin="default")
        rng = np.random.default_rng([self._seed, index])
        units = rng.random(len(space))
        configuration = {
            name: domain.at(float(unit)) for (name, domain), unit in zip(space.items(), units, strict=True)
        }
        return Candidate(family=family, configuration=configuration, origin="random")


def rank_families(families: Sequence[str], observations: Sequence[Observation]) -> list[str]:
    """Best first, by the lowest loss at the highest rung at which each family that was seen stands; unseen ones last.

    At a rung that only some have reached, those would win for having been promoted, or for being so cheap that they
    stand everywhere.
    """
    if len(families) < 2:
        return list(families)
    best: dict[int, dict[str, float]] = {}
    for observation in observations:
        at_rung, family = best.setdefault(observation.rung, {}), observation.candidate.family
        at_rung[family] = min(at_rung.get(family, np.inf), observation.loss)
    num_seen = len({family for at_rung in best.values() for family in at_rung})
    for _, at_rung in sorted(best.items(), reverse=True):
        if len(at_rung) == num_seen >= 2:
            return sorted(families, key=lambda family: at_rung.get(family, np.inf))
    return list(families)
