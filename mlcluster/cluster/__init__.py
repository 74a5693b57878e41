"""Which machines, at what price, in which health?

In: a Ray cluster file (or KubeRay's), a price list, what the project asks of a node. Out: a `ClusterPlan`, its
`Finding`s before a node is started, and dollars per hour. Of a cluster that runs: what has joined it (`ray_members`)
and what each machine costs (`ray_nodes`), how a job on it has ended (`ray_jobs`), its keys. Not here: starting it,
which `ray up` does; what runs on it.
"""

from mlcluster.cluster.capacity import Request, capacity_findings, requests_of
from mlcluster.cluster.documents import read_documents
from mlcluster.cluster.elastic import ElasticPlan, Goal, best_static_plan, plan_nodes
from mlcluster.cluster.findings import Finding, Level, placeholder_findings
from mlcluster.cluster.forecast import HourlyForecast, forecast_hour
from mlcluster.cluster.kube_checks import kube_findings
from mlcluster.cluster.kube_reading import KubeCluster, kube_cluster, read_kube_plan
from mlcluster.cluster.kube_schema import crd_findings, read_schemas
from mlcluster.cluster.node_pricing import NodeFacts, NodePrices
from mlcluster.cluster.plan import ClusterPlan, NodeType
from mlcluster.cluster.price_list import NodePrice, PriceList, read_price_list
from mlcluster.cluster.pricing import PricedType, price_findings, price_types
from mlcluster.cluster.reading import read_plan
from mlcluster.cluster.release import Release, StudyNode, nodes_to_release
from mlcluster.cluster.security import secret_file_findings, security_findings
from mlcluster.cluster.slots import SlotPrice, cheapest_slot
from mlcluster.cluster.spot import spot_findings
from mlcluster.cluster.stage_schedule import NodeOffer, SpeedUp, halving_stages

__all__ = [
    "ClusterPlan",
    "ElasticPlan",
    "Finding",
    "Goal",
    "HourlyForecast",
    "KubeCluster",
    "Level",
    "NodeFacts",
    "NodeOffer",
    "NodePrice",
    "NodePrices",
    "NodeType",
    "PriceList",
    "PricedType",
    "Release",
    "Request",
    "SlotPrice",
    "SpeedUp",
    "StudyNode",
    "best_static_plan",
    "capacity_findings",
    "cheapest_slot",
    "crd_findings",
    "forecast_hour",
    "halving_stages",
    "kube_cluster",
    "kube_findings",
    "nodes_to_release",
    "placeholder_findings",
    "plan_nodes",
    "price_findings",
    "price_types",
    "read_documents",
    "read_kube_plan",
    "read_plan",
    "read_price_list",
    "read_schemas",
    "requests_of",
    "secret_file_findings",
    "security_findings",
    "spot_findings",
]
