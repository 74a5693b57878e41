"""What runs in the processes of Ray Tune's trials, which import no more than this: each trial starts one."""

from __future__ import annotations

from typing import Any

import torch
from ray import tune

from mlcluster.train import FAMILIES, METRICS, Family, TrainingData, as_loss

NUM_STEPS = 27
"""As ASHA counts progress: a whole training of any family."""
GRACE_PERIOD, REDUCTION_FACTOR = 1, 4
"""Ray's defaults."""


def scored_units(family: Family) -> list[int]:
    """After how many units a trial is scored: after each, or where each score costs a whole training, at the rungs."""
    if not family.grows_anew:
        return list(range(1, family.max_units + 1))
    rungs = [GRACE_PERIOD]
    while rungs[-1] * REDUCTION_FACTOR < NUM_STEPS:
        rungs.append(rungs[-1] * REDUCTION_FACTOR)
    # The fewest units that have come as far as the rung.
    return sorted({-(-rung * family.max_units // NUM_STEPS) for rung in (*rungs, NUM_STEPS)})


class LearnerTrainable(tune.Trainable):  # type: ignore[misc]  # Ray's base classes carry no types
    """Trains a learner from one score to the next, on one thread."""

    def setup(self, config: dict[str, Any], data: TrainingData, metric: str) -> None:
        torch.set_num_threads(1)
        self._data, self._metric = data, metric
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Goes on with another trial, where Tune keeps its processes."""
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        units = self._stops.pop(0)
        self._learner.advance(units)
        validation = self._data.validation[self._family.encoding]
        scores = self._learner.scores(validation.features)
        value = float(METRICS[self._metric].compute(validation.targets, scores))
        step = units * NUM_STEPS / self._family.max_units
        return {"loss": as_loss(self._metric, value), "value": value, "units": units, "step": step}

    def _begin(self, config: dict[str, Any]) -> None:
        self._family = FAMILIES[config["family"]]
        self._stops = scored_units(self._family)
        self._learner = self._family.build(config[self._family.name], self._data, config["seed"])
