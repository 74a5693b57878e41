"""A project from Python: everything that the command line does, in the same words."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mlcluster.cli.data_stage import Baseline, run_data_stage, score_baseline
from mlcluster.cli.deploy_stage import run_deploy_stage
from mlcluster.cli.metering import StageMeter
from mlcluster.cli.planning import (
    Machine,
    forecast_run,
    guess_sizes,
    plan_search,
    resolve_metric,
    stage_forecasts,
    study_budget,
)
from mlcluster.cli.progress import Progress
from mlcluster.cli.ray_local import LocalRay, disconnect, is_port_free, num_cluster_cpus
from mlcluster.cli.run_context import RunContext, connect_ray, is_on_cluster
from mlcluster.cli.tune_stage import run_tune_stage
from mlcluster.cli.verify_stage import Verified, run_verify_stage
from mlcluster.cli.workspace import RunFolder, Workspace
from mlcluster.cost import Forecast, Ledger
from mlcluster.data import DataProfile, DatasetSnapshot, conform, profile
from mlcluster.errors import GateFailed, SpecError
from mlcluster.registry import Bundle
from mlcluster.spec import YamlDocument, load_document, naming_lines, parse_spec
from mlcluster.tune import Ending, StudyPlan, StudyResult

if TYPE_CHECKING:
    import pyarrow as pa

    from mlcluster.registry.mlflow_registry import MlflowRegistry, ModelVersion
    from mlcluster.serve.predictor import Prediction, Predictor
    from mlcluster.tracking.mlflow_tracker import MlflowTracker

DEFAULT_PORT = 8000
STAGES = ("data", "tune", "verify", "record", "deploy")
_INSTEAD = {"workers": "the search runs on CPU workers for now"}
"""What happens where a key is accepted and nothing acts on it yet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOptions:
    """What a command line says beside the project file. `fresh` starts anew where a run could be gone on with."""

    seed: int = 0
    port: int = DEFAULT_PORT
    fresh: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a run would do and cost."""

    profile: DataProfile
    study: StudyPlan
    forecast: Forecast
    metric: str


class Project:
    """One project file, and what was made from it."""

    def __init__(
        self, document: YamlDocument, *, folder: Path, options: RunOptions | None = None, quiet: bool = True
    ) -> None:
        self.spec = parse_spec(document)
        self._document = document
        self.folder = folder
        self.options = options or RunOptions()
        self.workspace = Workspace.of(folder, self.spec.project)
        self._progress = Progress(quiet=quiet)

    @classmethod
    def load(
        cls,
        path: str | Path = "mlcluster.yaml",
        *,
        overrides: Sequence[str] = (),
        options: RunOptions | None = None,
        quiet: bool = True,
    ) -> Project:
        """The project of a file; `overrides` are `key.path=value`.

        Raises:
            SpecError: the file is wrong, with one line a bad key.
        """
        path = Path(path)
        document = load_document(path, overrides=overrides)
        return cls(document, folder=path.resolve().parent, options=options, quiet=quiet)

    def profile(self) -> DataProfile:
        """One pass over the data: columns, splits and findings."""
        return self._profile(is_lenient=True)

    def notes(self) -> tuple[str, ...]:
        """What the project file asks for and does not get yet."""
        return tuple(
            f"{key} is accepted, and {_INSTEAD.get(key, 'nothing acts on it yet')}" for key in self.spec.not_acted_on()
        )

    def plan(self) -> Plan:
        """What a run would do and cost; nothing is spent.

        Raises:
            SpecError: the budget cannot hold one trial, or the metric does not fit the task.
            DataError: the data is not what the project file says.
        """
        found = self._profile(is_lenient=False)
        machine = self._machine()
        around = stage_forecasts(self.spec, machine, num_rows=found.num_rows)
        free_usd = self.spec.tune.budget.usd - sum(stage.worst_case_usd for stage in around.values())
        budget = study_budget(self.spec, machine, free_usd=free_usd)
        with naming_lines(self._document):
            metric = resolve_metric(self.spec, found.task)
            study = plan_search(self.spec, guess_sizes(found), budget, task=found.task, seed=self.options.seed)
        return Plan(
            profile=found,
            study=study,
            forecast=forecast_run(self.spec, machine, study, num_rows=found.num_rows),
            metric=metric,
        )

    def tune(self) -> dict[str, Any]:
        """Data and search."""
        return self._run(until="tune")

    def verify(self) -> dict[str, Any]:
        """The winner of the newest run against the gates; what is missing before is done first.

        Raises:
            GateFailed: a requirement is not met; everything is written down all the same.
        """
        return self._run(until="verify")

    def deploy(self) -> dict[str, Any]:
        """The winner served; what is missing before is done first."""
        return self._run(until="deploy")

    def run(self) -> dict[str, Any]:
        """The whole line: data, search, verification, registry, endpoint.

        Raises:
            GateFailed: a requirement is not met, and nothing was deployed.
            BudgetExhausted: the money was spent before there was a usable model.
        """
        return self._run(until="deploy")

    def predict(self, rows: pa.Table) -> Prediction:
        """The deployed model's answers to a table of raw rows, in this process."""
        predictor = self.deployed()
        return predictor.predict(conform(rows, predictor.schema))

    def deployed(self) -> Predictor:
        """The model behind the endpoint (or the newest that passed its gates), loaded here."""
        from mlcluster.serve.predictor import Predictor

        run = self.workspace.latest_run()
        version = run.state().get("version")
        if version is None:
            raise SpecError("this project has no verified model yet; make one with `mlcluster run`.")
        return Predictor(Bundle.read(run.bundle(version)))

    def lineage(self, prediction_id: str) -> dict[str, Any]:
        """From a prediction id to the model version, trial, configuration, data, code and dollars."""
        from mlcluster.serve.records import find_record, parse_prediction_id

        parsed = parse_prediction_id(prediction_id)
        if not self.workspace.has_tracking(self.spec.tracking):
            raise SpecError("this project has no run yet; start one with `mlcluster run`.")
        version = self._registry().version(parsed.model, parsed.version)
        record = find_record(self.workspace.predictions, prediction_id)
        tags = {key.removeprefix("mlcluster."): value for key, value in version.tags.items()}
        return {
            "prediction": {"id": prediction_id, "record": None if record is None else asdict(record)},
            "model_version": {"name": version.name, "version": version.version, "aliases": list(version.aliases)},
            "mlflow_run_id": version.run_id,
            "run": tags.get("run"),
            "trial": {"id": tags.get("trial"), "family": tags.get("family"), "usd": _number(tags.get("trial_usd"))},
            "configuration": json.loads(tags.get("configuration", "{}")),
            "data": {"snapshot": tags.get("snapshot"), "source": tags.get("source")},
            "code": tags.get("code"),
            "bundle": tags.get("bundle"),
            "usd": _number(tags.get("usd")),
        }

    def down(self) -> bool:
        """Ends what `run` left serving; says whether there was anything."""
        endpoint = self.workspace.endpoint_file
        if is_on_cluster():
            from mlcluster.serve.ray_app import undeploy

            connect_ray(self.workspace, self._machine())
            undeploy(self.spec.project)
            was_running = endpoint.exists()
        else:
            was_running = LocalRay(self.workspace.ray).stop()
        endpoint.unlink(missing_ok=True)
        return was_running

    def endpoint(self) -> dict[str, Any] | None:
        """The record of what is being served, or None."""
        file = self.workspace.endpoint_file
        if not file.exists() or not (is_on_cluster() or LocalRay(self.workspace.ray).is_running()):
            return None
        return dict(json.loads(file.read_text()))

    def _profile(self, *, is_lenient: bool) -> DataProfile:
        with naming_lines(self._document):
            return profile(self.spec.data, base=self.folder, is_lenient=is_lenient)

    def _run(self, *, until: str) -> dict[str, Any]:
        with self.workspace.locked():
            started = time.time()
            plan = self._announce(until)
            self._check_port(until)
            tracker = _Later(self._tracker)
            connect_ray(self.workspace, self._machine())
            try:
                with naming_lines(self._document):
                    return self._run_stages(plan, tracker, until=until, started=started)
            finally:
                disconnect()

    def _announce(self, until: str) -> Plan:
        plan = self.plan()
        self._progress.stage("plan", f"{plan.profile.num_rows} rows, {plan.profile.task}, by {plan.metric}")
        for stage in plan.forecast.stages[: STAGES.index(until) + 1]:
            self._progress.say(
                f"         {stage.stage}: about ${stage.expected_usd:.4f} ({stage.expected_seconds:.0f} s), "
                f"at most ${stage.worst_case_usd:.4f}"
            )
        self._progress.say(f"         cap ${plan.forecast.cap_usd:g}")
        for note in self.notes():
            self._progress.say(f"note     {note}")
        return plan

    def _check_port(self, until: str) -> None:
        if until != "deploy":
            return
        port, endpoint = self.options.port, self.endpoint()
        if endpoint is None:
            if not is_port_free("127.0.0.1", port):
                raise SpecError(
                    f"--port = {port} is in use by another process; end that, or give a free one with --port."
                )
            return
        served = urlsplit(endpoint["url"]).port or 0
        if port != served and not is_port_free("127.0.0.1", served):
            raise SpecError(
                f"--port = {port} is not where the endpoint is, which serves at port {served}; "
                f"give --port {served}, or end it first with `mlcluster down`."
            )

    def _machine(self) -> Machine:
        if is_on_cluster():
            connect_ray(self.workspace, Machine(num_cpus=1))
            return Machine(num_cpus=max(1, num_cluster_cpus()))
        return Machine(num_cpus=len(os.sched_getaffinity(0)))

    def _run_key(self, source_digest: str) -> str:
        """Runs of the same data, models, search and seed are one run, however often they are asked for."""
        asked = self.spec.model_dump(mode="json", include={"data", "models", "tune", "workers", "prices"})
        text = json.dumps([asked, source_digest, self.options.seed], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def _open(self, plan: Plan) -> tuple[RunContext, float]:
        """The run's context, its ledger open; and the dollars that an interrupted attempt has lost."""
        run = self.workspace.open_run(self._run_key(plan.profile.source_digest), fresh=self.options.fresh)
        state = run.state()
        if state.get("is_finished"):
            run.update(attempt=state.get("attempt", 1) + 1, is_finished=False)
        machine = self._machine()
        ledger = Ledger(run.ledger_path(), cap_usd=self.spec.tune.budget.usd, now=time.time())
        usd_per_second = plan.study.budget.usd_per_second
        lost = ledger.close_open_reservations(usd_per_second=usd_per_second, now=time.time())
        context = RunContext(
            spec=self.spec,
            project_folder=self.folder,
            workspace=self.workspace,
            run=run,
            machine=machine,
            ledger=ledger,
            meter=StageMeter(ledger, usd_per_second=usd_per_second),
            progress=self._progress,
            seed=self.options.seed,
        )
        return context, lost

    def _run_stages(self, plan: Plan, tracker: _Later, *, until: str, started: float) -> dict[str, Any]:
        from mlcluster.data.ray_engine import RayDataEngine

        context, lost = self._open(plan)
        if lost:
            self._progress.say(f"note     an interrupted attempt has cost ${lost:.4f}, which is booked as lost")
        try:
            if not context.run.state().get("forecast"):
                context.run.update(forecast={stage.stage: stage.expected_usd for stage in plan.forecast.stages})
            _reserve_stages(context, plan.forecast, until)
            snapshot = run_data_stage(context, RayDataEngine())
            baseline = score_baseline(snapshot, plan.metric)
            self._progress.say(f"         baseline (constant): validation {plan.metric} {baseline.validation:.4f}")
            result = run_tune_stage(context, snapshot)
            done = _Done(context=context, plan=plan, baseline=baseline, result=result, started=started)
            if until == "tune":
                return done.summary()
            verified = run_verify_stage(context, snapshot, result)
            version = self._record(tracker.get(), done, snapshot, verified)
            bundle = verified.bundle.with_version(version.version)
            done = replace(done, verified=replace(verified, bundle=bundle), version=version)
            self._stop_if_failed(done)
            if until == "deploy":
                endpoint = run_deploy_stage(context, bundle, port=self.options.port, previous=self._served_bundle())
                self._registry().set_alias(version.name, "champion", version.version)
                done = replace(done, endpoint=endpoint)
            context.run.update(is_finished=True)
            return done.summary()
        finally:
            context.ledger.close()

    def _record(
        self, tracker: MlflowTracker, done: _Done, snapshot: DatasetSnapshot, verified: Verified
    ) -> ModelVersion:
        """Everything into MLflow, and the bundle beside it under the version that it was given."""
        from mlcluster.cli.recording import run_record, version_tags
        from mlcluster.registry.mlflow_registry import CHALLENGER, MlflowRegistry

        context = done.context
        with context.meter.running("record"):
            registry = MlflowRegistry(tracker.client, uri=tracker.uri)
            run_id = tracker.begin(context.run.run_id)
            name = self.spec.project
            card = replace(
                verified.bundle.card,
                version=registry.next_version(name),
                run_id=run_id,
                spent_usd=context.ledger.spent_usd,
            )
            verified = replace(verified, bundle=replace(verified.bundle, card=card))
            tracker.finish(run_id, run_record(context, snapshot, done.result, verified, done.baseline))
            version = registry.register(verified.bundle, run_id=run_id, tags=version_tags(context, verified))
            if not verified.verdict.passed:
                registry.set_alias(name, CHALLENGER, version.version)
            verified.bundle.write(context.run.bundle(version.version))
        if verified.verdict.passed:
            context.run.update(version=version.version, mlflow_run_id=run_id)
        self._progress.stage("record", f"{name} version {version.version}, MLflow run {run_id}")
        return version

    def _stop_if_failed(self, done: _Done) -> None:
        assert done.verified is not None
        if done.verified.verdict.passed:
            return
        done.context.run.update(is_finished=True)
        failed = [f"{one.label}: {one.reason}" for one in done.verified.verdict.gates if one.status != "passed"]
        error = GateFailed(f"verify: {len(failed)} of {len(done.verified.verdict.gates)} failed ({'; '.join(failed)})")
        error.summary = done.summary()  # type: ignore[attr-defined]
        raise error

    def _served_bundle(self) -> Bundle | None:
        endpoint = self.endpoint()
        if endpoint is None:
            return None
        run = RunFolder(path=self.workspace.root / "runs" / endpoint["run"])
        folder = run.bundle(endpoint["version"])
        return Bundle.read(folder) if folder.is_dir() else None

    def _tracker(self) -> MlflowTracker:
        from mlcluster.tracking.mlflow_tracker import MlflowTracker

        uri = self.workspace.resolve_tracking(self.spec.tracking)
        is_file = uri.startswith("sqlite:")
        folder = self.workspace.root / "artifacts" if is_file else None
        if is_file:
            Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        return MlflowTracker(uri, experiment=self.spec.project, artifact_folder=folder)

    def _registry(self) -> MlflowRegistry:
        from mlcluster.registry.mlflow_registry import MlflowRegistry

        tracker = self._tracker()
        return MlflowRegistry(tracker.client, uri=tracker.uri)


@dataclass(frozen=True, kw_only=True)
class _Done:
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
            "seconds": time.time() - self.started,
            "trials": len(self.result.trials),
            "budget_spent": self.result.ending is Ending.BUDGET,
            "endpoint": None if self.endpoint is None else self.endpoint["url"],
            "infer_url": None if self.endpoint is None else self.endpoint["infer_url"],
        }


def _reserve_stages(context: RunContext, forecast: Forecast, until: str) -> None:
    """The worst cases of all stages but the search, which takes what is left."""
    done = context.run.state()
    last = "record" if until == "verify" else until
    for stage in forecast.stages[: STAGES.index(last) + 1]:
        if stage.stage != "tune" and done.get(stage.stage) != "done":
            context.meter.reserve(stage.stage, worst_case_seconds=stage.worst_case_seconds)


class _Later:
    """A value that is being made in a thread: MLflow's import and first migration take seconds."""

    def __init__(self, make: Any) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._future: Future[Any] = self._pool.submit(make)

    def get(self) -> Any:
        """Waits for it; raises what making it has raised."""
        try:
            return self._future.result()
        finally:
            self._pool.shutdown(wait=False)


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)
