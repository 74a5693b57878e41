"""The hard cap: an append-only, crash-safe account of dollars, reserved before they are spent.

A line of the file is one JSON object, and a line that was written stays. Money is first reserved (the worst case),
then settled (the actual), so that at every moment, through any crash,

    spent + reserved <= cap.

A crash leaves reservations open. Whoever opens the ledger next closes them at what they can have cost at most:
nothing where the work was not started, else the reserved worst case, or less when less time has passed. That money is
booked as lost.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from mlcluster.cost.line_file import cut_torn_line, open_locked
from mlcluster.errors import ClusterError

Operation = Literal["open", "reserve", "start", "settle", "lose", "share"]
_OPERATIONS = get_args(Operation)
_ROUNDING_USD = 1e-12
"""Float sums of the same amounts in another order may differ by this much."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerEntry:
    """One line. `account` is what the money was for, as in `tune`; a share splits settled money among trials."""

    operation: Operation
    account: str
    usd: float
    at: float
    """Seconds since the epoch, by the clock of whoever wrote the line."""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True, slots=True)
class _Account:
    reserved_usd: float = 0.0
    spent_usd: float = 0.0
    lost_usd: float = 0.0
    seconds: float = 0.0
    started_at: float | None = None
    lost_shares_usd: float = 0.0
    open_lost_shares_usd: float = 0.0
    """Of what is not settled yet. Should a crash come first, they are part of what that loses."""


