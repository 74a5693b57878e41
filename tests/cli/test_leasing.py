"""`workers:` as workers: which are leased, what is refused, and from where on a GPU is cheaper."""

from __future__ import annotations

from typing import Any

import pytest

from mlcluster.cli.leasing import Lease, Machine, lease_lines, lease_workers
from mlcluster.cli.planning import stage_forecasts, study_budget
from mlcluster.errors import SpecError
from mlcluster.spec import ProjectSpec
from mlcluster.train import DataSize, Encoding

SIZES: dict[Encoding, DataSize] = {
    "ordinal": DataSize(rows=100_000, columns=14, outputs=2),
    "dense": DataSize(rows=100_000, columns=60, outputs=2),
}
EIGHT = Machine(num_cpus=8, num_gpus=1)


def lease(machine: Machine = EIGHT, *, gpu_hour: float = 0.35, **keys: Any) -> Lease:
    spec = {"data": {"source": "t.csv", "target": "y"}, "prices": {"cpu_hour": 0.05, "gpu_hour": gpu_hour}, **keys}
    return lease_workers(ProjectSpec.model_validate(spec), machine, SIZES)


def slots(of: Lease) -> dict[str, int]:
    return {kind.name: kind.num_slots for kind in of.kinds}


@pytest.mark.parametrize(
    ("keys", "leased"),
    [
        ({"workers": "cpu"}, {"cpu": 8}),
        ({"workers": "auto"}, {"cpu": 7, "gpu": 1}),
        ({"workers": "both"}, {"cpu": 7, "gpu": 1}),
        ({"workers": "gpu", "models": ["linear", "mlp"]}, {"gpu": 1}),
        ({"workers": "auto", "models": ["tree", "forest"]}, {"cpu": 8}),
    ],
)
def test_workers_says_which_kinds_are_leased(keys: dict[str, Any], leased: dict[str, int]) -> None:
    assert slots(lease(**keys)) == leased


def test_auto_leases_no_gpu_on_which_nothing_is_cheaper_and_says_so_but_both_does() -> None:
    assert slots(lease(gpu_hour=20.0)) == {"cpu": 8}
    assert lease_lines(lease(gpu_hour=20.0))[1] == "1 gpu not leased: nothing is cheaper on it at its price"
    assert slots(lease(gpu_hour=20.0, workers="both")) == {"cpu": 7, "gpu": 1}


@pytest.mark.parametrize("machine", [Machine(num_cpus=8), Machine(num_cpus=1, num_gpus=1)])
def test_auto_makes_do_with_what_there_is(machine: Machine) -> None:
    assert slots(lease(machine)) == {"cpu": machine.num_cpus}


@pytest.mark.parametrize(
    ("machine", "keys", "complaint"),
    [
        (
            Machine(num_cpus=4),
            {"workers": "gpu"},
            r"^workers = gpu asks for a GPU, and there are 4 CPUs and no GPU here; "
            r"set workers: auto or cpu, or run on a cluster that has GPU nodes\.$",
        ),
        (Machine(num_cpus=4), {"workers": "both"}, r"^workers = both asks for a GPU, and there are 4 CPUs and no GPU"),
        (Machine(num_cpus=2, num_gpus=2), {"workers": "both"}, r"^workers = both asks for CPUs beside the GPUs, .*set"),
        (EIGHT, {"workers": "gpu"}, r"^workers = gpu leaves no worker for tree, forest, boosting, .*; set workers: bo"),
    ],
)
def test_workers_that_are_not_there_are_refused_with_what_is_and_what_to_do(
    machine: Machine, keys: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(SpecError, match=complaint):
        lease(machine, **keys)


def test_a_lease_costs_what_its_node_costs_and_all_stages_pay_for_it() -> None:
    both = lease()
    assert both.usd_per_second * 3600 == pytest.approx(8 * 0.05 + 0.35)
    assert {stage.usd_per_second for stage in stage_forecasts(both, num_rows=10).values()} == {both.usd_per_second}
    spec = ProjectSpec.model_validate({"data": {"source": "t.csv", "target": "y"}})
    budget = study_budget(spec, both, free_usd=0.01)
    assert budget.seconds == pytest.approx(0.01 / both.usd_per_second)
    assert (budget.num_slots, budget.kinds, budget.max_together) == (8, both.kinds, 16)


def test_the_plan_says_from_which_width_on_a_gpu_is_cheaper_and_a_dearer_one_moves_it() -> None:
    cheap, dear = (
        {(one.family, one.others): one for one in lease(gpu_hour=price).crossovers} for price in (0.15, 0.35)
    )
    assert set(cheap) == {(family, others) for family in ("linear", "mlp") for others in ("default", "largest")}
    nets = "mlp", "largest"
    assert cheap[nets].first_on_gpu is not None
    assert dear[nets].first_on_gpu is not None
    assert 16 < cheap[nets].first_on_gpu < dear[nets].first_on_gpu <= 256
    assert dear["linear", "default"].first_on_gpu is None
    lines = lease_lines(lease())
    assert lines[0] == "7 cpu at $0.05 an hour each, 1 gpu at $0.4 an hour each"
    assert f"mlp, other values largest: gpu from width {dear[nets].first_on_gpu} on" in lines
