"""What a run has come to: the object that `--json` prints."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mlcluster.cli.data_stage import Baseline
from mlcluster.cli.node_accounts import node_savings
from mlcluster.cli.planning import Plan
from mlcluster.cli.run_context import RunContext
from mlcluster.cli.verify_stage import Verified
from mlcluster.tune import Ending, StudyResult

if TYPE_CHECKING:
    from mlcluster.registry.mlflow_registry import ModelVersion


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """What a run has come to so far."""

    context: RunContext
    plan: Plan
    baseline: Baseline
    result: StudyResult
    started: float
    verified: Verified | None = None
    version: ModelVersion | None = None
    endpoint: Mapping[str, Any] | None = None

    def summary(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        best = self.result.ranked()[0]
        verified, ledger = self.verified, self.context.ledger
        return {
            "project": self.context.spec.project,
            "model": self.context.spec.project,
            "run": self.context.run.run_id,
            "run_id": None if self.version is None else self.version.run_id,
            "model_version": None if self.version is None else self.version.version,
            "family": best.family if verified is None else verified.winner.trial.family,
            "trial": best.trial_id if verified is None else verified.winner.trial.trial_id,
            "metric": self.result.metric,
            "validation": {self.result.metric: best.value} if verified is None else verified.validation,
            "test": {} if verified is None else verified.test,
            "baseline": {
                "validation": {self.result.metric: self.baseline.validation},
                "test": {self.result.metric: self.baseline.test},
            },
            "gates": [] if verified is None else [asdict(one) for one in verified.verdict.gates],
            "passed": None if verified is None else verified.verdict.passed,
            "forecast_usd": self.plan.forecast.expected_usd,
            "spent_usd": ledger.spent_usd,
            "cap_usd": ledger.cap_usd,
            "lost_usd": ledger.lost_usd,
            "given_up_usd": sum(one.usd for one in node_savings(self.context.run)),
            "seconds": time.time() - self.started,
            "trials": len(self.result.trials),
            "budget_spent": self.result.ending is Ending.BUDGET,
            "endpoint": None if self.endpoint is None else self.endpoint["url"],
            "infer_url": None if self.endpoint is None else self.endpoint["infer_url"],
        }
