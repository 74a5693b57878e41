"""The cap, through any order of events and any crash."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlcluster.cost import Ledger, read_ledger
from mlcluster.errors import ClusterError

CAP_USD = 1.0
USD_PER_SECOND = 0.01
ROUNDING = 1e-9

accounts = st.sampled_from(["data", "tune", "verify"])
dollars = st.floats(0.0, 0.6)
events = st.one_of(
    st.tuples(st.just("reserve"), accounts, dollars),
    st.tuples(st.just("start"), accounts, st.just(0.0)),
    st.tuples(st.just("settle"), accounts, st.floats(0.0, 1.0)),
    st.tuples(st.just("share"), accounts, dollars),
    st.tuples(st.just("wait"), accounts, st.floats(0.0, 100.0)),
    # The driver dies; `dollars` decides how much of the last line is torn off, if it was one that nobody acted on.
    st.tuples(st.just("crash"), accounts, dollars),
)


@dataclass
class Bookkeeper:
    """Drives a ledger on a virtual clock, and keeps books of its own in the simplest way."""

    path: Path
    now: float = 1_000.0
    spent: float = 0.0
    reserved: dict[str, float] = field(default_factory=dict)
    started: dict[str, float] = field(default_factory=dict)

    def open(self) -> None:
        self.ledger = Ledger(self.path, cap_usd=CAP_USD, now=self.now)

    def do(self, kind: str, account: str, amount: float) -> None:
        match kind:
            case "reserve":
                if self.ledger.try_reserve(account, amount, at=self.now):
                    self.reserved[account] = self.reserved.get(account, 0.0) + amount
                else:
                    assert amount > CAP_USD - self.spent - sum(self.reserved.values()) - ROUNDING
            case "start":
                self.ledger.start(account, at=self.now)
                self.started[account] = self.now
            case "settle":
                usd = amount * self.reserved.pop(account, 0.0)
                self.ledger.settle(account, usd, seconds=usd / USD_PER_SECOND, at=self.now)
                self.started.pop(account, None)
                self.spent += usd
            case "share":
                self.ledger.share(account, "t0001", amount, at=self.now)
            case "wait":
                self.now += amount
            case "crash":
                self.crash(torn=amount)

    def crash(self, *, torn: float) -> None:
        self.ledger.close()
        # Half of a line of which the process never heard that it was written.
        line = json.dumps({"op": "reserve", "account": "tune", "usd": 0.1, "at": self.now}).encode()
        with self.path.open("ab") as file:
            file.write(line[: int(torn * len(line))])
        self.open()
        self.check()
        expected = 0.0
        for account, usd in self.reserved.items():
            seconds = self.now - self.started.get(account, self.now)
            expected += min(usd, seconds * USD_PER_SECOND)
        lost = self.ledger.close_open_reservations(usd_per_second=USD_PER_SECOND, now=self.now)
        assert lost == pytest.approx(expected, abs=ROUNDING)
        self.spent += expected
        self.started = {account: at for account, at in self.started.items() if not self.reserved.get(account)}
        self.reserved.clear()

    def check(self) -> None:
        assert self.ledger.spent_usd + self.ledger.reserved_usd <= CAP_USD + ROUNDING
        assert self.ledger.spent_usd == pytest.approx(self.spent, abs=ROUNDING)
        assert self.ledger.reserved_usd == pytest.approx(sum(self.reserved.values()), abs=ROUNDING)


@pytest.fixture
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.mark.usefixtures("no_fsync")
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(schedule=st.lists(events, max_size=40))
def test_spent_and_reserved_never_exceed_the_cap_through_any_schedule_of_events_and_crashes(
    schedule: list[tuple[str, str, float]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    keeper = Bookkeeper(tmp_path_factory.mktemp("ledger") / "ledger.jsonl")
    keeper.open()
    for kind, account, amount in schedule:
        keeper.do(kind, account, amount)
        keeper.check()
    before = state_of(keeper.ledger)
    keeper.ledger.close()
    keeper.open()
    assert state_of(keeper.ledger) == before
    keeper.ledger.close()


def state_of(ledger: Ledger) -> dict[str, object]:
    return {
        "totals": (ledger.spent_usd, ledger.reserved_usd, ledger.lost_usd, ledger.free_usd),
        "accounts": {
            name: (
                ledger.spent_on(name), ledger.reserved_on(name), ledger.seconds_on(name), ledger.shares_of(name)
            )
            for name in ledger.accounts
        },
    }  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


def test_a_worked_example(path: Path) -> None:
    ledger = Ledger(path, cap_usd=1.0, now=0.0)
    assert ledger.try_reserve("tune", 0.75, at=1.0)
    assert not ledger.try_reserve("verify", 0.26, at=2.0)
    ledger.start("tune", at=2.0)
    ledger.settle("tune", 0.5, seconds=50.0, at=52.0)
    ledger.share("tune", "t0000", 0.3, at=52.0)
    ledger.share("tune", "t0000", 0.1, at=53.0)
    assert (ledger.spent_usd, ledger.reserved_usd, ledger.free_usd) == (0.5, 0.0, 0.5)
    assert ledger.seconds_on("tune") == 50.0
    assert ledger.shares_of("tune") == pytest.approx({"t0000": 0.4})
    assert ledger.try_reserve("verify", 0.5, at=54.0)
    ledger.close()
    assert [entry.operation for entry in read_ledger(path)] == [
        "open", "reserve", "start", "settle", "share", "share", "reserve",
    ]  # fmt: skip


def test_a_refused_reservation_leaves_no_trace(path: Path) -> None:
    ledger = Ledger(path, cap_usd=1.0, now=0.0)
    before = path.read_bytes()
    assert not ledger.try_reserve("tune", 1.01, at=0.0)
    assert path.read_bytes() == before
    ledger.close()


def test_work_that_was_not_started_costs_nothing_after_a_crash(path: Path) -> None:
    ledger = Ledger(path, cap_usd=1.0, now=0.0)
    ledger.try_reserve("tune", 0.4, at=0.0)
    ledger.close()
    again = Ledger(path, cap_usd=1.0, now=500.0)
    assert again.close_open_reservations(usd_per_second=1.0, now=500.0) == 0.0
    assert (again.free_usd, again.lost_usd) == (1.0, 0.0)
    again.close()


@pytest.mark.parametrize(("passed", "lost"), [(10.0, 0.1), (1_000.0, 0.4)])
def test_lost_work_costs_the_time_that_passed_and_at_most_what_was_reserved(
    path: Path, passed: float, lost: float
) -> None:
    ledger = Ledger(path, cap_usd=1.0, now=0.0)
    ledger.try_reserve("tune", 0.4, at=0.0)
    ledger.start("tune", at=0.0)
    ledger.close()
    again = Ledger(path, cap_usd=1.0, now=passed)
    assert again.close_open_reservations(usd_per_second=0.01, now=passed) == pytest.approx(lost)
    assert again.lost_usd == again.spent_usd == pytest.approx(lost)
    assert again.seconds_on("tune") == pytest.approx(lost / 0.01)
    again.close()


def test_lost_shares_are_told_apart_and_a_crash_takes_them_with_the_rest(path: Path) -> None:
    ledger = Ledger(path, cap_usd=1.0, now=0.0)
    ledger.try_reserve("tune", 0.4, at=0.0)
    ledger.start("tune", at=0.0)
    ledger.share("tune", "t0000", 0.1, at=1.0, is_lost=True)
    ledger.share("tune", "t0000", 0.2, at=2.0)
    assert ledger.shares_of("tune") == {"t0000": pytest.approx(0.3)}
    assert (ledger.lost_shares_on("tune"), ledger.lost_shares_on("verify")) == (0.1, 0.0)
    ledger.close()
    again = Ledger(path, cap_usd=1.0, now=3.0)
    assert again.lost_shares_on("tune") == 0.1
    again.close_open_reservations(usd_per_second=1.0, now=3.0)
    assert (again.lost_usd, again.lost_shares_on("tune")) == (0.4, 0.0)
    again.close()


def test_two_openers_are_refused(path: Path) -> None:
    ledger = Ledger(path, cap_usd=1.0, now=0.0)
    with pytest.raises(ClusterError, match=r"ledger\.jsonl is in use by another process; wait"):
        Ledger(path, cap_usd=1.0, now=0.0)
    ledger.close()
    Ledger(path, cap_usd=1.0, now=0.0).close()


@pytest.mark.parametrize(
    "damage",
    [
        b"garbage",
        b"",
        b"\xff\xfe",
        b"5",
        b"[]",
        b'{"op": "settle"}',
        b'{"op": "settle", "account": "tune", "usd": null, "at": 0}',
        b'{"op": "settle", "account": "tune", "usd": NaN, "at": 0}',
        b'{"op": "refund", "account": "tune", "usd": 1, "at": 0}',
        b'{"op": "share", "account": "tune", "usd": 1, "at": 0}',
    ],
)
def test_a_damaged_line_in_the_middle_is_refused_and_named(path: Path, damage: bytes) -> None:
    ledger = Ledger(path, cap_usd=1.0, now=0.0)
    ledger.try_reserve("tune", 0.4, at=0.0)
    ledger.close()
    first, second, _ = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([first, damage, second, b""]))
    for _ in range(2):  # the refusal itself must not keep the file locked
        with pytest.raises(ClusterError, match=r"ledger\.jsonl:2 is no ledger entry; restore the file"):
            Ledger(path, cap_usd=1.0, now=0.0)


def test_a_torn_last_line_is_as_if_it_was_never_written(path: Path) -> None:
    ledger = Ledger(path, cap_usd=1.0, now=0.0)
    ledger.try_reserve("tune", 0.4, at=0.0)
    ledger.close()
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op": "reserve", "account": "tune", "usd": 0.')
    assert len(list(read_ledger(path))) == 2
    again = Ledger(path, cap_usd=1.0, now=1.0)
    assert again.reserved_usd == 0.4
    again.try_reserve("tune", 0.1, at=2.0)
    again.close()
    assert path.read_bytes().startswith(whole)
    assert len(list(read_ledger(path))) == 4


def test_a_lowered_cap_stops_spending_without_losing_the_past(path: Path) -> None:
    ledger = Ledger(path, cap_usd=1.0, now=0.0)
    ledger.try_reserve("tune", 0.8, at=0.0)
    ledger.settle("tune", 0.8, seconds=80.0, at=80.0)
    ledger.close()
    again = Ledger(path, cap_usd=0.5, now=81.0)
    assert (again.spent_usd, again.free_usd) == (0.8, 0.0)
    assert not again.try_reserve("tune", 0.01, at=82.0)
    again.close()


def test_more_than_was_reserved_cannot_be_settled(path: Path) -> None:
    ledger = Ledger(path, cap_usd=1.0, now=0.0)
    ledger.try_reserve("tune", 0.1, at=0.0)
    with pytest.raises(AssertionError, match=r"tune: 0\.2 spent, only 0\.1 reserved"):
        ledger.settle("tune", 0.2, seconds=1.0, at=1.0)
    with pytest.raises(ValueError, match="cannot reserve -1 dollars"):
        ledger.try_reserve("tune", -1, at=1.0)
    ledger.close()


def test_the_file_is_its_owners_alone_and_only_grows(path: Path) -> None:
    ledger = Ledger(path, cap_usd=1.0, now=0.0)
    assert path.stat().st_mode & 0o777 == 0o600
    seen = b""
    for step in range(5):
        ledger.try_reserve("tune", 0.1, at=float(step))
        assert path.read_bytes().startswith(seen)
        seen = path.read_bytes()
    ledger.close()
