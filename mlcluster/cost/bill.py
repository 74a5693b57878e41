"""The bill of an account as its ledger tells it: what trials bear, what dead drivers have lost, what was idle.

Pure. A crash loses all that was reserved and used (the ledger knows no better), but what had been split among trials
before it stays theirs: here it is not counted as lost as well, so that the parts add up to the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mlcluster.cost.ledger import LedgerEntry

_ROUNDING_USD = 1e-12


@dataclass(frozen=True, kw_only=True, slots=True)
class Bill:
    """The dollars of one account. Once all is settled, `shares`, `idle_usd` and `lost_usd` add up to `usd`."""

    usd: float
    seconds: float
    shares: Mapping[str, float]
    """By trial, those included that are not settled yet."""
    idle_usd: float
    """Settled, and of no trial; all of it where nothing was split."""
    lost_usd: float
    """Of drivers that died, without what their trials bear."""
    lost_with_workers_usd: float
    """Of `shares`, to no avail: the worker was lost, or the training raised."""


def read_bills(entries: Iterable[LedgerEntry]) -> dict[str, Bill]:
    """By account, for each that has cost anything or whose money was split among trials."""
    sums: dict[str, _Sums] = {}
    for entry in entries:
        if entry.operation in ("settle", "lose", "share"):
            sums.setdefault(entry.account, _Sums()).add(entry)
    return {account: one.bill() for account, one in sums.items()}


class _Sums:
    def __init__(self) -> None:
        self._usd = self._seconds = self._idle_usd = self._lost_usd = self._lost_with_workers_usd = 0.0
        self._open_usd = 0.0
        """Split among trials, and not settled or lost yet."""
        self._shares: dict[str, float] = {}

    def add(self, entry: LedgerEntry) -> None:
        if entry.operation == "share":
            who = str(entry.details["who"])
            self._shares[who] = self._shares.get(who, 0.0) + entry.usd
            self._open_usd += entry.usd
            self._lost_with_workers_usd += entry.usd if entry.details.get("lost") else 0.0
            return
        rest_usd, self._open_usd = entry.usd - self._open_usd, 0.0
        rest_usd = 0.0 if abs(rest_usd) < _ROUNDING_USD else rest_usd
        self._usd += entry.usd
        self._seconds += float(entry.details.get("seconds", 0.0))
        if entry.operation == "lose":
            self._lost_usd += rest_usd
        else:
            self._idle_usd += rest_usd

    def bill(self) -> Bill:
        return Bill(
            usd=self._usd,
            seconds=self._seconds,
            shares=self._shares,
            idle_usd=self._idle_usd,
            lost_usd=self._lost_usd,
            lost_with_workers_usd=self._lost_with_workers_usd,
        )
