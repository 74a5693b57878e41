"""A gate passes when its confidence bound does, fails when it does not, and never passes unmeasured."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mlcluster.data import FeatureColumn, TableSchema, TargetColumn, Transform
from mlcluster.data.transform import RawNumber
from mlcluster.errors import DataError
from mlcluster.spec import GateSpec
from mlcluster.train import DenseLayer, DenseNet, apply_link
from mlcluster.verify import GateResult, Verdict, VerifyRequest, verify

TRANSFORM = Transform(encoding="ordinal", columns=(RawNumber(name="x"), RawNumber(name="z")))
NET = DenseNet(
    layers=(DenseLayer(weight=np.array([[3.0], [0.0]], dtype=np.float32), bias=np.zeros(1, dtype=np.float32)),),
    link="sigmoid",
)
"""Class 1 where x > 0."""


def schema(task: str = "binary") -> TableSchema:
    features = tuple(FeatureColumn(name=n, kind="number", arrow_type="double", has_missing=False) for n in ("x", "z"))
    classes = () if task == "regression" else (0, 1)
    return TableSchema(features=features, target=TargetColumn(name="y", task=task, classes=classes))


def request(*gates: str, rows: int = 2000, noise: float = 0.7, **changes: Any) -> VerifyRequest:
    """A linear model on x, whose labels follow x up to some noise; group `b` is noisier, group `tiny` has 12 rows."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=rows)
    group = np.where(np.arange(rows) % 3 == 0, "b", "a").astype(object)
    group[:12] = "tiny"
    y = (x + rng.normal(size=rows) * noise * np.where(group == "b", 3, 1) > 0).astype(np.int64)
    table = pa.table({"x": x, "z": rng.normal(size=rows), "y": y, "group": group, "two": np.where(y > 3, "p", "q")})
    arguments: dict[str, Any] = {
        "gates": tuple(GateSpec.model_validate(gate) for gate in gates),
        "metric": "roc_auc",
        "schema": schema(),
        "test_table": table,
        "y": y,
        "scores": apply_link(NET.raw_scores(TRANSFORM.apply(table)), NET.link),
        "baseline_scores": np.tile([0.5, 0.5], (rows, 1)),
        "structure": NET,
        "transform": TRANSFORM,
        "number_scales": {"x": 1.0, "z": 1.0},
    }
    return VerifyRequest(**(arguments | changes))


def only(verdict: Verdict) -> GateResult:
    """The result of the one gate that was asked for, beside the baseline's."""
    baseline, result = verdict.gates
    assert baseline.gate == "roc_auc beats the constant baseline"
    return result


def test_without_gates_the_baseline_must_still_be_beaten() -> None:
    good = verify(request())
    assert [result.status for result in good.gates] == ["passed"]
    assert good.passed
    useless = request(scores=np.random.default_rng(1).dirichlet([1, 1], 2000))
    assert not verify(useless).passed


def test_a_constant_model_does_not_beat_the_constant_baseline() -> None:
    asked = request(scores=np.tile([0.6, 0.4], (2000, 1)))
    assert verify(asked).gates[0].status == "failed"


@pytest.mark.parametrize("metric", ["log_loss", "accuracy", "f1", "brier", "balanced_accuracy"])
def test_the_baseline_is_beaten_in_whatever_the_main_measure_is(metric: str) -> None:
    result = verify(request(metric=metric)).gates[0]
    assert result.status == "passed"
    assert result.sign == ("<=" if metric in ("log_loss", "brier") else ">=")


def test_a_gate_asks_the_lower_bound_and_not_the_value() -> None:
    value = only(verify(request("accuracy >= 0.5"))).value
    assert value is not None
    just_below = only(verify(request(f"accuracy >= {value - 0.002:.4f}")))
    assert just_below.status == "failed"
    assert "2000 rows leave room for" in just_below.reason
    assert only(verify(request(f"accuracy >= {value - 0.03:.4f}"))).status == "passed"