class Ledger:
    """See the module. Not for two writers at once: the file is locked while it is open."""

    def __init__(self, path: Path, *, cap_usd: float, now: float) -> None:
        """Opens or creates the ledger at `path`.

        Raises:
            ClusterError: another process has it open, or a line in its middle is damaged.
        """
        self._path = path
        self.cap_usd = cap_usd
        self._accounts: dict[str, _Account] = {}
        self._shares: dict[tuple[str, str], float] = {}
        self._file = open_locked(path)
        try:
            for entry in self._read_back():
                self._apply(entry)
        except ClusterError:
            self._file.close()
            raise
        self._append(LedgerEntry(operation="open", account="", usd=0.0, at=now, details={"cap_usd": cap_usd}))

    @property
    def spent_usd(self) -> float:
        """All that was settled, lost money included."""
        return sum(account.spent_usd for account in self._accounts.values())

    @property
    def reserved_usd(self) -> float:
        return sum(account.reserved_usd for account in self._accounts.values())

    @property
    def lost_usd(self) -> float:
        return sum(account.lost_usd for account in self._accounts.values())

    @property
    def free_usd(self) -> float:
        """What may still be reserved."""
        return max(0.0, self.cap_usd - self.spent_usd - self.reserved_usd)

    @property
    def accounts(self) -> tuple[str, ...]:
        return tuple(self._accounts)

    def spent_on(self, account: str) -> float:
        return self._accounts[account].spent_usd if account in self._accounts else 0.0

    def reserved_on(self, account: str) -> float:
        return self._accounts[account].reserved_usd if account in self._accounts else 0.0

    def seconds_on(self, account: str) -> float:
        """Wall-clock seconds that were settled on `account`."""
        return self._accounts[account].seconds if account in self._accounts else 0.0

    def shares_of(self, account: str) -> dict[str, float]:
        """$ by beneficiary (a trial), as far as settled money was split among them."""
        return {who: usd for (name, who), usd in self._shares.items() if name == account}

    def try_reserve(self, account: str, usd: float, *, at: float, details: Mapping[str, Any] | None = None) -> bool:
        """Sets `usd` aside for `account`; False, and nothing written, where it does not fit under the cap."""
        if usd < 0:
            raise ValueError(f"cannot reserve {usd} dollars")
        if usd > self.free_usd:
            return False
        self._append(LedgerEntry(operation="reserve", account=account, usd=usd, at=at, details=details or {}))
        return True

    def start(self, account: str, *, at: float) -> None:
        """The work of `account` begins: from here on its reservation may have been spent."""
        self._append(LedgerEntry(operation="start", account=account, usd=0.0, at=at))

    def settle(self, account: str, usd: float, *, seconds: float, at: float) -> None:
        """Turns the whole reservation of `account` into `usd` spent over `seconds`, and frees the rest.

        Money beyond the reservation cannot be settled: that is a bug in whoever reserved too little.
        """
        reserved = self.reserved_on(account)
        assert usd <= reserved + _ROUNDING_USD, f"{account}: {usd} spent, only {reserved} reserved"
        self._append(
            LedgerEntry(
                operation="settle", account=account, usd=min(usd, reserved), at=at, details={"seconds": seconds}
            )
        )

    def lost_shares_on(self, account: str) -> float:
        """$ that trials have cost to no avail, as with a lost worker; without what crashes of the driver have lost."""
        found = self._accounts.get(account, _Account())
        return found.lost_shares_usd + found.open_lost_shares_usd

    def share(self, account: str, beneficiary: str, usd: float, *, at: float, is_lost: bool = False) -> None:
        """Attributes `usd` of what `account` costs to a trial; spends nothing, so the next sync is soon enough."""
        details: dict[str, Any] = {"who": beneficiary, **({"lost": True} if is_lost else {})}
        self._append(LedgerEntry(operation="share", account=account, usd=usd, at=at, details=details), sync=False)

    def close_open_reservations(self, *, usd_per_second: float, now: float) -> float:
        """Books what a crash left reserved as lost, at most for the time that has passed; gives the dollars."""
        lost = 0.0
        for name, account in self._accounts.items():
            if account.reserved_usd <= 0:
                continue
            since = 0.0 if account.started_at is None else max(0.0, now - account.started_at)
            usd = min(account.reserved_usd, since * usd_per_second)
            seconds = usd / usd_per_second if usd_per_second > 0 else 0.0
            self._append(LedgerEntry(operation="lose", account=name, usd=usd, at=now, details={"seconds": seconds}))
            lost += usd
        return lost

    def close(self) -> None:
        """Lets go of the file; reservations stay open in it."""
        self._file.close()

    def _append(self, entry: LedgerEntry, *, sync: bool = True) -> None:
        line = json.dumps(
            {"op": entry.operation, "account": entry.account, "usd": entry.usd, "at": entry.at, **entry.details}
        )
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        if sync:
            os.fsync(self._file.fileno())
        self._apply(entry)

    def _read_back(self) -> Iterator[LedgerEntry]:
        """What earlier processes wrote; a torn last line is cut off, for its promise was never acted on."""
        cut_torn_line(self._path)
        yield from read_ledger(self._path)

    def _apply(self, entry: LedgerEntry) -> None:
        if entry.operation == "open":
            return
        account = self._accounts.setdefault(entry.account, _Account())
        match entry.operation:
            case "reserve":
                account.reserved_usd += entry.usd
            case "start":
                account.started_at = entry.at
            case "settle" | "lose":
                account.reserved_usd = 0.0
                account.started_at = None
                account.spent_usd += entry.usd
                account.seconds += float(entry.details.get("seconds", 0.0))
                account.lost_usd += entry.usd if entry.operation == "lose" else 0.0
                account.lost_shares_usd += account.open_lost_shares_usd if entry.operation == "settle" else 0.0
                account.open_lost_shares_usd = 0.0
            case "share":
                key = (entry.account, str(entry.details["who"]))
                self._shares[key] = self._shares.get(key, 0.0) + entry.usd
                account.open_lost_shares_usd += entry.usd if entry.details.get("lost") else 0.0


def read_ledger(path: Path) -> Iterator[LedgerEntry]:
    """The entries of a ledger file, oldest first; a torn last line is passed over.

    Raises:
        ClusterError: a line before the last is no ledger entry.
    """
    lines = path.read_bytes().split(b"\n")[:-1]
    for number, line in enumerate(lines, start=1):
        try:
            yield _entry_from(json.loads(line))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ClusterError(
                f"{path.name}:{number} is no ledger entry; restore the file from a backup, or start a new run."
            ) from error


def _entry_from(record: dict[str, Any]) -> LedgerEntry:
    entry = LedgerEntry(
        operation=record.pop("op"),
        account=record.pop("account"),
        usd=float(record.pop("usd")),
        at=float(record.pop("at")),
        details=record,
    )
    is_known = entry.operation in _OPERATIONS and (entry.operation != "share" or "who" in entry.details)
    if not is_known or not math.isfinite(entry.usd):
        raise ValueError("no operation of a ledger")
    return entry
