"""Optuna's TPE as a source of configurations within a family.

BOHB's rule (Falkner et al., ICML 2018): the model is fitted on the highest rung that holds enough observations, never
on a mix of fidelities. The sampler is rebuilt from the observations for each proposal, so a resumed search needs no
state.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from mlcluster.search.candidate import Candidate, FamilySource, Observation
from mlcluster.spec import ChoiceDomain, Domain, FloatDomain, SearchSpace

MIN_OBSERVATIONS = 8
"""A rung with fewer of a family says too little to model."""
RANDOM_SHARE = 0.3
"""Proposals that stay random, so that the search cannot lock itself in."""


class TpeWithinFamily:
    """TPE where a family has enough observations, else `fallback`."""

    def __init__(self, spaces: Mapping[str, SearchSpace], *, fallback: FamilySource, seed: int) -> None:
        self._spaces = spaces
        self._fallback = fallback
        self._seed = seed

    def propose_in(self, family: str, index: int, observations: Sequence[Observation]) -> Candidate:
        modelled = _highest_full_rung([seen for seen in observations if seen.candidate.family == family])
        is_random = np.random.default_rng([self._seed, index, 2]).random() < RANDOM_SHARE
        if not modelled or is_random:
            return self._fallback.propose_in(family, index, observations)
        configuration = _ask_tpe(self._spaces[family], modelled, seed=self._seed * 1_000_003 + index)
        return Candidate(family=family, configuration=configuration, origin="tpe")


def _highest_full_rung(observations: Sequence[Observation]) -> list[Observation]:
    for rung in sorted({seen.rung for seen in observations}, reverse=True):
        at_rung = [seen for seen in observations if seen.rung == rung]
        if len(at_rung) >= MIN_OBSERVATIONS:
            return at_rung
    return []


def _ask_tpe(space: SearchSpace, observations: Sequence[Observation], *, seed: int) -> dict[str, int | float | str]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {name: _distribution(domain) for name, domain in space.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(seed=seed % 2**32, multivariate=True, n_startup_trials=0)
        study = optuna.create_study(sampler=sampler)
        for seen in observations:
            study.add_trial(
                optuna.trial.create_trial(
                    params=dict(seen.candidate.configuration), distributions=distributions, value=seen.loss
                )
            )
        return dict(study.ask(distributions).params)


def _distribution(domain: Domain) -> BaseDistribution:
    if isinstance(domain, ChoiceDomain):
        return CategoricalDistribution(domain.options)
    if isinstance(domain, FloatDomain):
        return FloatDistribution(domain.low, domain.high, log=domain.log)
    return IntDistribution(domain.low, domain.high, log=domain.log)
