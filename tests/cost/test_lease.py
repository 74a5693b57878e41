from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlcluster.cost import Forecast, LeaseTerms, Ledger, NodeLease, PriceBook, StageForecast

PRICE = 0.01


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path / "ledger.jsonl", cap_usd=1.0, now=0.0)
    yield opened
    opened.close()


@pytest.fixture
def lease(ledger: Ledger) -> NodeLease:
    return NodeLease(ledger, LeaseTerms(account="tune", usd_per_second=PRICE, not_after=80.0), started_at=0.0)


def test_idle_time_is_billed_like_busy_time(ledger: Ledger, lease: NodeLease) -> None:
    assert lease.try_extend(50.0, now=0.0)
    lease.share("t0000", seconds=10.0, slot_share=0.5, now=10.0)  # all that was worked
    assert lease.release(now=40.0) == pytest.approx(0.40)
    assert ledger.spent_on("tune") == pytest.approx(0.40)
    assert ledger.shares_of("tune") == pytest.approx({"t0000": 0.05})
    assert ledger.reserved_usd == 0.0


def test_a_lease_is_never_billed_beyond_what_was_paid_for(ledger: Ledger, lease: NodeLease) -> None:
    lease.try_extend(50.0, now=0.0)
    assert lease.release(now=55.0) == pytest.approx(0.50)


def test_money_and_minutes_each_bound_a_lease(ledger: Ledger, lease: NodeLease) -> None:
    assert lease.latest_end() == 80.0
    assert not lease.try_extend(80.1, now=0.0)
    ledger.try_reserve("verify", 0.6, at=0.0)
    assert lease.latest_end() == pytest.approx(40.0)
    assert not lease.try_extend(41.0, now=0.0)
    assert ledger.reserved_on("tune") == 0.0
    assert lease.try_extend(lease.latest_end() * (1 - 1e-9), now=0.0)
    assert ledger.spent_usd + ledger.reserved_usd <= 1.0


def test_a_lease_that_covers_a_moment_already_pays_nothing_more(ledger: Ledger, lease: NodeLease) -> None:
    lease.try_extend(30.0, now=0.0)
    assert lease.try_extend(20.0, now=5.0)
    assert ledger.reserved_on("tune") == pytest.approx(0.30)
    assert lease.paid_until == 30.0


def test_a_node_costs_the_same_busy_or_idle() -> None:
    book = PriceBook(cpu_usd_per_hour=0.05, gpu_usd_per_hour=2.0)
    assert book.node_usd_per_second(num_cpus=2, num_gpus=1) == pytest.approx(2.1 / 3600)
    assert book.node_usd_per_second(num_cpus=2) == pytest.approx(0.1 / 3600)


def test_a_forecast_adds_up_its_stages() -> None:
    stages = tuple(
        StageForecast(stage=name, expected_seconds=seconds, worst_case_seconds=2 * seconds, usd_per_second=PRICE)
        for name, seconds in (("data", 5.0), ("tune", 20.0))
    )
    forecast = Forecast(stages=stages, cap_usd=1.0)
    assert forecast.expected_usd == pytest.approx(0.25)
    assert forecast.worst_case_usd == pytest.approx(0.50)
    assert forecast.stage("tune").worst_case_usd == pytest.approx(0.40)
