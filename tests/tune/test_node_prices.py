"""A study whose nodes become dearer on the way: it ends earlier, and all that they cost fits under the cap."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlcluster.train import Segment, TrialReport
from mlcluster.tune import VirtualClock, simulate_study
from tests.tune.studies import open_study, paced, synthetic_plan

CAP_USD, USD_PER_SECOND, DEARER_AFTER = 1.0, 1e-3, 100.0


def spend(folder: Path, *, factor: float) -> tuple[float, float]:
    """Seconds and settled dollars of a study whose nodes cost `factor` times as much after a while."""
    clock = VirtualClock()
    plan = synthetic_plan(seconds=1_000.0, unit_seconds=5.0, usd_per_second=USD_PER_SECOND)
    study, ledger = open_study(plan, folder, cap_usd=CAP_USD, clock=clock)

    def train(segment: Segment) -> TrialReport | None:
        study.reprice(USD_PER_SECOND if clock.now < DEARER_AFTER else factor * USD_PER_SECOND)
        return paced(segment)

    simulate_study(study, train, clock)
    ledger.close()
    return clock.now, ledger.spent_usd


def test_a_search_on_nodes_that_become_dearer_ends_earlier_and_keeps_the_cap(tmp_path: Path) -> None:
    plain_seconds, plain_usd = spend(tmp_path / "plain", factor=1.0)
    seconds, usd = spend(tmp_path / "dearer", factor=4.0)
    assert plain_seconds > 800
    assert 250 < seconds <= DEARER_AFTER + (CAP_USD - DEARER_AFTER * USD_PER_SECOND) / (4 * USD_PER_SECOND)
    assert plain_usd <= CAP_USD
    assert usd == pytest.approx(0.1 + (seconds - DEARER_AFTER) * 4 * USD_PER_SECOND, rel=0.1)
    assert usd <= CAP_USD


def test_nodes_that_go_never_make_a_search_cheaper_than_it_was_planned(tmp_path: Path) -> None:
    seconds, usd = spend(tmp_path, factor=0.1)
    assert usd == pytest.approx(seconds * USD_PER_SECOND)
