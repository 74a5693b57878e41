"""The nodes of a run on a cluster, for `cost`: what they cost from launch to release, and whose that was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mlcluster.cli.workspace import RunFolder
from mlcluster.cost import NodeAccount, Saving, node_bill, read_node_history, savings, savings_line
from mlcluster.cost.node_bill import NANO


def node_accounts(run: RunFolder) -> dict[str, Any] | None:
    """Plain JSON: `trials`, `stages`, `idle_usd` and `lost_usd` add up to `usd`, the sum over `nodes`.

    None where the run's attempt was on no cluster.
    """
    path = run.node_log_path()
    if not path.exists():
        return None
    history = read_node_history(path)
    bill = node_bill(history)
    accounts = sorted(bill.accounts, key=lambda one: (not one.node.is_head, one.node.launched_at))
    return {
        "usd": bill.nano_usd / NANO,
        "spot_usd": sum(one.nano_usd for one in accounts if one.node.is_spot) / NANO,
        "idle_usd": bill.idle_nano_usd / NANO,
        "lost_usd": bill.lost_nano_usd / NANO,
        "lost_by_cause": {cause: part / NANO for cause, part in bill.lost_by_cause.items()},
        "trials": {trial: part / NANO for trial, part in bill.trials.items()},
        "stages": {stage: part / NANO for stage, part in bill.stages.items()},
        "num_without_price": len(bill.unpriced),
        "nodes": [_account(one) for one in accounts],
        "given_up": _given_up(savings(history)),
    }


def node_savings(run: RunFolder) -> tuple[Saving, ...]:
    """What giving nodes up has saved the run's attempt so far."""
    path = run.node_log_path()
    return savings(read_node_history(path)) if path.exists() else ()


def _given_up(found: Sequence[Saving]) -> dict[str, Any]:
    """`seconds` and `usd` are what the nodes would have been kept for and cost until the end of the search."""
    return {
        "seconds": sum(one.seconds for one in found),
        "usd": sum(one.usd for one in found),
        "text": savings_line(found),
        "nodes": [
            {
                "node": one.node.node_id[:12],
                "type": one.node.node_type,
                "at": one.at,
                "seconds": one.seconds,
                "usd": one.usd,
                "reason": one.reason,
            }
            for one in found
        ],
    }


def _account(one: NodeAccount) -> dict[str, Any]:
    node = one.node
    return {
        "node": node.node_id[:12],
        "type": node.node_type,
        "market": {True: "spot", False: "on demand", None: None}[node.is_spot],
        "usd_per_hour": node.usd_per_hour,
        "price_source": node.price_source,
        "launched_at": node.launched_at,
        "released_at": node.released_at,
        "seconds": one.milliseconds / 1000,
        "usd": one.nano_usd / NANO,
        "working_usd": one.working_nano_usd / NANO,
        "idle_usd": one.idle_nano_usd / NANO,
        "lost_usd": one.lost_nano_usd / NANO,
    }


def node_lines(found: Mapping[str, Any], *, cap_usd: float) -> Iterator[str]:
    """The same as a table, and whether the cap held when all of it is counted."""
    yield (
        f"{'node':<13} {'type':<16} {'bought':<9} {'$/hour':>8} {'seconds':>8} "
        f"{'dollars':>10} {'working':>10} {'idle':>10} {'lost':>10}"
    )
    for one in found["nodes"]:
        price = "unknown" if one["usd_per_hour"] is None else f"{one['usd_per_hour']:.4f}"
        yield f"{one['node']:<13} {one['type']:<16} {one['market'] or '-':<9} {price:>8} {one['seconds']:>8.1f} " + (
            _dollars(one["usd"], one["working_usd"], one["idle_usd"], one["lost_usd"])
        )
    working_usd = sum(one["working_usd"] for one in found["nodes"])
    seconds = sum(one["seconds"] for one in found["nodes"])
    whole = _dollars(found["usd"], working_usd, found["idle_usd"], found["lost_usd"])
    yield f"{'all nodes':<13} {'':<16} {'':<9} {'':>8} {seconds:>8.1f} {whole}"
    yield from _footnotes(found, cap_usd=cap_usd)


def _footnotes(found: Mapping[str, Any], *, cap_usd: float) -> Iterator[str]:
    stages = ", ".join(f"{stage} ${usd:.6f}" for stage, usd in found["stages"].items())
    trials_usd = sum(found["trials"].values())
    yield f"working: trials ${trials_usd:.6f}{f', {stages}' if stages else ''}; on spot ${found['spot_usd']:.6f} of all"
    for source in dict.fromkeys(one["price_source"] for one in found["nodes"]):
        yield f"price    {source}"
    if found["num_without_price"]:
        yield f"missing  {found['num_without_price']} nodes have no known price, and are in none of these dollars"
    for cause, usd in found["lost_by_cause"].items():
        yield f"lost     ${usd:.6f} by {cause}"
    if found["given_up"]["text"] is not None:
        yield f"saved    {found['given_up']['text']}"
    over_usd = found["usd"] - cap_usd
    held = "held" if over_usd <= 0 else f"did not hold, by ${over_usd:.6f}"
    yield f"the cap of ${cap_usd:g} {held}, all of this counted"


def _dollars(*amounts: float) -> str:
    return " ".join(f"{usd:>9.6f}$" for usd in amounts)
