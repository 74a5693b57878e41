"""AWS nodes that are bought on demand where there is no spot capacity.

Ray asks EC2 for the same type again and again when a launch is refused (ray#20774; in its second autoscaler only a node
that was granted and never started counts against its type), so that a study would wait for spot for ever.
"""

from __future__ import annotations

import logging
from typing import Any

from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler.node_launch_exception import NodeLaunchException

log = logging.getLogger(__name__)

NO_SPOT = frozenset({"InsufficientInstanceCapacity", "MaxSpotInstanceCountExceeded", "SpotMaxPriceTooLow"})
"""What EC2 answers where it has no spot node, or none for us: codes of RunInstances in the EC2 API reference."""
BOUGHT_TAG = "mlcluster-bought"
"""On each worker: `spot` or `on-demand`, whatever its type was meant to be."""


class SpotFirst(AWSNodeProvider):
    """`provider: {type: external, module: mlcluster.cluster.ray_aws.SpotFirst}`; all else is as in `type: aws`."""

    def _create_node(self, node_config: dict[str, Any], tags: dict[str, str], count: int) -> Any:
        is_spot = (node_config.get("InstanceMarketOptions") or {}).get("MarketType") == "spot"
        try:
            return super()._create_node(node_config, {**tags, BOUGHT_TAG: "spot" if is_spot else "on-demand"}, count)
        except NodeLaunchException as error:
            if not is_spot or error.category not in NO_SPOT:
                raise
            log.warning("no spot node instance_type=%s: %s; on demand", node_config["InstanceType"], error.category)
        on_demand = {key: value for key, value in node_config.items() if key != "InstanceMarketOptions"}
        return super()._create_node(on_demand, {**tags, BOUGHT_TAG: "on-demand"}, count)
