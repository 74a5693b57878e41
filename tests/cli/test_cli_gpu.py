"""A search on CPU and GPU workers, started as a user starts it, on a real GPU. Skipped without one."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from mlcluster.cost import read_bills, read_ledger
from mlcluster.train import FAMILIES, DataSize
from mlcluster.tune import SegmentStory, TrialStory, read_journal, tell_study
from tests.cli.projects import end_ray_of, make_project, run_here, run_process

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("default"),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU that torch can use"),
]

CAP_USD = 0.25
CPU_HOUR, GPU_HOUR = 0.05, 0.05
"""A GPU's slot costs as much as two of a core, so that some nets of the space are cheaper on a GPU of any speed."""
PROJECT = f"""
    project: demo
    data: {{source: data/table.parquet, target: answer}}
    models: [linear, mlp]
    workers: both
    prices: {{cpu_hour: {CPU_HOUR}, gpu_hour: {GPU_HOUR}}}
    tune:
      metric: roc_auc
      budget: {{usd: {CAP_USD}, minutes: 1}}
      space: {{mlp: {{width: 64..512, batch_size: 256..1024}}}}
    """


@dataclass(frozen=True, kw_only=True)
class Searched:
    """A project after its search."""

    folder: Path
    summary: dict[str, Any]

    @property
    def run_folder(self) -> Path:
        return self.folder / ".mlcluster" / "runs" / self.summary["run"]

    @property
    def trials(self) -> tuple[TrialStory, ...]:
        return tell_study(read_journal(self.run_folder / "study" / "journal.jsonl")).trials

    def segments(self, worker: str) -> list[tuple[TrialStory, SegmentStory]]:
        """Those that reported from a kind of worker, with their trials."""
        every = [(trial, segment) for trial in self.trials for segment in trial.segments]
        return [(trial, segment) for trial, segment in every if segment.worker == worker and segment.loss is not None]


def large_table(num_rows: int = 30_000, num_columns: int = 20) -> pa.Table:
    """Numbers, of which six decide the answer, each with one other."""
    rng = np.random.default_rng(0)
    columns = rng.normal(size=(num_columns, num_rows))
    sign = columns[0] * columns[1] + columns[2] * columns[3] + columns[4] * columns[5]
    answer = np.where(sign + rng.normal(scale=0.5, size=num_rows) > 0, "yes", "no")
    return pa.table({**{f"c{place}": column for place, column in enumerate(columns)}, "answer": answer})


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Searched]:
    folder = make_project(tmp_path_factory.mktemp("gpu") / "demo", PROJECT, large_table())
    try:
        outcome = run_process(folder, "tune", "--json", timeout=200)
        assert outcome.code == 0, outcome.stderr[-3000:]
        yield Searched(folder=folder, summary=outcome.json)
    finally:
        end_ray_of(folder)


def speed_up(trial: TrialStory) -> float:
    """By the estimates: seconds on a core for each on a GPU."""
    family, size = FAMILIES[trial.family], DataSize(rows=18_000, columns=40, outputs=2)
    assert family.on_gpu is not None
    on_gpu = family.on_gpu.nominal_seconds(trial.configuration, size, 1)
    return family.nominal_seconds(trial.configuration, size, 1) / on_gpu


def test_both_kinds_of_worker_train_and_the_gpu_gets_what_it_is_good_for(searched: Searched) -> None:
    placed = {
        worker: [speed_up(trial) for trial, one in searched.segments(worker) if is_by_price(one)]
        for worker in ("cpu", "gpu")
    }
    assert min(len(found) for found in placed.values()) >= 3, {worker: len(found) for worker, found in placed.items()}
    assert statistics.median(placed["gpu"]) > 1.5 * statistics.median(placed["cpu"]), placed


def is_by_price(segment: SegmentStory) -> bool:
    """Whether it was sent where it costs least, and not to a slot that would have idled."""
    return segment.worker_reason.startswith("cheapest: ")


def test_a_second_of_each_worker_is_billed_at_its_own_price(searched: Searched) -> None:
    for worker, usd_per_hour in (("cpu", CPU_HOUR), ("gpu", CPU_HOUR + GPU_HOUR)):
        alone = [one for _, one in searched.segments(worker) if not one.together]
        held_seconds = sum(one.held_seconds or 0.0 for one in alone)
        assert held_seconds > 0
        assert sum(one.usd or 0.0 for one in alone) == pytest.approx(held_seconds * usd_per_hour / 3600, rel=1e-6)


def test_the_ledger_holds_the_gpus_dollars_under_the_cap(searched: Searched) -> None:
    (ledger,) = searched.run_folder.glob("ledger*.jsonl")
    bill = read_bills(read_ledger(ledger))["tune"]
    on_gpu = {trial.trial_id for trial, _ in searched.segments("gpu")}
    assert sum(bill.shares[name] for name in on_gpu) > 0
    assert sum(bill.shares.values()) + bill.idle_usd == pytest.approx(bill.usd, rel=1e-6)
    assert searched.summary["spent_usd"] <= CAP_USD


def test_a_trial_tells_that_and_why_it_was_on_the_gpu(searched: Searched) -> None:
    trial = next(trial for trial, one in searched.segments("gpu") if is_by_price(one))
    told = run_here(searched.folder, "tune", "--explain", trial.trial_id).stdout
    assert "on a gpu worker" in told
    assert "where     cheapest: gpu " in told
    plan = run_here(searched.folder, "plan").stdout
    assert f"1 gpu at ${CPU_HOUR + GPU_HOUR:g} an hour each" in plan
