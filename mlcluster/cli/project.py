"""A project from Python: everything that the command line does, in the same words."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlcluster.cli.cluster_prices import WorkerPrices, worker_prices
from mlcluster.cli.elastic_study import ask_for_nodes, can_follow, provisional_machine, wished_nodes
from mlcluster.cli.endpoint_access import read_access
from mlcluster.cli.leasing import Lease, Machine, lease_lines, lease_workers
from mlcluster.cli.metering import StageMeter
from mlcluster.cli.node_watch import nodes_usd_per_second, watched_nodes
from mlcluster.cli.pipeline import STAGES, Pipeline
from mlcluster.cli.planning import (
    Plan,
    check_gates,
    forecast_run,
    guess_sizes,
    plan_search,
    resolve_metric,
    search_usd,
    stage_forecasts,
    study_budget,
)
from mlcluster.cli.ray_local import (
    LocalRay,
    disconnect,
    is_on_cluster,
    is_port_free,
)
from mlcluster.cli.reporting import write_report
from mlcluster.cli.run_context import RunContext, connect_ray
from mlcluster.cli.run_options import RunOptions
from mlcluster.cli.served_project import ServedProject
from mlcluster.cli.stores import LaterTracker
from mlcluster.cli.tune_stage import read_story, trial_of
from mlcluster.cli.workspace import RunFolder
from mlcluster.cost import Ledger, NoNodeLog
from mlcluster.data import DataProfile
from mlcluster.data.augment import check_group, check_images
from mlcluster.errors import SpecError
from mlcluster.spec import load_document, naming_lines
from mlcluster.train import DataSize, Encoding, check_families
from mlcluster.tune import StudyReport, StudyStory, TrialStory

JOIN_SECONDS = 120.0
"""How long a job waits for machines that are being set up when it begins."""


class Project(ServedProject):
    """One project file, and what was made from it."""

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
        document = load_document(Path(path), overrides=overrides)
        return cls(document, folder=Path(path).resolve().parent, options=options, quiet=quiet)

    def notes(self) -> tuple[str, ...]:
        """What the project file asks for and does not get yet."""
        notes = [f"{key} is accepted, and nothing acts on it yet" for key in self.spec.not_acted_on()]
        plain = [name for name in self.spec.models if name in ("tree", "forest", "boosting")]
        if self.spec.data.augment.is_per_epoch and plain:
            what = "noise, mixup and images" if self.spec.data.augment.images.is_on else "noise and mixup"
            notes.append(f"data.augment.{what} are for nets; {', '.join(plain)} learn without")
        return tuple(notes)

    def plan(self) -> Plan:
        """What a run would do and cost; nothing is spent.

        Raises:
            SpecError: the budget cannot hold one trial, the metric does not fit the task, or there are no such workers.
            DataError: the data is not what the project file says.
        """
        return self._plan(self._profile(is_lenient=False))

    def _plan(self, found: DataProfile, machine: Machine | None = None) -> Plan:
        """The same from the data's profile, on another machine than the one that is there."""
        kinds: dict[str, str] = {column.name: column.kind for column in found.columns if column.role == "feature"}
        sizes = guess_sizes(found, self.spec.data.augment)
        with naming_lines(self._document):
            for key in self.spec.data.augment.oversample:
                check_group(key, self.spec.data.target, found.classes, list(kinds))
            check_images(self.spec.data.augment, kinds.values())
            check_families(self.spec.models, kinds)
            check_gates(self.spec, kinds)
            self._keys()
            read_access(self.spec.serve, self.folder)
            metric = resolve_metric(self.spec, found.task)
            lease = self._lease(sizes, machine)
            around = stage_forecasts(lease, num_rows=found.num_rows)
            budget = study_budget(self.spec, lease, free_usd=search_usd(self.spec, around))
            study = plan_search(self.spec, sizes, budget, task=found.task, seed=self.options.seed)
        return Plan(
            profile=found,
            lease=lease,
            study=study,
            forecast=forecast_run(self.spec, lease, study, num_rows=found.num_rows),
            metric=metric,
        )

    def _lease(self, sizes: Mapping[Encoding, DataSize], machine: Machine | None) -> Lease:
        """Workers, and on a cluster all else that its nodes cost."""
        prices = self._prices
        lease = lease_workers(self.spec, machine or self._machine, sizes, prices.book)
        if is_on_cluster() and machine is None:
            beside = max(0.0, nodes_usd_per_second(prices.nodes) - lease.usd_per_second)
            return replace(lease, price_notes=prices.notes, beside_usd_per_second=beside)
        return replace(lease, price_notes=(*prices.notes, *([prices.head_note] if prices.head_note else [])))

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

    def explain(self) -> StudyStory:
        """The story of the newest run's study, from its journal, whether it has ended or not.

        Raises:
            SpecError: there is no study yet.
        """
        return read_story(self.workspace.latest_run())

    def explain_trial(self, trial_id: str) -> TrialStory:
        """One trial of that story, from its proposal to where it stands.

        Raises:
            SpecError: there is no study yet, or no such trial in it.
        """
        return trial_of(self.explain(), trial_id)

    def report(self) -> StudyReport:
        """The numbers of the newest run's study; their page is written to `report.html` in the run's folder.

        Raises:
            SpecError: there is no study yet.
        """
        return write_report(self.workspace.latest_run(), cap_usd=self.spec.tune.budget.usd)

    def down(self) -> bool:
        """Ends what `run` left serving; says whether there was anything."""
        endpoint = self.workspace.endpoint_file
        if is_on_cluster():
            from mlcluster.cli.served_record import forget_served
            from mlcluster.serve.ray_deploy import undeploy

            connect_ray(self.workspace, Machine(num_cpus=1))
            was_running = undeploy(self.spec.project)
            forget_served(self.workspace)
        else:
            was_running = LocalRay(self.workspace.ray).stop()
        endpoint.unlink(missing_ok=True)
        return was_running

    def _run(self, *, until: str) -> dict[str, Any]:
        with self.workspace.locked():
            started = time.time()
            plan = self._announce(until)
            self._check_port(until)
            tracker = LaterTracker(self.spec, self.workspace)
            connect_ray(self.workspace, self._machine)
            try:
                run = self._open_run(plan)
                with (
                    naming_lines(self._document),
                    watched_nodes(run, self._prices.nodes) as nodes,
                    closing(self._open(plan, run, nodes)) as context,
                ):
                    pipeline = Pipeline(
                        context=context, plan=plan, tracker=tracker, port=self.options.port, started=started
                    )
                    return pipeline.run(until).summary()
            finally:
                disconnect()

    def _announce(self, until: str) -> Plan:
        found = self._profile(is_lenient=False)
        self._ask_for_nodes(found)
        plan = self._plan(found)
        self._catalogue.note(plan.profile.sources)
        self._progress.stage("plan", f"{plan.profile.num_rows} rows, {plan.profile.task}, by {plan.metric}")
        for stage in plan.forecast.stages[: STAGES.index(until) + 1]:
            self._progress.say(
                f"         {stage.stage}: about ${stage.expected_usd:.4f} ({stage.expected_seconds:.0f} s), "
                f"at most ${stage.worst_case_usd:.4f}"
            )
        for line in lease_lines(plan.lease):
            self._progress.say(f"         {line}")
        self._progress.say(f"         cap ${plan.forecast.cap_usd:g}")
        for note in self.notes():
            self._progress.say(f"note     {note}")
        for finding in plan.profile.stale_sources:
            self._progress.say(f"warning  {finding.message}")
        return plan

    def _ask_for_nodes(self, found: DataProfile) -> None:
        """On a cluster whose size follows: those with which a search that is still to be done is cheapest."""
        if not is_on_cluster():
            return
        connect_ray(self.workspace, Machine(num_cpus=1))
        if not can_follow(self._prices.types) or self._is_searched(found):
            return
        plan = self._plan(found, provisional_machine(self.spec))
        usd = search_usd(self.spec, {stage.stage: stage for stage in plan.forecast.stages if stage.stage != "tune"})
        wish = wished_nodes(self.spec, self.folder, plan.study, free_usd=usd)
        if wish is not None:
            ask_for_nodes(wish, self._waiting)

    def _is_searched(self, found: DataProfile) -> bool:
        """Whether the run that will be gone on with has its search behind it."""
        run = self.workspace.find_run(self._run_key(found.source_digest), name=self.options.name)
        return run is not None and not self.options.fresh and run.state().get("tune") == "done"

    def _check_port(self, until: str) -> None:
        if until != "deploy":
            return
        port, endpoint = self.options.port, self.endpoint()
        if endpoint is None:
            if not is_port_free(self.spec.serve.host, port):
                raise SpecError(
                    f"--port = {port} is in use by another process; end that, or give a free one with --port."
                )
            return
        served = urlsplit(endpoint["url"]).port or 0
        if port != served and not is_port_free(self.spec.serve.host, served):
            raise SpecError(
                f"--port = {port} is not where the endpoint is, which serves at port {served}; "
                f"give --port {served}, or end it first with `mlcluster down`."
            )

    @cached_property
    def _machine(self) -> Machine:
        if is_on_cluster():
            from mlcluster.cluster.ray_members import settled_members

            connect_ray(self.workspace, Machine(num_cpus=1))
            found = settled_members(timeout_seconds=JOIN_SECONDS, say=self._waiting)
            return Machine(num_cpus=max(1, found.num_cpus), num_gpus=found.num_gpus)
        import torch

        return Machine(num_cpus=len(os.sched_getaffinity(0)), num_gpus=torch.cuda.device_count())

    @cached_property
    def _prices(self) -> WorkerPrices:
        return worker_prices(self.spec, self.folder)

    def _waiting(self, text: str) -> None:
        self._progress.stage("cluster", text)

    def _run_key(self, source_digest: str) -> str:
        """Runs of the same data, models, search and seed are one run, however often they are asked for."""
        asked = self.spec.model_dump(mode="json", include={"data", "models", "tune", "workers", "prices"})
        for source in asked["data"]["sources"].values():  # what is said of a source changes nothing in it
            for word in ("owner", "description", "fresh_within"):
                source.pop(word)
        text = json.dumps([asked, source_digest, self.options.seed], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def _open_run(self, plan: Plan) -> RunFolder:
        """The run that is gone on with, or a new one."""
        run = self.workspace.open_run(
            self._run_key(plan.profile.source_digest), fresh=self.options.fresh, name=self.options.name
        )
        state = run.state()
        if state.get("is_finished"):
            run.update(attempt=state.get("attempt", 1) + 1, is_finished=False)
        return run

    def _open(self, plan: Plan, run: RunFolder, nodes: NoNodeLog) -> RunContext:
        """The run's context, its ledger open, and what an interrupted attempt has left open in it booked as lost."""
        ledger = Ledger(run.ledger_path(), cap_usd=self.spec.tune.budget.usd, now=time.time())
        usd_per_second = plan.study.budget.usd_per_second
        lost = ledger.close_open_reservations(usd_per_second=usd_per_second, now=time.time())
        if lost:
            self._progress.say(f"note     an interrupted attempt has cost ${lost:.4f}, which is booked as lost")
        return RunContext(
            spec=self.spec,
            project_folder=self.folder,
            workspace=self.workspace,
            run=run,
            lease=plan.lease,
            ledger=ledger,
            meter=StageMeter(ledger, usd_per_second=usd_per_second, nodes=nodes),
            progress=self._progress,
            sources=self._catalogue.cache,
            keys=self._keys(),
            nodes=nodes,
            seed=self.options.seed,
        )
