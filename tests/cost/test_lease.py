from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def test_a_dearer_node_on_the_way_is_paid_for_from_then_on(ledger: Ledger, lease: NodeLease) -> None:
    lease.try_extend(40.0, now=0.0)
    lease.reprice(2 * PRICE, now=10.0)
    assert lease.paid_until == 40.0
    assert ledger.reserved_on("tune") == pytest.approx(0.10 + 0.60)
    assert lease.latest_end() == pytest.approx(55.0)
    assert lease.release(now=30.0) == pytest.approx(0.10 + 0.40)


def test_where_the_money_is_short_a_dearer_lease_is_paid_for_less_long(ledger: Ledger, lease: NodeLease) -> None:
    lease.try_extend(50.0, now=0.0)
    ledger.try_reserve("verify", 0.4, at=0.0)
    lease.reprice(4 * PRICE, now=10.0)
    assert lease.paid_until == pytest.approx(10.0 + 0.5 / (4 * PRICE))
    assert ledger.spent_usd + ledger.reserved_usd <= 1.0
    assert lease.release(now=60.0) == pytest.approx(0.6)


def test_a_cheaper_lease_lasts_longer_for_the_same_money(ledger: Ledger, lease: NodeLease) -> None:
    lease.try_extend(40.0, now=0.0)
    lease.reprice(PRICE / 2, now=20.0)
    assert lease.paid_until == pytest.approx(60.0)
    lease.reprice(PRICE / 100, now=30.0)
    assert lease.paid_until == 80.0  # not_after
    assert lease.release(now=40.0) == pytest.approx(0.20 + 0.05 + 0.001)
    assert ledger.reserved_usd == 0.0


@given(
    st.lists(st.tuples(st.floats(0.01, 20), st.floats(1e-4, 0.2), st.floats(0, 30)), max_size=15),
    st.floats(0, 0.9),
)
def test_whatever_prices_do_the_lease_keeps_the_cap(steps: list[tuple[float, float, float]], other_usd: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "ledger.jsonl", cap_usd=1.0, now=0.0)
        ledger.try_reserve("verify", other_usd, at=0.0)
        lease = NodeLease(ledger, LeaseTerms(account="tune", usd_per_second=PRICE, not_after=80.0), started_at=0.0)
        now = 0.0
        for passed, usd_per_second, ahead in steps:
            now += passed
            lease.reprice(usd_per_second, now=now)
            assert lease.usd_until(min(now, lease.paid_until)) <= ledger.reserved_on("tune") + 1e-9
            lease.try_extend(now + ahead, now=now)
            assert ledger.spent_usd + ledger.reserved_usd <= 1.0 + 1e-12
        lease.release(now=now)
        ledger.close()
        assert ledger.spent_on("tune") <= 1.0 - other_usd + 1e-9
