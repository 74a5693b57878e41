"""When a study stops because the next dollar is not worth it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mlcluster.errors import SpecError
from mlcluster.spec import load_spec
from mlcluster.tune import StudyResult, VirtualClock, simulate_study
from tests.tune.studies import open_study, paced, synthetic_plan


def searched(folder: Path, *, usd_per_point: float | None) -> StudyResult:
    """A study that could go on for 150 seconds."""
    plan = replace(synthetic_plan(num_slots=2, seconds=150.0), usd_per_point=usd_per_point)
    clock = VirtualClock(1_000.0)
    study, ledger = open_study(plan, folder, cap_usd=10.0, clock=clock, search="promise")
    try:
        return simulate_study(study, paced, clock)
    finally:
        ledger.close()


def test_a_study_ends_once_a_point_is_not_to_be_had_for_what_it_is_worth(tmp_path: Path) -> None:
    whole, worth, stingy = (searched(tmp_path / str(price), usd_per_point=price) for price in (None, 0.0005, 1e-6))
    assert stingy.usd < worth.usd < whole.usd
    best, of_worth = whole.ranked()[0].value, worth.ranked()[0].value
    assert best is not None
    assert of_worth is not None
    # What the rest of the money would have brought is no bargain: less than twice what it was said to be worth.
    assert (of_worth - best) * 100 * 0.0005 < 2 * (whole.usd - worth.usd)


def test_a_point_must_be_worth_something(tmp_path: Path) -> None:
    (tmp_path / "mlcluster.yaml").write_text(
        "project: p\ndata: {source: a.parquet, target: y}\ntune: {worth: {usd_per_point: 0}}\n"
    )
    with pytest.raises(SpecError, match=r"tune\.worth\.usd_per_point = 0"):
        load_spec(tmp_path / "mlcluster.yaml")
