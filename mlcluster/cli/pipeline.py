"""One pass through the stages of a run, each of which leaves its record in the run's folder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlcluster.cli.data_engine import data_engine
from mlcluster.cli.data_stage import run_data_stage, score_baseline, write_profile
from mlcluster.cli.deploy_stage import run_deploy_stage
from mlcluster.cli.outcome import RunOutcome
from mlcluster.cli.planning import Plan
from mlcluster.cli.reporting import write_report
from mlcluster.cli.run_context import RunContext
from mlcluster.cli.stores import LaterTracker, registry_of
from mlcluster.cli.tune_stage import run_tune_stage
from mlcluster.cli.verify_stage import Verified, run_verify_stage
from mlcluster.data import DatasetSnapshot
from mlcluster.errors import GateFailed
from mlcluster.registry import CHALLENGER, CHAMPION, Bundle
from mlcluster.tracking import Tracker

if TYPE_CHECKING:
    from mlcluster.registry.mlflow_registry import ModelVersion

STAGES = ("data", "tune", "verify", "record", "deploy")


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """The stages of one run, in order. `started` is when the command began, in seconds since the epoch.

    The winner is to answer at `port`.
    """

    context: RunContext
    plan: Plan
    tracker: LaterTracker
    port: int
    started: float

    def run(self, until: str) -> RunOutcome:
        """Through the stages to `until`; those that an earlier attempt has done are not done again.

        Raises:
            GateFailed: a requirement is not met; everything is written down all the same.
            BudgetExhausted: the money was spent before there was a usable model.
        """
        outcome, snapshot = self._search(until)
        if until == "tune":
            return outcome
        outcome = self._verify(outcome, snapshot)
        if until == "deploy":
            outcome = self._deploy(outcome)
        self.context.run.update(is_finished=True)
        return outcome

    def _search(self, until: str) -> tuple[RunOutcome, DatasetSnapshot]:
        context = self.context
        if not context.run.state().get("forecast"):
            context.run.update(forecast={stage.stage: stage.expected_usd for stage in self.plan.forecast.stages})
        self._reserve_stages(until)
        write_profile(context.run, self.plan.profile)
        snapshot = run_data_stage(context, data_engine(context.workspace.root))
        baseline = score_baseline(snapshot, self.plan.metric)
        context.progress.say(f"         baseline (constant): validation {self.plan.metric} {baseline.validation:.4f}")
        result = run_tune_stage(context, snapshot, self._earlier_runs)
        if until == "tune":
            write_report(context.run, cap_usd=context.ledger.cap_usd)
        outcome = RunOutcome(context=context, plan=self.plan, baseline=baseline, result=result, started=self.started)
        return outcome, snapshot

    def _earlier_runs(self) -> Tracker | None:
        """The tracking store; None where there is none yet, for then nothing need wait for it to be made."""
        return self.tracker.get() if self.tracker.was_there else None

    def _reserve_stages(self, until: str) -> None:
        """The worst cases of all stages but the search, which takes what is left."""
        done = self.context.run.state()
        last = "record" if until == "verify" else until
        for stage in self.plan.forecast.stages[: STAGES.index(last) + 1]:
            if stage.stage != "tune" and done.get(stage.stage) != "done":
                self.context.meter.reserve(stage.stage, worst_case_seconds=stage.worst_case_seconds)

    def _verify(self, outcome: RunOutcome, snapshot: DatasetSnapshot) -> RunOutcome:
        verified = run_verify_stage(self.context, snapshot, outcome.result)
        version, bundle = self._record(outcome, snapshot, verified)
        outcome = replace(outcome, verified=replace(verified, bundle=bundle), version=version)
        failed = [f"{one.label}: {one.reason}" for one in verified.verdict.gates if one.status != "passed"]
        if failed:
            self.context.run.update(is_finished=True)
            raise GateFailed(
                f"verify: {len(failed)} of {len(verified.verdict.gates)} failed ({'; '.join(failed)})",
                summary=outcome.summary(),
            )
        return outcome

    def _record(
        self, outcome: RunOutcome, snapshot: DatasetSnapshot, verified: Verified
    ) -> tuple[ModelVersion, Bundle]:
        """Everything into MLflow, and the bundle, signed if it is to be, beside it under the version that it got."""
        from mlcluster.cli.recording import run_record, version_tags

        context, name = self.context, self.context.spec.project
        tracker = self.tracker.get()
        with context.meter.running("record"):
            registry = registry_of(tracker)
            run_id = tracker.begin(context.run.run_id)
            card = replace(
                verified.bundle.card,
                version=registry.next_version(name),
                run_id=run_id,
                spent_usd=context.ledger.spent_usd,
            )
            verified = replace(verified, bundle=context.keys.signed(replace(verified.bundle, card=card)))
            report = write_report(context.run, cap_usd=context.ledger.cap_usd)
            tracker.finish(run_id, run_record(context, snapshot, outcome.result, verified, outcome.baseline, report))
            version = registry.register(verified.bundle, run_id=run_id, tags=version_tags(context, snapshot, verified))
            if not verified.verdict.passed:
                registry.set_alias(name, CHALLENGER, version.version)
            verified.bundle.write(context.run.bundle(version.version))
        if verified.verdict.passed:
            context.run.update(version=version.version, mlflow_run_id=run_id)
        context.progress.stage("record", f"{name} version {version.version}, MLflow run {run_id}")
        return version, verified.bundle

    def _deploy(self, outcome: RunOutcome) -> RunOutcome:
        assert outcome.verified is not None
        assert outcome.version is not None
        registry, version = registry_of(self.tracker.get()), outcome.version
        bundle = outcome.verified.bundle
        endpoint = run_deploy_stage(self.context, bundle, registered=(registry, version), port=self.port)
        registry.set_alias(version.name, CHAMPION, version.version)
        return replace(outcome, endpoint=endpoint)
