"""Test scores of the models that were best at some time: trained again, after the search and outside of its bill.

The same configuration, data and seed give the same model, so that neither policy needs to have kept it; how far the
validation scores differ from those that the search saw is kept beside them as the proof.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlcluster.spec import Value
from mlcluster.train import FAMILIES, METRICS, Encoding, Matrices, TrainingData
from study_bench.datasets import Dataset
from study_bench.trace import Improvement


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """A trial, and after which units it is scored."""

    trial: str
    family: str
    configuration: Mapping[str, Value]
    seed: int
    units: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """By trial and units."""

    validation: Mapping[tuple[str, int], float]
    test: Mapping[tuple[str, int], float]


def trainings_of(trace: Sequence[Improvement]) -> list[Training]:
    """Each trial once, through all the units after which it was the best."""
    by_trial: dict[str, list[Improvement]] = {}
    for one in trace:
        by_trial.setdefault(one.trial, []).append(one)
    return [
        Training(
            trial=trial,
            family=of_trial[0].family,
            configuration=of_trial[0].configuration,
            seed=of_trial[0].seed,
            units=tuple(sorted({one.units for one in of_trial})),
        )
        for trial, of_trial in by_trial.items()
    ]


def retrain(training: Training, data: TrainingData, test: Mapping[Encoding, Matrices], metric: str) -> Scores:
    """Trains it once more, and scores both splits on the way."""
    import torch

    torch.set_num_threads(1)
    family = FAMILIES[training.family]
    learner = family.build(training.configuration, data, training.seed)

    def score(matrices: Matrices) -> float:
        return float(METRICS[metric].compute(matrices.targets, learner.scores(matrices.features)))

    validations, tests = {}, {}
    for units in training.units:
        learner.advance(units)
        validations[training.trial, units] = score(data.validation[family.encoding])
        tests[training.trial, units] = score(test[family.encoding])
    return Scores(validation=validations, test=tests)


def retrain_all(trace: Sequence[Improvement], dataset: Dataset) -> Scores:
    """On the workers of the connected Ray, as many at a time as there are."""
    import ray

    work = ray.remote(num_cpus=1)(retrain)
    data, test = ray.put(dataset.training), ray.put(dataset.test)
    found: list[Any] = ray.get([work.remote(one, data, test, dataset.metric) for one in trainings_of(trace)])
    return Scores(
        validation={key: value for scores in found for key, value in scores.validation.items()},
        test={key: value for scores in found for key, value in scores.test.items()},
    )


def largest_gap(trace: Sequence[Improvement], scores: Scores) -> float:
    """Between a validation score that the search saw and that of the same model trained again; 0 without any."""
    return max((abs(one.validation - scores.validation[one.trial, one.units]) for one in trace), default=0.0)
