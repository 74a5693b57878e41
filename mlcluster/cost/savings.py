"""What a search has saved by giving nodes up before its end, against keeping all of them until then. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mlcluster.cost.node_history import GivenUp, NodeHistory
from mlcluster.cost.node_log import Node
from mlcluster.cost.prices import SECONDS_PER_HOUR


@dataclass(frozen=True, kw_only=True, slots=True)
class Saving:
    """One node that was given up."""

    node: Node
    at: float
    """When its Ray had ended, in seconds since the epoch."""
    seconds: float
    """From then until the search would have let it go."""
    reason: str

    @property
    def usd(self) -> float:
        """0 where its price is not known."""
        return self.seconds * (self.node.usd_per_hour or 0.0) / SECONDS_PER_HOUR


def savings(history: NodeHistory) -> tuple[Saving, ...]:
    """Of each node that went, in the order in which they were given up."""
    nodes = {node.node_id: node for node in history.nodes}
    return tuple(_saving(nodes[one.node_id], one) for one in history.given_up if one.node_id in nodes)


def _saving(node: Node, one: GivenUp) -> Saving:
    # What was given up and is still there when the search ends has saved nothing.
    gone_at = one.span.end if node.released_at is None else max(one.span.begin, node.released_at)
    return Saving(node=node, at=gone_at, seconds=max(0.0, one.span.end - gone_at), reason=one.reason)


def savings_line(found: Iterable[Saving]) -> str | None:
    """The sum, in words; None where nothing was given up."""
    gone = list(found)
    if not gone:
        return None
    seconds, usd = sum(one.seconds for one in gone), sum(one.usd for one in gone)
    nodes = f"{len(gone)} node{'s' if len(gone) > 1 else ''}"
    return f"{nodes} given up before the search ended: {seconds:.0f} node-seconds, ${usd:.6f} less than all to the end"
