"""More rules of thumb on real tables, none known and no shares given: what the label model makes of functions that are
not independent, and that nobody has chosen for being good."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from label_bench.real import Codes, Columns, pool_of
from mlcluster.data.labels import LabelFunction, apply_functions

Rule = Callable[[Columns], Any]

OTHERS_ON_ADULT: tuple[Rule, ...] = (
    lambda c: np.where(np.isin(c["occupation"], ["Exec-managerial", "Prof-specialty"]), ">50K", "<=50K"),
    lambda c: np.where(np.isin(c["relationship"], ["Husband", "Wife"]), ">50K", "<=50K"),
    lambda c: np.where(np.isin(c["education"], ["Bachelors", "Masters", "Doctorate"]), ">50K", "<=50K"),
    lambda c: np.where(c["age"] < 28, "<=50K", None),
    lambda c: np.where(c["capital_loss"] > 1500, ">50K", None),
    lambda c: np.where(c["hours_per_week"] > 45, ">50K", None),
)
ON_BANK: tuple[Rule, ...] = (
    lambda c: np.where(c["poutcome"] == "success", "yes", np.where(c["poutcome"] == "failure", "no", None)),
    lambda c: np.where(c["emp.var.rate"] < -1.5, "yes", "no"),
    lambda c: np.where(c["contact"] == "telephone", "no", None),
    lambda c: np.where(c["age"] >= 62, "yes", None),
    lambda c: np.where(np.isin(c["month"], ["mar", "sep", "oct", "dec"]), "yes", None),
    lambda c: np.where(c["campaign"] > 5, "no", None),
)
ON_BANK_PEOPLE: tuple[Rule, ...] = (
    lambda c: np.where(c["previous"] > 0, "yes", "no"),
    lambda c: np.where(
        np.isin(c["job"], ["student", "retired"]), "yes", np.where(c["job"] == "blue-collar", "no", None)
    ),
    lambda c: np.where(c["default"] == "unknown", "no", None),
    lambda c: np.where(c["education"] == "university.degree", "yes", None),
    lambda c: np.where(c["marital"] == "single", "yes", None),
)
ON_ELECTRICITY: tuple[Rule, ...] = (
    lambda c: np.where(c["nswdemand"] > 0.43, 1, 0),
    lambda c: np.where((c["period"] > 0.3) & (c["period"] < 0.85), 1, 0),
    lambda c: np.where(c["nswprice"] > 0.05, 1, 0),
    lambda c: np.where(c["transfer"] < 0.41, 1, None),
    lambda c: np.where(c["vicdemand"] > 0.45, 1, np.where(c["vicdemand"] < 0.37, 0, None)),
)
RULE_SETS: dict[str, tuple[str, tuple[Rule, ...]]] = {
    "six others on adult": ("adult", OTHERS_ON_ADULT),
    "six on bank_marketing": ("bank_marketing", ON_BANK),
    "five about people on bank_marketing": ("bank_marketing", ON_BANK_PEOPLE),
    "five on electricity_elec2": ("electricity_elec2", ON_ELECTRICITY),
}


def rules_on(data: Path, name: str, seed: int, num_rows: int = 6000) -> tuple[Codes, Codes]:
    """Truth, and what the rules say, of rows drawn by the seed."""
    table, rules = RULE_SETS[name]
    pool, rng = pool_of(data, table), np.random.default_rng(seed)
    rows = np.sort(rng.choice(pool.num_rows, num_rows, replace=False))
    functions = [LabelFunction(name=f"rule{place}", rule=rule) for place, rule in enumerate(rules)]
    return pool.given[rows], apply_functions(functions, pool.take(rows), pool.target)
