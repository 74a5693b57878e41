"""What will it cost, what has it cost?

In: prices, seconds. Out: a `Forecast` before the spend, a `Ledger` that holds the cap through crashes, a `NodeLease`
that bills idle time too, a `CostModel` that learns how long work takes. Not here: what to spend it on.
"""

from mlcluster.cost.cost_model import CostModel, Duration
from mlcluster.cost.forecast import Forecast, StageForecast
from mlcluster.cost.lease import LeaseTerms, NodeLease
from mlcluster.cost.ledger import Ledger, LedgerEntry, read_ledger
from mlcluster.cost.prices import PriceBook

__all__ = [
    "CostModel",
    "Duration",
    "Forecast",
    "LeaseTerms",
    "Ledger",
    "LedgerEntry",
    "NodeLease",
    "PriceBook",
    "StageForecast",
    "read_ledger",
]
