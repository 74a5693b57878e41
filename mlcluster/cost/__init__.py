"""What will it cost, what has it cost?

In: prices, seconds. Out: a `Forecast` before the spend, a `Ledger` that holds the cap through crashes, a `NodeLease`
that bills idle time too, a `CostModel` that learns how long work takes; a `NodeLog` of the machines of a cluster and
whose each second of them was (`NodesBill`). Not here: what to spend it on.
"""

from mlcluster.cost.bill import Bill, read_bills
from mlcluster.cost.cost_model import CostModel, Duration
from mlcluster.cost.forecast import Forecast, StageForecast
from mlcluster.cost.lease import LeaseTerms, NodeLease
from mlcluster.cost.ledger import Ledger, LedgerEntry, read_ledger
from mlcluster.cost.node_bill import NodeAccount, NodesBill, node_bill
from mlcluster.cost.node_history import GivenUp, NodeHistory, Span, Stage, Work, read_node_history
from mlcluster.cost.node_log import Node, NodeLog, NoNodeLog
from mlcluster.cost.prices import PriceBook
from mlcluster.cost.savings import Saving, savings, savings_line
from mlcluster.cost.workers import WorkerKind, all_slots_usd_per_second, cpu_workers, gpu_workers

__all__ = [
    "Bill",
    "CostModel",
    "Duration",
    "Forecast",
    "GivenUp",
    "LeaseTerms",
    "Ledger",
    "LedgerEntry",
    "NoNodeLog",
    "Node",
    "NodeAccount",
    "NodeHistory",
    "NodeLease",
    "NodeLog",
    "NodesBill",
    "PriceBook",
    "Saving",
    "Span",
    "Stage",
    "StageForecast",
    "Work",
    "WorkerKind",
    "all_slots_usd_per_second",
    "cpu_workers",
    "gpu_workers",
    "node_bill",
    "read_bills",
    "read_ledger",
    "read_node_history",
    "savings",
    "savings_line",
]
