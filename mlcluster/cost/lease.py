"""Node time is billed from launch to release, idle included: a lease says until when it is paid for.

Work is started only while the lease covers its worst case, and a lease is only lengthened with money that was reserved
for it. So no worker, busy or idle, ever costs more than the ledger holds for it. The price of all nodes may change
on the way, as when one is launched: what is paid for is then shorter, unless there is money to make up for it.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlcluster.cost.ledger import Ledger


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseTerms:
    """What is leased: nodes of one price in all, up to a last moment (seconds by the study's clock)."""

    account: str
    usd_per_second: float
    not_after: float


class NodeLease:
    """The nodes of one stage, from `started_at` until they are released."""

    def __init__(self, ledger: Ledger, terms: LeaseTerms, *, started_at: float) -> None:
        self._ledger = ledger
        self._terms = terms
        self._started_at = started_at
        self.paid_until = started_at
        self._usd_per_second = terms.usd_per_second
        self._usd_before, self._priced_at = 0.0, started_at
        """What was used up at earlier prices, and since when it is this one."""
        ledger.start(terms.account, at=started_at)

    @property
    def terms(self) -> LeaseTerms:
        return self._terms

    def latest_end(self) -> float:
        """The moment until which the lease could be lengthened with the money that is free now."""
        affordable = self.paid_until + self._ledger.free_usd / self._usd_per_second
        return min(self._terms.not_after, affordable)

    def try_extend(self, until: float, *, now: float) -> bool:
        """Pays for the nodes until `until`; False, and nothing reserved, where money or minutes forbid it."""
        if until <= self.paid_until:
            return True
        if until > self._terms.not_after:
            return False
        usd = (until - self.paid_until) * self._usd_per_second
        if not self._ledger.try_reserve(self._terms.account, usd, at=now):
            return False
        self.paid_until = until
        return True

    def reprice(self, usd_per_second: float, *, now: float) -> None:
        """From now on the nodes cost so much, one above zero; `paid_until` stays where the free money allows it."""
        if usd_per_second == self._usd_per_second:
            return
        at = max(self._priced_at, min(now, self.paid_until))
        self._usd_before += (at - self._priced_at) * self._usd_per_second
        held_usd = (self.paid_until - at) * self._usd_per_second
        more_usd = min(self._ledger.free_usd, (self.paid_until - at) * usd_per_second - held_usd)
        if more_usd > 0 and self._ledger.try_reserve(self._terms.account, more_usd, at=now):
            held_usd += more_usd
        self._priced_at, self._usd_per_second = at, usd_per_second
        self.paid_until = min(self._terms.not_after, at + held_usd / usd_per_second)

    def usd_until(self, now: float) -> float:
        """What the nodes cost from the start until now, paid for or not."""
        return self._usd_before + (now - self._priced_at) * self._usd_per_second

    def share(self, beneficiary: str, *, seconds: float, slot_share: float, now: float, is_lost: bool = False) -> float:
        """Books `seconds` on a `slot_share` of the nodes as one trial's part of the bill; gives the dollars.

        `is_lost` where nothing came of them.
        """
        usd = seconds * slot_share * self._terms.usd_per_second
        self._ledger.share(self._terms.account, beneficiary, usd, at=now, is_lost=is_lost)
        return usd

    def release(self, *, now: float) -> float:
        """Ends the lease: what it cost in dollars, at most what was paid for."""
        seconds = min(now, self.paid_until) - self._started_at
        usd = min(self.usd_until(min(now, self.paid_until)), self._ledger.reserved_on(self._terms.account))
        self._ledger.settle(self._terms.account, usd, seconds=seconds, at=now)
        return usd
