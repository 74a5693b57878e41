"""FLAML's CFO and BlendSearch (Wu et al., AAAI 2021; Wang et al., ICLR 2021), with ASHA as its `tune.run` offers it.

Both take a trial's seconds for its cost. Neither is told a cheap configuration to start from: the benchmarks name none.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from flaml import CFO, BlendSearch
from flaml import tune as flaml_tune

from mlcluster.spec import ChoiceDomain, Domain, FloatDomain, SearchSpace
from search_bench.optuna_peers import quiet_optuna
from search_bench.ray_peers import RayAsha
from search_bench.task import PolicyTask


def flaml_cfo(task: PolicyTask) -> RayAsha:
    """Local search from random starts."""
    return _with_asha(task, CFO)


def flaml_blendsearch(task: PolicyTask) -> RayAsha:
    """Local search from starts of Optuna's TPE."""
    return _with_asha(task, BlendSearch)


def _with_asha(task: PolicyTask, searcher: type) -> RayAsha:
    logging.getLogger("flaml").setLevel(logging.ERROR)
    quiet_optuna()
    np.random.seed(task.seed % 2**32)
    space = _space(task.space)
    return RayAsha(
        task, searcher(metric="loss", mode="min", space=space, seed=task.seed % 2**31, cost_attr="time_total_s")
    )


def _space(space: SearchSpace) -> dict[str, Any]:
    return {name: _domain(domain) for name, domain in space.items()}


def _domain(domain: Domain) -> Any:
    if isinstance(domain, ChoiceDomain):
        return flaml_tune.choice(list(domain.options))
    if isinstance(domain, FloatDomain):
        return (flaml_tune.loguniform if domain.log else flaml_tune.uniform)(domain.low, domain.high)
    # Its whole numbers end before the upper bound.
    return (flaml_tune.lograndint if domain.log else flaml_tune.randint)(domain.low, domain.high + 1)
