"""Machines that are paid for and have not joined: from the autoscaler's first word of them to Ray's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mlcluster.cluster.node_pricing import NodeFacts

_LAG_SECONDS = 10.0
"""Between two rounds of the autoscaler, at most, and then some."""


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


class PendingInstances:
    """The same under the second autoscaler, which names an instance until it has joined, and never its address.

    So one that is pending no more is taken for the node of its type that came meanwhile, the earliest of several. Where
    none did, one that had come shortly before it was first seen will be it: the autoscaler's word is some seconds old.
    """

    def __init__(self) -> None:
        self._starting: dict[str, NodeFacts] = {}
        self._joined: dict[str, NodeFacts] = {}
        """By the id of the node that each has become."""

    def look(self, types: Mapping[str, str], nodes: Sequence[NodeFacts], *, now: float) -> list[NodeFacts]:
        """As `StartingNodes.look`; `types` has the type of each pending instance, by its id."""
        present = {node.node_id: node for node in nodes if node.released_at is None}
        self._joined = {node_id: one for node_id, one in self._joined.items() if node_id in present}
        for instance in types.keys() - self._starting.keys():
            self._starting[instance] = _starting(instance, types[instance], now)
        gone = sorted(self._starting.keys() - types.keys(), key=lambda instance: self._starting[instance].launched_at)
        for instance in gone:
            one = self._starting.pop(instance)
            node = _what_became_of(one, [node for node in present.values() if node.node_id not in self._joined])
            if node is not None:
                self._joined[node.node_id] = replace(one, released_at=max(node.launched_at, one.launched_at))
        return [*self._starting.values(), *self._joined.values()]


def _what_became_of(instance: NodeFacts, nodes: Sequence[NodeFacts]) -> NodeFacts | None:
    alike = sorted((node for node in nodes if node.node_type == instance.node_type), key=lambda node: node.launched_at)
    since = [node for node in alike if node.launched_at >= instance.launched_at]
    before = [node for node in alike if 0 < instance.launched_at - node.launched_at < _LAG_SECONDS]
    return next(iter(since or before[-1:]), None)


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