def test_a_ceiling_asks_the_upper_bound() -> None:
    value = only(verify(request("log_loss <= 1"))).value
    assert value is not None
    assert only(verify(request(f"log_loss <= {value + 0.002:.4f}"))).status == "failed"
    assert only(verify(request(f"log_loss <= {value + 0.1:.4f}"))).status == "passed"


def test_the_same_quality_fails_on_fewer_rows() -> None:
    assert only(verify(request("roc_auc >= 0.7"))).status == "passed"
    few = only(verify(request("roc_auc >= 0.7", rows=60)))
    assert few.value is not None
    assert few.value >= 0.7
    assert few.status == "failed"


def test_too_few_rows_are_unmeasured_and_do_not_pass() -> None:
    verdict = verify(request("accuracy >= 0.1", rows=20))
    assert {result.status for result in verdict.gates} == {"unmeasured"}
    assert not verdict.passed


def test_by_gives_a_result_a_group_and_the_gate_is_as_its_worst() -> None:
    verdict = verify(request("accuracy by group >= 0.1"))
    by_group = {result.group: result for result in verdict.gates[1:]}
    assert {label: result.status for label, result in by_group.items()} == {
        "a": "passed", "b": "passed", "tiny": "unmeasured"
    }  # fmt: skip
    assert by_group["tiny"].reason == "not enough data (12 rows, 30 are needed)"
    assert [result.group for result in verdict.worst] == [None, "tiny"]
    assert not verdict.passed


def test_the_worst_group_is_the_one_with_least_room() -> None:
    asked = request("accuracy by group >= 0.1")
    table = asked.test_table.slice(12)
    asked = dataclasses.replace(
        asked, test_table=table, y=asked.y[12:], scores=asked.scores[12:], baseline_scores=asked.baseline_scores[12:]
    )
    assert verify(asked).worst[1].group == "b"


def test_missing_values_are_a_group() -> None:
    asked = request("accuracy by group >= 0.1")
    labels = asked.test_table["group"].to_pylist()
    labels = [None if label == "b" else label for label in labels]
    table = asked.test_table.set_column(3, "group", pa.array(labels))
    groups = {result.group for result in verify(dataclasses.replace(asked, test_table=table)).gates[1:]}
    assert groups == {"a", "missing", "tiny"}


@pytest.mark.parametrize(
    ("gate", "reason"),
    [
        ("r2 >= 0.1", "r2 does not measure a binary task"),
        ("recall by nothing >= 0.1", "no column 'nothing'"),
        ("recall by x >= 0.1", "x has 2000 values, 100 groups at most"),
        ("equal_opportunity by two <= 0.1", "not enough data to compare two groups"),
    ],
)
def test_what_cannot_be_measured_fails_with_its_reason(gate: str, reason: str) -> None:
    verdict = verify(request(gate))
    assert only(verdict).status == "unmeasured"
    assert reason in only(verdict).reason
    assert not verdict.passed


def test_fairness_is_the_largest_difference_between_groups_with_enough_rows() -> None:
    asked = request("equal_opportunity by group <= 0.5")
    result = only(verify(asked))
    group, is_hit = np.array(asked.test_table["group"].to_pylist()), asked.scores[:, 1] > 0.5
    recalls = [is_hit[(group == one) & (asked.y == 1)].mean() for one in ("a", "b")]
    assert result.value == pytest.approx(abs(recalls[0] - recalls[1]))
    assert result.upper is not None
    assert result.value is not None
    assert result.upper > result.value
    assert "a against b; without tiny (12 rows)" in result.reason
    assert result.status == "passed"


def test_equal_treatment_is_not_proved_by_a_difference_of_zero_on_few_rows() -> None:
    asked = request(rows=120)
    half = pa.array(["m", "w"] * 60)
    table = asked.test_table.append_column("sex", half)
    same = np.repeat(asked.scores[::2], 2, axis=0)
    gate = (GateSpec.model_validate("demographic_parity by sex <= 0.05"),)
    result = only(verify(dataclasses.replace(asked, gates=gate, test_table=table, scores=same)))
    assert result.value == 0
    assert result.status == "failed"


