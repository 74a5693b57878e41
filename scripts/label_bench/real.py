"""The audit, the queue and the clean screen on real tables, through the code that `mlcluster data label` runs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from mlcluster.cli.labelling_models import learn_and_ask, out_of_fold
from mlcluster.data import LocalEngine, prepare
from mlcluster.data.labels import (
    ABSTAINED,
    LabelFunction,
    Pool,
    apply_functions,
    audit_labels,
    choose_rows,
    read_pool,
)
from mlcluster.spec import DataSpec, LabelsSpec, ScreenSpec

Codes = np.ndarray[Any, np.dtype[np.int64]]
Columns = Mapping[str, np.ndarray[Any, Any]]

TABLES: dict[str, dict[str, Any]] = {
    "adult": {"target": "income", "exclude": ("fnlwgt", "split")},
    "bank_marketing": {"target": "y", "exclude": ("duration",)},
    "bike_sharing_hourly": {
        "target": "cnt",
        "task": "regression",
        "exclude": ("instant", "dteday", "casual", "registered"),
    },
    "electricity_elec2": {"target": "class", "exclude": ("t",)},
}
AUDITED_ROWS = 10_000
POOL_ROWS, TEST_ROWS = 6_000, 5_000
FIRST, BATCH, LAST = 50, 50, 800
TARGET_AT = 600
"""The accuracy to reach is what random choice has on average, over ten seeds, with this many labels."""
NUM_GOAL_SEEDS = 10


def spec_of(data: Path, table: str, **more: Any) -> DataSpec:
    settings = {**TABLES[table], "labels": LabelsSpec(store="no-store.parquet"), **more}
    return DataSpec(source=str((data / f"{table}.parquet").resolve()), **settings)


@cache
def pool_of(data: Path, table: str) -> Pool:
    return read_pool(spec_of(data, table), base=data)


def audit_scores(data: Path, table: str, seed: int) -> dict[str, float]:
    """One label in ten is turned; how the audit ranks them, and what it names."""
    from sklearn.metrics import average_precision_score

    pool, rng = pool_of(data, table), np.random.default_rng(seed)
    rows = np.sort(rng.choice(pool.num_rows, AUDITED_ROWS, replace=False))
    truth = pool.given[rows]
    is_turned = rng.random(len(rows)) < 0.1
    given = np.where(is_turned, 1 - truth, truth)
    found = audit_labels(given, out_of_fold(pool.matrices(rows)["ordinal"], given, num_classes=2, seed=seed))
    return {
        "average_precision": float(average_precision_score(is_turned, -found.margins)),
        "base_rate": float(is_turned.mean()),
        "precision": float(is_turned[found.is_suspect].mean()),
        "recall": float(found.is_suspect[is_turned].mean()),
        "wrong_share": found.wrong_share,
    }


def labels_needed(data: Path, table: str, seed: int) -> dict[str, float]:
    """Labels until a forest has one accuracy on rows apart, asked for by the queue and by lot."""
    goal = _goal(data, table)
    chosen, by_lot = (needed(curve(data, table, seed, by_lot=lot), goal) for lot in (False, True))
    ends = [curve(data, table, seed, by_lot=lot)[-1] for lot in (False, True)]
    return {
        "accuracy_to_reach": goal,
        "labels_by_queue": chosen,
        "labels_by_lot": by_lot,
        "labels_saved": by_lot - chosen,
        "gain_at_last": float(ends[0] - ends[1]),
    }


@cache
def _goal(data: Path, table: str) -> float:
    place = (TARGET_AT - FIRST) // BATCH
    return float(np.mean([curve(data, table, seed, by_lot=True)[place] for seed in range(NUM_GOAL_SEEDS)]))


def needed(accuracies: tuple[float, ...], goal: float) -> float:
    """Labels at which the accuracy, averaged over three batches, first reaches the goal; a batch over all if never."""
    smooth = np.convolve(accuracies, np.ones(3) / 3, mode="same")
    smooth[[0, -1]] = accuracies[0], np.mean(accuracies[-2:])
    reached = np.flatnonzero(smooth >= goal)
    return float(FIRST + BATCH * (reached[0] if len(reached) else len(accuracies)))


@cache
def curve(data: Path, table: str, seed: int, *, by_lot: bool) -> tuple[float, ...]:
    """Accuracy on test rows with 50, 100, ... labels, the same rows and first labels for both ways."""
    pool, rng = pool_of(data, table), np.random.default_rng(seed)
    rows = rng.choice(pool.num_rows, POOL_ROWS + TEST_ROWS, replace=False)
    matrices, truth = pool.matrices(rows), pool.given[rows]
    trees, dense = matrices["ordinal"], matrices["dense"]
    test = np.arange(POOL_ROWS, len(rows))
    known, open_rows = np.arange(FIRST), np.arange(FIRST, POOL_ROWS)
    accuracies = []
    while True:
        asked = np.concatenate([test, open_rows])
        answers = learn_and_ask(trees[known], truth[known], trees[asked], num_classes=2, seed=seed)
        accuracies.append(float((answers[: len(test)].argmax(axis=1) == truth[test]).mean()))
        if len(known) >= LAST:
            return tuple(accuracies)
        if by_lot:
            places = rng.choice(len(open_rows), BATCH, replace=False)
        else:
            choices = choose_rows(dense[open_rows], answers[len(test) :], BATCH, rng=rng)
            places = np.array([choice.place for choice in choices])
        known = np.concatenate([known, open_rows[places]])
        open_rows = np.delete(open_rows, places)


def clean_screen(data: Path, table: str, seed: int) -> dict[str, float]:
    """The share of a real table's train rows that the screen suspects though nobody has planted any."""
    spec = spec_of(data, table, screen=ScreenSpec(trimmed_loss="warn"))
    with tempfile.TemporaryDirectory() as folder:
        snapshot = prepare(spec, base=data, folder=Path(folder) / "snapshot", seed=seed, engine=LocalEngine())
    found = sum(finding.value or 0 for finding in snapshot.findings if finding.kind == "suspect_rows")
    return {"suspects": found, "suspect_share": found / snapshot.num_rows["train"]}


RULES: tuple[Callable[[Columns], Any], ...] = (
    lambda columns: np.where(columns["education_num"] >= 13, ">50K", None),
    lambda columns: np.where(columns["education_num"] < 9, "<=50K", None),
    lambda columns: np.where(columns["age"] < 27, "<=50K", None),
    lambda columns: np.where(columns["marital_status"] == "Married-civ-spouse", ">50K", "<=50K"),
    lambda columns: np.where(columns["capital_gain"] > 5000, ">50K", None),
    lambda columns: np.where(columns["hours_per_week"] < 35, "<=50K", None),
)
"""Rules of thumb about adult's income, written before any was scored."""


def rules_on_adult(data: Path, num_known: int, seed: int) -> tuple[Codes, Codes, Codes]:
    """Truth, what the rules say of 6,000 rows of adult, and the labels that are known, (n,)."""
    pool, rng = pool_of(data, "adult"), np.random.default_rng(seed)
    rows = np.sort(rng.choice(pool.num_rows, 6000, replace=False))
    functions = [LabelFunction(name=f"rule{place}", rule=rule) for place, rule in enumerate(RULES)]
    codes = apply_functions(functions, pool.take(rows), pool.target)
    truth = pool.given[rows]
    return truth, codes, np.where(np.arange(len(rows)) < num_known, truth, ABSTAINED)
