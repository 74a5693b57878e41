"""The bill of a run's nodes, and whose it is: trials, stages, idle and lost add up to it exactly.

Pure. Money is counted in whole nano-dollars and time in whole milliseconds, and what is split is split by largest
remainders, so that no part of a cent is lost or made up. Work holds the largest share that it asks of any resource of
its node; where that comes to more than the node has, it is scaled down to all of it. What nobody holds is the stage's
that is running, else idle.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from mlcluster.cost.node_history import NodeHistory, Span, Stage, Work, driven
from mlcluster.cost.node_log import Node

NANO = 1_000_000_000
_MILLISECONDS_PER_HOUR = 3_600_000

_Owner = int | str | None
"""The number of a piece of work, the name of a stage, or None for idle."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeAccount:
    """One node in the run. Where its price is not known, its seconds cost nothing here."""

    node: Node
    milliseconds: int
    nano_usd: int
    working_nano_usd: int
    """Of trials and stages."""
    idle_nano_usd: int
    lost_nano_usd: int


@dataclass(frozen=True, kw_only=True, slots=True)
class NodesBill:
    """In nano-dollars: `trials`, `stages`, idle and lost add up to the sum of the accounts."""

    accounts: tuple[NodeAccount, ...]
    trials: Mapping[str, int]
    stages: Mapping[str, int]
    lost_by_cause: Mapping[str, int]
    """Parts of what was lost, by cause, as far as one is known."""

    @property
    def nano_usd(self) -> int:
        return sum(account.nano_usd for account in self.accounts)

    @property
    def idle_nano_usd(self) -> int:
        return sum(account.idle_nano_usd for account in self.accounts)

    @property
    def lost_nano_usd(self) -> int:
        return sum(account.lost_nano_usd for account in self.accounts)

    @property
    def unpriced(self) -> tuple[NodeAccount, ...]:
        """Nodes whose dollars are missing in all sums."""
        return tuple(account for account in self.accounts if account.node.usd_per_hour is None)


def node_bill(history: NodeHistory) -> NodesBill:
    """Each millisecond of each node in which the run was driven, to whoever held it."""
    trials: defaultdict[str, int] = defaultdict(int)
    stages: defaultdict[str, int] = defaultdict(int)
    by_cause: defaultdict[str, int] = defaultdict(int)
    by_node: defaultdict[str, list[Work]] = defaultdict(list)
    for work in history.work:
        by_node[work.node_id].append(work)
    accounts = []
    for node in history.nodes:
        works = by_node[node.node_id]
        held: defaultdict[_Owner, Fraction] = defaultdict(Fraction)
        milliseconds = 0
        for span in driven(node, history.drivers):
            milliseconds += _milliseconds(span.end) - _milliseconds(span.begin)
            _hold(held, node, span, works, history.stages)
        nano_usd = _nano_usd(node, milliseconds)
        parts = dict(zip(held, apportion(nano_usd, list(held.values())), strict=True))
        lost = 0
        for owner, part in parts.items():
            if isinstance(owner, str):
                stages[owner] += part
            elif owner is not None and works[owner].is_lost:
                lost += part
                if works[owner].cause:
                    by_cause[works[owner].cause] += part
            elif owner is not None:
                _split(trials, works[owner], part)
        idle = parts.get(None, 0)
        accounts.append(
            NodeAccount(
                node=node,
                milliseconds=milliseconds,
                nano_usd=nano_usd,
                working_nano_usd=nano_usd - idle - lost,
                idle_nano_usd=idle,
                lost_nano_usd=lost,
            )
        )
    present = tuple(account for account in accounts if account.milliseconds)
    return NodesBill(accounts=present, trials=dict(trials), stages=dict(stages), lost_by_cause=dict(by_cause))


def apportion(total: int, weights: Sequence[Fraction | int]) -> list[int]:
    """`total` in whole parts after `weights`, by largest remainders (Hamilton): they add up to it.

    Evenly where all weights are zero. Of equal remainders the first is served first.
    """
    if not any(weights):
        weights = [1] * len(weights)
    whole = sum((Fraction(weight) for weight in weights), Fraction())
    exact = [Fraction(total * weight) / whole for weight in weights]
    parts = [int(part) for part in exact]
    by_remainder = sorted(range(len(parts)), key=lambda place: parts[place] - exact[place])
    for place in by_remainder[: total - sum(parts)]:
        parts[place] += 1
    return parts


def _nano_usd(node: Node, milliseconds: int) -> int:
    if node.usd_per_hour is None:
        return 0
    return round(Fraction(round(node.usd_per_hour * NANO) * milliseconds, _MILLISECONDS_PER_HOUR))


def _milliseconds(at: float) -> int:
    return round(at * 1000)


def _split(trials: defaultdict[str, int], work: Work, nano_usd: int) -> None:
    weights = [_milliseconds(seconds) for seconds in work.trials.values()]
    for trial, part in zip(work.trials, apportion(nano_usd, weights), strict=True):
        trials[trial] += part


def _share(work: Work, node: Node) -> Fraction:
    """Of the node: the largest of any resource; all of it where it offers none of what is held."""
    shares = [
        Fraction(amount) / Fraction(node.resources[name]) if node.resources.get(name) else Fraction(1)
        for name, amount in work.resources.items()
        if amount > 0
    ]
    return min(Fraction(1), max(shares, default=Fraction(0)))


def _hold(
    held: defaultdict[_Owner, Fraction], node: Node, span: Span, works: Sequence[Work], stages: Iterable[Stage]
) -> None:
    """Adds the milliseconds of `span` to those who held the node in it, in proportion."""
    begin, end = _milliseconds(span.begin), _milliseconds(span.end)
    changes: list[tuple[int, int, _Owner]] = []
    """When, whether an owner comes (1) or goes (-1), and who."""
    owners: list[tuple[_Owner, Span]] = [(number, work.span) for number, work in enumerate(works)]
    for owner, one in [*owners, *((stage.name, stage.span) for stage in stages)]:
        first, last = max(begin, _milliseconds(one.begin)), min(end, _milliseconds(one.end))
        if first < last:
            changes += [(first, 1, owner), (last, -1, owner)]
    changes.sort(key=lambda change: change[:2])
    shares = {number: _share(work, node) for number, work in enumerate(works)}
    active: dict[int, Fraction] = {}
    running: list[str] = []
    now = begin
    for at, step, owner in [*changes, (end, 0, None)]:
        if at > now:
            _give(held, active, running[-1] if running else None, at - now)
            now = at
        if isinstance(owner, str):
            running.append(owner) if step > 0 else running.remove(owner)
        elif owner is not None and step > 0:
            active[owner] = shares[owner]
        elif owner is not None:
            del active[owner]


def _give(
    held: defaultdict[_Owner, Fraction], active: Mapping[int, Fraction], rest_to: str | None, milliseconds: int
) -> None:
    whole = sum(active.values(), Fraction())
    scale = max(whole, Fraction(1))
    for owner, share in active.items():
        held[owner] += milliseconds * share / scale
    held[rest_to] += milliseconds * (1 - whole / scale)
