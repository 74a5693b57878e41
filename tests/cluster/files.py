"""Cluster files to check: small ones, and the shipped ones with an edit."""

from __future__ import annotations

from pathlib import Path

from mlcluster.cluster import NodePrice, NodeType, PricedType, PriceList
from mlcluster.cluster.price_list import read_price_list

FOLDER = Path(__file__).resolve().parents[2] / "cluster-configs"

PRICES = """
sources:
  ours: {cloud: aws, region: us-east-1, as_of: 2026-07-20, origin: a contract}
types:
  small: {source: ours, vcpu: 2, memory_gib: 8, usd_per_hour: 0.10, watts: 10}
  large: {source: ours, vcpu: 8, memory_gib: 32, usd_per_hour: 0.40, spot_usd_per_hour: 0.08, watts: 40}
  fast: {source: ours, vcpu: 4, memory_gib: 16, gpus: 2, gpu: t4, usd_per_hour: 1.00, watts: 200}
"""


def price_list(folder: Path, text: str = PRICES) -> PriceList:
    """A small price list, read from a file."""
    path = folder / "prices.yaml"
    path.write_text(text)
    return read_price_list(path)


def edited(folder: Path, name: str, *edits: tuple[str, str]) -> Path:
    """A shipped file with words replaced, beside the shipped prices."""
    text = (FOLDER / name).read_text()
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new)
    (folder / "prices.yaml").write_text((FOLDER / "prices.yaml").read_text())
    path = folder / name
    path.write_text(text)
    return path


def priced(
    name: str,
    price: NodePrice | None,
    *,
    nodes: tuple[int, int] = (0, 4),
    resources: dict[str, float] | None = None,
    is_head: bool = False,
    is_spot: bool = False,
    priority: int = 0,
) -> PricedType:
    """A node type with its price."""
    node = NodeType(
        name=name,
        path=("available_node_types", name),
        instance_type=None if price is None else price.instance_type,
        resources=resources or {},
        min_nodes=nodes[0],
        max_nodes=nodes[1],
        is_head=is_head,
        is_spot=is_spot,
        priority=priority,
    )
    return PricedType(node=node, price=price)
