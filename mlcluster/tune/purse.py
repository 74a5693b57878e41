"""The money and the minutes of a study: the lease of its nodes, what a piece may take of it, and how the bill is split.

Moments are given, not read: whoever decides something at a moment asks all of it of that moment.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlcluster.cost import Duration, LeaseTerms, Ledger, NodeLease
from mlcluster.spec import Device
from mlcluster.tune.plan import SEARCH_SHARE, StudyBudget

ACCOUNT = "tune"
WORKER_START_SECONDS = 15.0
"""Paid for beside each segment: its worker may have to be started first, a process and its imports."""
HANDOVER_SECONDS = 2.5
"""The same at least, when little is left: handing it to a worker that is up."""
RELEASE_SECONDS = 3.0
"""Paid for behind the last segment: ending the workers."""
PATIENCE_SECONDS, PATIENCE_SHARE = 20.0, 0.2
"""A segment may take this long, or that share of the room that is left, even where its worst case is shorter."""
USEFUL_SHARE, USEFUL_SECONDS = 1.2, 2.0
"""A segment starts with less than its worst case when this multiple of its expected time, and this long, still fit."""
_HAIR = 1 - 1e-9
"""The last moment of a lease is a quotient, and may be off by a rounding: a hair less always fits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Allowance:
    """How long a piece may take once it has begun, and until when its worker is paid for in any case."""

    limit_seconds: float
    deadline: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """For how long a worker of a kind was held for a trial; lost where nothing came of it."""

    worker: Device
    seconds: float
    is_lost: bool = False


class Purse:
    """Of one driver of a study, from `started_at` until it is closed; what earlier ones spent is in the ledger."""

    def __init__(self, budget: StudyBudget, ledger: Ledger, *, started_at: float) -> None:
        self._budget = budget
        self._ledger = ledger
        self._started_at = started_at
        self._seconds_before = ledger.seconds_on(ACCOUNT)
        self._spent_before_usd = ledger.spent_on(ACCOUNT)
        terms = LeaseTerms(
            account=ACCOUNT,
            usd_per_second=budget.usd_per_second,
            not_after=started_at + budget.seconds - self._seconds_before,
        )
        self._lease = NodeLease(ledger, terms, started_at=started_at)
        self._no_new_trials_after = started_at + SEARCH_SHARE * self.seconds_left(started_at)

    def seconds_left(self, now: float) -> float:
        """Until the last moment that money and minutes allow."""
        return max(0.0, self._lease.latest_end() - now)

    def room_seconds(self, now: float) -> float:
        """What a segment that starts now may take at most."""
        return max(0.0, self._lease.latest_end() - now - RELEASE_SECONDS - HANDOVER_SECONDS)

    def may_start_trials(self, now: float) -> bool:
        """Whether there is time for new trials; what is left behind it is for those that go on."""
        return now < self._no_new_trials_after

    def usd_so_far(self, now: float) -> float:
        """Of this study: what earlier drivers spent, and this one's nodes until now."""
        return self._spent_before_usd + self._lease.usd_until(now)

    def seconds_so_far(self, now: float) -> float:
        """The same in seconds of wall clock."""
        return self._seconds_before + now - self._started_at

    def is_overdrawn(self, now: float) -> bool:
        """Whether it is later than was paid for."""
        return now > self._lease.paid_until

    def reprice(self, usd_per_second: float, now: float, *, given_up_usd_per_second: float = 0.0) -> None:
        """All nodes cost so much from now on; never less than was planned with, but for those that were given up."""
        one_worker = min(kind.usd_per_second for kind in self._budget.kinds)
        planned = max(one_worker, self._budget.usd_per_second - given_up_usd_per_second)
        self._lease.reprice(max(usd_per_second, planned), now=now)

    def keep_open(self, now: float) -> bool:
        """Keeps the nodes paid for while no worker is up; False where the money or the minutes for that are gone."""
        if self._lease.paid_until <= now + RELEASE_SECONDS:
            until = min(now + WORKER_START_SECONDS + RELEASE_SECONDS, self._lease.latest_end())
            self._lease.try_extend(now + (until - now) * _HAIR, now=now)
        return self._lease.paid_until > now

    def allow(self, duration: Duration, now: float) -> Allowance | None:
        """The time that a segment gets, all paid for; None where it would be too little to be of use."""
        room = self._lease.latest_end() - now - RELEASE_SECONDS
        handover_seconds = min(WORKER_START_SECONDS, max(HANDOVER_SECONDS, room / 3))
        # While there is much room, a limit costs nothing: a worker that is held up need not be ended for it.
        patience_seconds = min(PATIENCE_SECONDS, PATIENCE_SHARE * room)
        limit_seconds = min(max(duration.worst_case_seconds, patience_seconds), room - handover_seconds)
        useful_seconds = max(USEFUL_SECONDS, USEFUL_SHARE * duration.expected_seconds)
        if limit_seconds < min(duration.worst_case_seconds, useful_seconds):
            return None
        deadline = now + handover_seconds + limit_seconds * _HAIR
        if not self._lease.try_extend(deadline + RELEASE_SECONDS * _HAIR, now=now):
            return None
        return Allowance(limit_seconds=limit_seconds, deadline=deadline)

    def book(self, trial_id: str, held: Held, now: float) -> float:
        """A trial's part of the bill, in dollars."""
        slot_share = self._budget.slot_usd_per_second(held.worker) / self._budget.usd_per_second
        return self._lease.share(trial_id, seconds=held.seconds, slot_share=slot_share, now=now, is_lost=held.is_lost)

    def close(self, now: float) -> None:
        """Releases the nodes and settles the bill."""
        self._lease.release(now=now)

    @property
    def spent_usd(self) -> float:
        """What was settled for the study, by all its drivers."""
        return self._ledger.spent_on(ACCOUNT)

    @property
    def spent_seconds(self) -> float:
        return self._ledger.seconds_on(ACCOUNT)

    @property
    def lost_usd(self) -> float:
        return self._ledger.lost_usd

    def usd_by_trial(self) -> dict[str, float]:
        """Each trial's part of the bill."""
        return self._ledger.shares_of(ACCOUNT)
