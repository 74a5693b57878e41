"""What a study expects of its segments, where their seconds depend on more than the estimates know."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mlcluster.train import Segment, TrialReport
from mlcluster.tune import VirtualClock, simulate_study
from tests.tune.studies import SPACE, journal_of, open_study, report_of, synthetic_plan

NOISE = 0.15
"""Of the logarithm of seconds: what no forecast can know."""


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


class PlantedLaw:
    """A training whose seconds are its nominal ones times a factor that its hyperparameters say, and noise."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def together(self, segments: Sequence[Segment]) -> tuple[TrialReport, ...]:
        """As `synthetic_plan` has it: each but the longest adds a tenth."""
        units = sorted(segment.stop_units - segment.start_units for segment in segments)
        nominal = units[-1] + 0.1 * sum(units[:-1])
        factor = float(np.mean([self.factor(segment) for segment in segments]))
        seconds = nominal * factor * math.exp(self._rng.normal(0.0, NOISE))
        return tuple(report_of(segment, seconds=seconds / len(segments)) for segment in segments)

    def alone(self, segment: Segment) -> TrialReport:
        return self.together([segment])[0]

    @staticmethod
    def factor(segment: Segment) -> float:
        pace, quality = (SPACE[name].unit(float(segment.configuration[name])) for name in ("pace", "quality"))
        return math.exp(2.0 * (pace - 0.5) - 1.0 * (quality - 0.5) ** 2)


def pieces(folder: Path) -> list[tuple[float, float, float]]:
    """Expected, worst-case and actual seconds of each finished piece, in the order in which they started."""
    found: dict[tuple[str, float], list[float]] = {}
    running: dict[str, tuple[str, float]] = {}
    for event in journal_of(folder, "start", "report"):
        if event["kind"] == "start":
            running[event["trial_id"]] = key = event["piece"], event["at"]
            sums = found.setdefault(key, [0.0, 0.0, 0.0])
            sums[0] += event["expected_seconds"]
            sums[1] += event["worst_case_seconds"]
        else:
            found[running[event["trial_id"]]][2] += event["seconds"]
    return [(expected, worst, actual) for expected, worst, actual in found.values()]


def forecasts(folder: Path, *, max_together: int) -> tuple[float, float]:
    """Median absolute log error over the last half of the pieces, and the share of all under their worst case."""
    folder.mkdir()
    clock, law = VirtualClock(1_000.0), PlantedLaw(seed=1)
    plan = synthetic_plan(max_trials=120, seed=2, max_together=max_together)
    study, ledger = open_study(plan, folder, cap_usd=10.0, clock=clock)
    simulate_study(study, law.alone, clock, together=law.together)
    ledger.close()
    found = pieces(folder)
    errors = [abs(math.log(actual / expected)) for expected, _, actual in found[len(found) // 2 :]]
    return float(np.median(errors)), float(np.mean([actual <= worst for _, worst, actual in found]))


@pytest.mark.parametrize("max_together", [1, 4])
def test_forecasts_know_the_configuration(max_together: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error, under_worst_share = forecasts(tmp_path / "with", max_together=max_together)
    with monkeypatch.context() as patched:
        patched.setattr("mlcluster.tune.course.point_of", lambda *_: np.empty(0))
        blind_error, _ = forecasts(tmp_path / "without", max_together=max_together)
    assert error < 0.6 * blind_error
    assert error < 1.5 * NOISE
    assert under_worst_share >= 0.95
