"""Which nodes the rest of a study can do without, and why. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyNode:
    """A node with workers of a study, which are counted by kind."""

    node_id: str
    busy: Mapping[str, int] = field(default_factory=dict)
    """Those that train."""
    idle: Mapping[str, int] = field(default_factory=dict)
    """Those that are up and have nothing to train."""
    usd_per_hour: float = 0.0
    idle_seconds: float = 0.0
    """Since one of them trained last; 0 while one does."""
    may_go: bool = True
    """Not the head's, nor one of those that its cluster file keeps."""

    @property
    def slots(self) -> Counter[str]:
        """Its workers, busy or idle."""
        return Counter(self.busy) + Counter(self.idle)


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """A node to give up."""

    node_id: str
    is_empty: bool
    """Whether it can go now; else once what it trains has reported."""
    reason: str


def nodes_to_release(
    nodes: Sequence[StudyNode], *, needed: Mapping[str, int] | None, start_seconds: float
) -> tuple[Release, ...]:
    """Those to give up now; one always stays, for what comes after the search.

    `needed` are the workers of each kind that the rest of the study can use at most: what trains is packed on few
    nodes, and the others go. None while it may still grow: then a node goes once it was idle for as long as its like
    would take to start (`start_seconds`, paid for), which is at most twice what knowing the future would cost (Karlin
    et al., Algorithmica 3, 1988, ski rental).
    """
    kept = _still_wanted(nodes, start_seconds) if needed is None else _packed(nodes, Counter(needed))
    if nodes and not kept:
        kept = {min(nodes, key=lambda node: (node.usd_per_hour, node.node_id)).node_id}
    return tuple(_releases(nodes, kept, needed))


def _still_wanted(nodes: Sequence[StudyNode], start_seconds: float) -> set[str]:
    return {
        node.node_id
        for node in nodes
        if not node.may_go or any(node.busy.values()) or node.idle_seconds < start_seconds
    }


def _packed(nodes: Sequence[StudyNode], wanted: Counter[str]) -> set[str]:
    """Nodes with all the slots that are wanted: those that train most, of equals the cheapest slots."""
    needed = wanted & _slots(nodes)
    kept = [node for node in nodes if not node.may_go]
    for node in sorted(nodes, key=_least_to_move):
        if node.may_go and (needed - _slots(kept)) & node.slots:
            kept.append(node)
    # One that was taken late may be so large that an earlier one is not needed.
    for node in sorted(kept, key=lambda one: (-one.usd_per_hour, one.node_id)):
        others = [one for one in kept if one is not node]
        if node.may_go and not needed - _slots(others):
            kept = others
    return {node.node_id for node in kept}


def _least_to_move(node: StudyNode) -> tuple[float, float, str]:
    num_slots = max(1, node.slots.total())
    return -sum(node.busy.values()), node.usd_per_hour / num_slots, node.node_id


def _slots(nodes: Sequence[StudyNode]) -> Counter[str]:
    return sum((node.slots for node in nodes), Counter())


def _releases(nodes: Sequence[StudyNode], kept: set[str], needed: Mapping[str, int] | None) -> Iterator[Release]:
    num_workers = _slots(nodes).total()
    for node in nodes:
        if node.node_id in kept:
            continue
        if needed is None:
            reason = f"idle for {node.idle_seconds:.0f} s, in which its like would have started"
        else:
            reason = (
                f"no new trial will start, and what goes on can use {sum(needed.values())} of {num_workers} workers"
            )
        yield Release(node_id=node.node_id, is_empty=not any(node.busy.values()), reason=reason)
