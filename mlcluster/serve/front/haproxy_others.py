"""Requests for models beside an endpoint's own: each model has replicas that it goes to first.

A replica loads such a model when it is first asked for it, and has room for a few. By leastconn each replica would load
each of them; by a consistent hash of the model each has one of its own, keeps most of them when replicas come and go,
and spreads to the next replica where it is asked more than its share of all these requests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlcluster.serve.front.haproxy_config import (
    BACKEND,
    OTHERS_BACKEND,
    FrontConfig,
    model_rules,
    slot_name,
    waiting_room_server,
)

_MAX_SHARE_PERCENT = 200
"""Of the mean of all replicas: what one may have of these requests before the next one is asked."""
_CHOICE = ("balance hash var(txn.other)", "hash-type consistent", f"hash-balance-factor {_MAX_SHARE_PERCENT}")


def others_config(config: FrontConfig) -> str:
    """What stands in the configuration file beside the own model's part: the same replicas, chosen by another rule.

    Whether a replica answers, drains or has gone is found out once: these servers follow those of the own model.
    """
    followers = [
        f"  server {slot_name(index)} {'127.0.0.1:9' if address is None else address} "
        f"track {BACKEND}/{slot_name(index)} maxconn {config.limits.max_per_replica}"
        for index, address in enumerate(config.slots)
    ]
    head = [f"backend {OTHERS_BACKEND}", *model_rules(config, choice=_CHOICE)]
    return "\n".join([*head, *followers, waiting_room_server(config), ""])


def with_followers(commands: Sequence[str]) -> tuple[str, ...]:
    """Commands to HAProxy, and those without which the servers of other models would stay where they were.

    An address is a server's own; what else a server is told, the ones that follow it do.
    """
    found: list[str] = []
    for line in commands:
        if line.startswith(f"set server {BACKEND}/") and " addr " in line:
            found.append(line.replace(f"{BACKEND}/", f"{OTHERS_BACKEND}/", 1))
        found.append(line)
    return tuple(found)


def others_map(others: Mapping[str, str]) -> str:
    """The map's file: which model and version each name means."""
    return "".join(f"{name} {served}\n" for name, served in others.items())
