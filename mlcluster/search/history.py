"""What earlier studies over the same spaces teach a new one: which configurations to try first.

Studies differ in data, and so in the scale of their losses and in what is best; they agree on much all the same. Each
past study is read by a curve model of its own, which says what any configuration would have come to there. The
portfolio is then chosen greedily, so that on each past study one of its members is good (Feurer et al., AAAI 2015;
Winkelmolen et al., arXiv:2012.08489).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mlcluster.search.beliefs import FULL_FIDELITY, best_and_some, prior_level
from mlcluster.search.candidate import Candidate
from mlcluster.search.curve_model import CurveModel
from mlcluster.search.joint_space import Floats, JointSpace
from mlcluster.search.warped_losses import LossScale
from mlcluster.spec import SearchSpace

PORTFOLIO_SIZE = 8
_BEST_OF_A_STUDY = 12
"""Trials of each past study from which the portfolio is chosen."""
_MOST_REGRET = 1.5
"""On the scale of warped losses: beyond it, bad is bad."""
_MAX_OBSERVATIONS = 200
_MIN_TRIALS = 4
"""A study with fewer says nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PastTrial:
    """A trial of an earlier study: losses (k,) after `units` (k,) units; lower is better."""

    candidate: Candidate
    units: tuple[int, ...]
    losses: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class PastStudy:
    """An earlier study. `max_units` is by family: the units of a whole training there."""

    name: str
    trials: tuple[PastTrial, ...]
    max_units: Mapping[str, int]


def learn_portfolio(
    studies: Sequence[PastStudy], spaces: Mapping[str, SearchSpace], *, seed: int, size: int = PORTFOLIO_SIZE
) -> tuple[Candidate, ...]:
    """The configurations to try first on data not seen yet, best first; fewer than `size` where little is known.

    Trials outside of `spaces` are passed over.
    """
    space = JointSpace(spaces)
    useful = [study for study in (_within(study, space, spaces) for study in studies) if study is not None]
    pool = [candidate for study in useful for candidate in _best(study)]
    if not pool:
        return ()
    points = np.stack([space.point(candidate) for candidate in pool])
    regrets = np.stack([_regrets(study, space, points, seed=seed) for study in useful], axis=1)
    chosen: list[int] = []
    reached = np.full(len(useful), _MOST_REGRET)
    while len(chosen) < min(size, len(pool)):
        gains = (reached[None, :] - np.minimum(regrets, reached[None, :])).mean(axis=1)
        gains[chosen] = -1.0
        # Where nothing is left to gain, what is good everywhere comes next.
        best = int(np.lexsort((regrets.mean(axis=1), -gains))[0])
        chosen.append(best)
        reached = np.minimum(reached, regrets[best])
    return tuple(
        Candidate(family=pool[index].family, configuration=pool[index].configuration, origin="portfolio")
        for index in chosen
    )


def _within(study: PastStudy, space: JointSpace, spaces: Mapping[str, SearchSpace]) -> PastStudy | None:
    """The study without what has no place in the spaces; None where too little is left."""
    kept = tuple(
        trial
        for trial in study.trials
        if trial.candidate.family in space.families
        and trial.candidate.configuration.keys() == spaces[trial.candidate.family].keys()
        and trial.losses
    )
    if len(kept) < _MIN_TRIALS:
        return None
    return PastStudy(name=study.name, trials=kept, max_units=study.max_units)


def _best(study: PastStudy) -> list[Candidate]:
    """Of the trials, by the lowest loss that each has come to."""
    order = sorted(study.trials, key=lambda trial: min(trial.losses))
    return [trial.candidate for trial in order[:_BEST_OF_A_STUDY]]


def _regrets(study: PastStudy, space: JointSpace, points: Floats, *, seed: int) -> Floats:
    """How far behind the best the study's model expects each point to end, on its scale; shape (len(points),)."""
    rows, fidelities, losses = [], [], []
    for trial in study.trials:
        at = space.point(trial.candidate)
        for units, loss in zip(trial.units, trial.losses, strict=True):
            rows.append(at)
            fidelities.append(FULL_FIDELITY * units / study.max_units[trial.candidate.family])
            losses.append(loss)
    warped = LossScale.of(np.array(losses)).warp(np.array(losses))
    kept = best_and_some(warped, _MAX_OBSERVATIONS, np.random.default_rng([seed, len(losses)]))
    seen, at_fidelity = np.stack(rows)[kept], np.array(fidelities)[kept]
    centred = warped[kept] - prior_level(warped[kept], at_fidelity)
    model = CurveModel(space.num_axes, num_varying_axes=space.most_own_axes)
    model.fit(seen, at_fidelity, centred)
    model.condition(seen, at_fidelity, centred)
    ends = model.forecast(model.likeness(points), np.full(len(points), FULL_FIDELITY)).means
    return np.asarray(np.minimum(ends - ends.min(), _MOST_REGRET))
