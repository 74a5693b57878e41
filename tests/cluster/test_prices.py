"""Price lists, and what they come to: slots, hours, and findings about old, missing and zero prices."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcluster.cluster import (
    ClusterPlan,
    PricedType,
    cheapest_slot,
    forecast_hour,
    price_findings,
    price_types,
    read_documents,
    read_plan,
)
from mlcluster.cluster.price_list import NodePrice
from mlcluster.cluster.slots import slots_on
from mlcluster.errors import SpecError
from tests.cluster.files import PRICES, edited, price_list, priced

TODAY = datetime.date(2026, 8, 1)


@pytest.fixture
def prices(tmp_path: Path) -> dict[str, NodePrice]:
    return dict(price_list(tmp_path).prices)


def plan_of(types: list[PricedType], *, max_workers: int) -> ClusterPlan:
    return ClusterPlan(
        source="c.yaml",
        name="c",
        provider="aws",
        region="us-east-1",
        node_types=tuple(one.node for one in types),
        max_workers=max_workers,
        idle_minutes=5,
    )


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("usd_per_hour: 0.10", "usd_per_hour: 0", r"prices.yaml:5: types.small.usd_per_hour = 0 is wrong \(.*greater"),
        ("vcpu: 2", "vcpus: 2", r"prices.yaml:5: types.small.vcpus = 2 is not a key; did you mean vcpu\."),
        ("memory_gib: 8,", "", r"prices.yaml:5: types.small.memory_gib is required and missing"),
        ("spot_usd_per_hour: 0.08", "spot_usd_per_hour: 0.5", r"types.large = .* costs more on spot than on demand; "),
        ("gpu: t4,", "", r"types.fast = .* needs gpus and gpu together; give both, or neither\."),
        ("small: {source: ours", "small: {source: theirs", r"has types with the source theirs, which sources does not"),
    ],
)
def test_a_wrong_price_is_refused_with_its_line(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    assert old in PRICES
    with pytest.raises(SpecError, match=complaint):
        price_list(tmp_path, PRICES.replace(old, new))


def test_spot_costs_what_is_listed_else_the_price_on_demand(prices: dict[str, NodePrice]) -> None:
    assert priced("a", prices["large"], is_spot=True).usd_per_hour == 0.08
    assert priced("a", prices["large"]).usd_per_hour == 0.40
    assert priced("a", prices["small"], is_spot=True).usd_per_hour == 0.10


def test_a_node_offers_what_ray_is_told_and_else_what_it_has(prices: dict[str, NodePrice]) -> None:
    assert priced("a", prices["fast"]).resources == {"CPU": 4, "GPU": 2}
    assert priced("a", prices["fast"], resources={"CPU": 0}).resources == {"CPU": 0, "GPU": 2}
    assert priced("a", None).resources == {}


def test_a_worker_costs_its_share_of_the_cheapest_node_that_holds_it(prices: dict[str, NodePrice]) -> None:
    types = [
        priced("head", prices["small"], nodes=(1, 1), resources={"CPU": 0}, is_head=True),
        priced("demand", prices["large"]),
        priced("spot", prices["large"], is_spot=True),
        priced("gpu", prices["fast"]),
    ]
    cpu = cheapest_slot(types, {"CPU": 1.0})
    assert cpu is not None
    assert (cpu.node_type, cpu.slots_per_node, cpu.usd_per_hour) == ("spot", 8, pytest.approx(0.01))
    gpu = cheapest_slot(types, {"CPU": 1.0, "GPU": 1.0})
    assert gpu is not None
    assert (gpu.node_type, gpu.slots_per_node, gpu.usd_per_hour) == ("gpu", 2, pytest.approx(0.50))
    assert cheapest_slot(types, {"CPU": 9.0}) is None
    assert cheapest_slot([priced("spot", prices["large"], nodes=(0, 0))], {"CPU": 1.0}) is None


@given(offer=st.integers(0, 64), asked=st.sampled_from([0.1, 0.25, 0.5, 1.0, 3.0]))
def test_as_many_pieces_as_fit_and_one_more_does_not(offer: int, asked: float) -> None:
    slots = slots_on({"CPU": float(offer)}, {"CPU": asked})
    assert slots * asked <= offer + 1e-6 < (slots + 1) * asked + 1e-5


def test_an_hour_at_each_size_by_hand(prices: dict[str, NodePrice]) -> None:
    types = [
        priced("head", prices["small"], nodes=(1, 1), resources={"CPU": 0}, is_head=True),
        priced("demand", prices["large"], nodes=(0, 4)),
        priced("spot", prices["large"], nodes=(1, 4), is_spot=True, priority=1),
        priced("gpu", prices["fast"], nodes=(0, 2)),
    ]
    hour = forecast_hour(plan_of(types, max_workers=4), types)
    assert hour is not None
    assert hour.min_usd == pytest.approx(0.10 + 0.08)
    # Room for three more: two of them are usual, on spot, since what it falls back on is not counted.
    assert hour.typical_usd == pytest.approx(0.10 + 0.08 + 2 * 0.08)
    # The three dearest that there may be: two with GPUs, one on demand.
    assert hour.max_usd == pytest.approx(0.10 + 0.08 + 2 * 1.00 + 0.40)
    assert hour.max_watts == pytest.approx(10 + 40 + 2 * 200 + 40)


def test_there_is_no_forecast_where_a_type_has_no_price(prices: dict[str, NodePrice]) -> None:
    types = [priced("head", prices["small"], nodes=(1, 1), is_head=True), priced("a", None)]
    assert forecast_hour(plan_of(types, max_workers=4), types) is None


def test_doubts_about_prices_are_told_once_a_source(tmp_path: Path) -> None:
    path = edited(
        tmp_path,
        "aws-cpu-gpu-spot.yaml",
        ("m6a.2xlarge", "large"),
        ("m6a.large", "small"),
        ("g6.xlarge", "fsat"),
        ("region: us-east-1", "region: eu-west-1"),
    )
    prices = price_list(tmp_path)
    document = read_documents(path)[0]
    plan = read_plan(document)
    found = price_findings(plan, document, prices, today=datetime.date(2027, 8, 1))
    assert [(finding.level, finding.problem.partition(" = ")[0]) for finding in found[:2]] == [
        ("error", "available_node_types.gpu-spot"),
        ("error", "available_node_types.gpu-on-demand"),
    ]
    assert found[0].problem.endswith("gpu-spot = fsat is not in prices.yaml, so it has no price")
    assert found[0].fix.startswith("did you mean fast, or add it there")
    assert [finding.problem for finding in found[2:]] == [
        "the prices of prices.yaml from ours are of 2026-07-20, 377 days old",
        "the prices of prices.yaml from ours are of us-east-1, not eu-west-1",
    ]
    assert [one.usd_per_hour for one in price_types(plan, prices)] == [0.10, 0.08, 0.40, None, None]


def test_a_spot_type_without_a_spot_price_is_told(tmp_path: Path) -> None:
    path = edited(tmp_path, "aws-cpu.yaml", ("m6a.2xlarge", "small"), ("m6a.large", "small"))
    document = read_documents(path)[0]
    found = price_findings(read_plan(document), document, price_list(tmp_path), today=TODAY)
    assert [finding.problem for finding in found] == ["small has no spot price in prices.yaml, and counts as on demand"]
