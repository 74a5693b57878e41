"""Machines that are paid for and have not joined: from the autoscaler's first word of them to Ray's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mlcluster.cluster.node_pricing import NodeFacts


class StartingNodes:
    """By address, over all looks at one cluster. A machine whose Ray went and that is still there starts once more."""

    def __init__(self) -> None:
        self._starting: dict[str, NodeFacts] = {}
        self._joined: dict[str, NodeFacts] = {}

    def look(self, types: Mapping[str, str], nodes: Sequence[NodeFacts], *, now: float) -> list[NodeFacts]:
        """Each such machine as a node of its own, which ends when it joins, or when the autoscaler has let it go.

        `types` has the type of each machine that the autoscaler knows, by address; `nodes` are those of Ray.
        """
        present = {node.address: node for node in nodes if node.released_at is None}
        self._joined = {node_id: one for node_id, one in self._joined.items() if one.address in present}
        for address in types.keys() - present.keys() - self._starting.keys():
            self._starting[address] = _starting(address, types[address], now)
        for address in list(self._starting):
            if address in present:
                joined = replace(self._starting.pop(address), released_at=present[address].launched_at)
                self._joined[joined.node_id] = joined
            elif address not in types:
                del self._starting[address]
        return [*self._starting.values(), *self._joined.values()]


def _starting(address: str, node_type: str, now: float) -> NodeFacts:
    return NodeFacts(
        node_id=f"{address}@{now:.0f}",
        address=address,
        node_type=node_type,
        is_spot=None,
        is_head=False,
        resources={},
        launched_at=now,
        released_at=None,
    )