def test_certified_share_is_the_share_of_rows_that_are_far_from_the_border() -> None:
    asked = request("certified(eps=0.1) >= 0.8")
    verdict = verify(asked)
    result, evidence = only(verdict), verdict.evidence["certified"][0]
    rows = np.sort(np.random.default_rng(0).choice(2000, 500, replace=False))
    x = np.array(asked.test_table["x"])[rows]
    assert evidence["proved"] == (np.abs(x) > 0.1).sum()
    assert evidence["proved"] + evidence["refuted"] + evidence["unknown"] == 500
    assert result.num_rows == 500
    assert result.value == pytest.approx(evidence["proved"] / 500)
    assert result.status == "passed"
    assert set(evidence["examples"][0]["changed"]) == {"x"}


def test_certified_can_be_asked_by_group() -> None:
    verdict = verify(request("certified(eps=0.1) by group >= 0.5"))
    assert {result.group: result.status for result in verdict.gates[1:]} == {
        "a": "passed", "b": "passed", "tiny": "unmeasured"
    }  # fmt: skip


def test_a_larger_eps_certifies_less() -> None:
    shares = [only(verify(request(f"certified(eps={eps}) >= 0.1"))).value for eps in (0.01, 0.1, 0.5)]
    assert shares == sorted(shares, reverse=True)
    assert len(set(shares)) == 3


def test_a_regression_is_verified_and_has_no_certificates() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=2000)
    asked = request(
        "r2 >= 0.5", "certified(eps=0.1) >= 0.1", "roc_auc >= 0.1", "equal_opportunity by group <= 1",
        metric="r2", schema=schema("regression"), y=y, scores=y + 0.1 * rng.normal(size=2000),
        baseline_scores=np.zeros(2000),
    )  # fmt: skip
    assert [result.status for result in verify(asked).gates] == ["passed", "passed", *["unmeasured"] * 3]


def test_scores_that_are_nan_do_not_pass() -> None:
    scores = request().scores.copy()
    scores[5] = np.nan
    assert not verify(request("accuracy >= 0", scores=scores)).passed


def test_slices_show_every_group_of_sensitive_columns_without_asking_anything() -> None:
    verdict = verify(request(sensitive=("group",)))
    assert {one.group: one.value is not None for one in verdict.slices} == {"a": True, "b": True, "tiny": False}
    assert verdict.passed


def test_a_result_does_not_depend_on_what_else_is_asked() -> None:
    alone = only(verify(request("log_loss <= 0.9")))
    among = verify(request("brier <= 0.5", "log_loss <= 0.9", "certified(eps=0.1) >= 0.1")).gates[2]
    assert alone == among


def test_a_verdict_is_plain_json_and_a_readable_table() -> None:
    verdict = verify(request("accuracy by group >= 0.1", "certified(eps=0.1) >= 0.5", sensitive=("group",)))
    assert json.loads(json.dumps(verdict.to_json(), allow_nan=False))["passed"] is False
    text = verdict.summary()
    assert "accuracy by group >= 0.1 [tiny]" in text
    assert "roc_auc [group=tiny]" in text
    assert text.endswith("4 of 5 checks passed: not fit to ship.")
    gates = text.split("\n\n")[0].splitlines()
    assert len({line.index("unmeasured" if "unmeasured" in line else "passed") for line in gates[1:]}) == 1


def test_rows_that_do_not_match_are_refused() -> None:
    with pytest.raises(DataError, match="differ between table, y, scores and baseline"):
        request(y=np.zeros(3, dtype=np.int64))
    with pytest.raises(DataError, match="metric = 'r2' does not measure a binary task"):
        request(metric="r2")
