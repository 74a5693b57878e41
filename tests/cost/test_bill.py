"""What a bill is made of adds up, through crashes and lost workers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcluster.cost import LeaseTerms, Ledger, NodeLease, read_bills, read_ledger

USD_PER_SECOND = 0.001


def test_a_worked_example(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path, cap_usd=1.0, now=0.0)
    ledger.try_reserve("tune", 0.5, at=0.0)
    ledger.start("tune", at=0.0)
    ledger.share("tune", "t0000", 0.1, at=1.0, is_lost=True)
    ledger.share("tune", "t0001", 0.2, at=2.0)
    ledger.close()  # the driver dies
    ledger = Ledger(path, cap_usd=1.0, now=400.0)
    ledger.close_open_reservations(usd_per_second=USD_PER_SECOND, now=400.0)
    ledger.try_reserve("tune", 0.3, at=400.0)
    ledger.share("tune", "t0001", 0.05, at=410.0)
    ledger.settle("tune", 0.2, seconds=200.0, at=600.0)
    lost_shares_usd = ledger.lost_shares_on("tune")
    ledger.close()
    bill = read_bills(read_ledger(path))["tune"]
    assert (bill.usd, bill.seconds) == (pytest.approx(0.6), pytest.approx(600.0))
    assert bill.shares == {"t0000": pytest.approx(0.1), "t0001": pytest.approx(0.25)}
    assert (bill.lost_usd, bill.idle_usd) == (pytest.approx(0.1), pytest.approx(0.15))
    assert bill.lost_with_workers_usd == pytest.approx(0.1)
    assert lost_shares_usd == 0.0  # of the ledger's own count, the crash has taken it


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), num_drivers=st.integers(1, 4))
def test_the_parts_add_up_and_none_is_negative(
    seed: int, num_drivers: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng, now = np.random.default_rng(seed), 0.0
    path = tmp_path_factory.mktemp("bill") / "ledger.jsonl"
    for driver in range(num_drivers):
        ledger = Ledger(path, cap_usd=100.0, now=now)
        ledger.close_open_reservations(usd_per_second=USD_PER_SECOND, now=now)
        terms = LeaseTerms(account="tune", usd_per_second=USD_PER_SECOND, not_after=1e9)
        lease = NodeLease(ledger, terms, started_at=now)
        for _ in range(int(rng.integers(0, 6))):
            seconds = float(rng.exponential(10.0))
            assert lease.try_extend(now + seconds + 5.0, now=now)
            now += seconds
            trial, is_lost = f"t{rng.integers(3):04d}", bool(rng.random() < 0.3)
            lease.share(trial, seconds=seconds * rng.random(), slot_share=1.0, now=now, is_lost=is_lost)
        if driver == num_drivers - 1 or rng.random() < 0.3:
            lease.release(now=now)
        ledger.close()
    bill = read_bills(read_ledger(path)).get("tune")
    assert bill is not None
    assert min(bill.idle_usd, bill.lost_usd) >= 0
    assert sum(bill.shares.values()) + bill.idle_usd + bill.lost_usd == pytest.approx(bill.usd)
    assert bill.lost_with_workers_usd <= sum(bill.shares.values()) + 1e-12
