"""A node provider whose nodes are raylets of this machine, for Ray's second autoscaler.

Ray's own, as `type: external`: its `fake_multinode` asks for a default file that is not in the wheel.
"""

from __future__ import annotations

from typing import Any

from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID, FakeMultiNodeProvider
from ray.autoscaler.tags import TAG_RAY_USER_NODE_TYPE


class FakeProvider(FakeMultiNodeProvider):
    """Its nodes come up in some seconds, and end when the autoscaler terminates them. The head's type is `head`."""

    def __init__(self, provider_config: dict[str, Any], cluster_name: str) -> None:
        super().__init__(provider_config, cluster_name)
        self._nodes[FAKE_HEAD_NODE_ID]["tags"][TAG_RAY_USER_NODE_TYPE] = "head"
