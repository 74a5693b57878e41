"""What a machine that has joined costs: by its type's name, else by what it offers, else not at all, and why."""

from __future__ import annotations

from typing import Any

import pytest

from mlcluster.cli.cluster_prices import worker_prices
from mlcluster.cluster import NodeFacts, NodePrices
from mlcluster.cost import PriceBook
from mlcluster.spec import ProjectSpec
from tests.cluster.files import FOLDER


def gcp() -> NodePrices:
    prices = {"cluster": "gcp-cpu-gpu.yaml"}
    spec = ProjectSpec.model_validate({"data": {"source": "t.csv", "target": "y"}, "prices": prices})
    return worker_prices(spec, FOLDER).nodes


def facts(**more: Any) -> NodeFacts:
    plain: dict[str, Any] = {
        "node_id": "ab",
        "address": "10.0.0.2",
        "node_type": None,
        "is_spot": None,
        "is_head": False,
        "resources": {"CPU": 8.0, "memory": 1e9},
        "launched_at": 5.0,
        "released_at": None,
    }
    return NodeFacts(**{**plain, **more})


@pytest.mark.parametrize(
    ("told", "node_type", "is_spot", "usd_per_hour"),
    [
        ({"node_type": "cpu-spot"}, "cpu-spot", True, 0.034088),
        ({"node_type": "cpu-on-demand"}, "cpu-on-demand", False, 0.337968),
        ({"is_spot": True}, "cpu-spot", True, 0.034088),
        ({"is_head": True, "resources": {"CPU": 0.0}}, "head", None, 0.067006),
    ],
)
def test_a_node_has_the_price_of_its_type(told: Any, node_type: str, is_spot: bool | None, usd_per_hour: float) -> None:
    found = gcp().node(facts(**told))
    assert (found.node_type, found.is_spot) == (node_type, is_spot)
    assert found.usd_per_hour == pytest.approx(usd_per_hour, rel=1e-3)
    assert found.resources.keys() <= {"CPU", "GPU"}


def test_a_node_that_says_nothing_counts_as_the_dearest_of_its_like() -> None:
    found = gcp().node(facts())
    assert (found.node_type, found.is_spot) == ("cpu-on-demand", None)
    assert found.price_source.endswith(", the dearest that offers the same")


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"node_type": "huge"}, "gcp-cpu-gpu.yaml has no price for huge"),
        ({"resources": {"CPU": 3.0}}, "gcp-cpu-gpu.yaml has no price for a node with 3 CPU, 0 GPU"),
    ],
)
def test_a_node_of_no_type_of_the_file_has_no_price_and_says_why(told: Any, why: str) -> None:
    found = gcp().node(facts(**told))
    assert (found.usd_per_hour, found.price_source) == (None, why)


def test_machines_of_ones_own_cost_what_their_cpus_and_gpus_do() -> None:
    own = NodePrices(book=PriceBook(cpu_usd_per_hour=0.05, gpu_usd_per_hour=1.0))
    found = own.node(facts(resources={"CPU": 8.0, "GPU": 2.0}))
    assert found.usd_per_hour == pytest.approx(2.4)
    assert found.price_source == "prices.cpu_hour and prices.gpu_hour"
