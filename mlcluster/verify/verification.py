"""Holds a winner against its requirements, one after the other, with the same rows and the same seed.

A `>=` is held against the lower one-sided confidence bound and a `<=` against the upper one, so that luck on a small
test split does not ship a model. What cannot be measured, for whatever reason, has not passed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mlcluster.errors import DataError
from mlcluster.spec import FAIRNESS_METRICS, GateSpec
from mlcluster.train.metrics import METRICS, UndefinedMetric, predicted_classes, score
from mlcluster.verify.certify import Certification, Certifier
from mlcluster.verify.estimates import MIN_ROWS, estimate, shortage
from mlcluster.verify.fairness import group_rates, largest_difference
from mlcluster.verify.groups import groups_of
from mlcluster.verify.intervals import Estimate
from mlcluster.verify.request import VerifyRequest
from mlcluster.verify.verdict import GateResult, GateStatus, SliceResult, Verdict

Rows = npt.NDArray[np.int64]


def verify(request: VerifyRequest) -> Verdict:
    """Is the winner fit to ship? Always asks that it beats the constant baseline; then each gate."""
    return _Verification(request).run()


class _Unmeasurable(DataError):  # noqa: N818 - a state, as in errors.py
    """Carries the reason why a gate has no value."""


@dataclass
class _Verification:
    request: VerifyRequest
    certifications: dict[float, Certification] = field(default_factory=dict)

    def run(self) -> Verdict:
        results = [self._against_baseline()]
        for gate in self.request.gates:
            results += self._held(gate)
        return Verdict(gates=tuple(results), slices=tuple(self._slices()), evidence=self._evidence())

    def _held(self, gate: GateSpec) -> list[GateResult]:
        """One result, or one a group."""
        if gate.metric in FAIRNESS_METRICS:
            return [self._fairness(gate)]
        if gate.by is None:
            return [self._measured(gate, self._all_rows(), None)]
        groups = groups_of(self.request.test_table, gate.by)
        if isinstance(groups, str):
            return [_unmeasured(gate, groups, num_rows=len(self.request.y))]
        if not groups:
            return [_unmeasured(gate, "there are no test rows", num_rows=0)]
        return [self._measured(gate, rows, label) for label, rows in groups.items()]

    def _measured(self, gate: GateSpec, rows: Rows, group: str | None) -> GateResult:
        num_rows = len(rows)
        try:
            if gate.metric == "certified":
                certification = self._certification(gate.arguments["eps"])
                num_rows = certification.count(rows)
                found = self._certified(certification, rows)
            else:
                found = self._estimate(gate.metric, rows)
        except (_Unmeasurable, UndefinedMetric) as error:
            return _unmeasured(gate, str(error), num_rows=num_rows, group=group)
        return _decided(gate, found, num_rows=num_rows, group=group)

    def _estimate(self, metric: str, rows: Rows) -> Estimate:
        task, request = self.request.schema.target.task, self.request
        if task not in METRICS[metric].tasks:
            raise _Unmeasurable(f"{metric} does not measure a {task} task")
        y, scores = request.y[rows], np.asarray(request.scores, dtype=np.float64)[rows]
        reason = shortage(metric, task, y)
        if reason is not None:
            raise _Unmeasurable(reason)
        return estimate(metric, y, scores, confidence=request.confidence, rng=self._rng(metric, rows))

    def _rng(self, metric: str, rows: Rows) -> np.random.Generator:
        """Seeded by what is measured, so that a result does not depend on which other gates are asked."""
        text = f"{self.request.seed} {metric} ".encode() + rows.tobytes()
        return np.random.default_rng(int.from_bytes(hashlib.sha256(text).digest()[:8], "big"))

    def _certification(self, eps: float) -> Certification:
        request = self.request
        if request.schema.target.task == "regression":
            raise _Unmeasurable("certified asks about classes, and a regression has none")
        if request.schema.images:
            name = request.schema.images[0].name
            raise _Unmeasurable(f"certified moves numbers, and {name} is an image: nothing is proved of its pixels")
        if eps not in self.certifications:
            certifier = Certifier(
                structure=request.structure,
                transform=request.transform,
                number_scales=request.number_scales,
                seed=request.seed,
            )
            self.certifications[eps] = certifier.certify(request.test_table, eps)
        return self.certifications[eps]

    def _certified(self, certification: Certification, rows: Rows) -> Estimate:
        count = certification.count(rows)
        found = certification.share(rows, self.request.confidence)
        if found is None or count < MIN_ROWS:
            raise _Unmeasurable(f"not enough data ({count} rows in the sample, {MIN_ROWS} are needed)")
        return found

    def _fairness(self, gate: GateSpec) -> GateResult:
        request, num_rows = self.request, len(self.request.y)
        groups = groups_of(request.test_table, gate.by or "")
        if isinstance(groups, str):
            return _unmeasured(gate, groups, num_rows=num_rows)
        if request.schema.target.task != "binary":
            return _unmeasured(gate, f"{gate.metric} compares positives, which takes two classes", num_rows=num_rows)
        predicted = predicted_classes(np.asarray(request.scores)) == 1
        rates, left_out = group_rates(gate.metric, np.asarray(request.y == 1), np.asarray(predicted), groups)
        without = f"; without {', '.join(left_out)}" if left_out else ""
        if len(rates) < 2:
            return _unmeasured(gate, f"not enough data to compare two groups{without}", num_rows=num_rows)
        found, (higher, lower) = largest_difference(rates, request.confidence)
        return _decided(gate, found, num_rows=num_rows, note=f"{higher} against {lower}{without}")

    def _against_baseline(self) -> GateResult:
        """The main measure must be better than the constant model's by more than chance."""
        request, metric = self.request, self.request.metric
        sign: Any = ">=" if METRICS[metric].direction == "maximize" else "<="
        name, num_rows = f"{metric} beats the constant baseline", len(request.y)
        try:
            bound = score(metric, request.y, np.asarray(request.baseline_scores, dtype=np.float64))
            found = self._estimate(metric, self._all_rows())
        except (_Unmeasurable, UndefinedMetric) as error:
            return GateResult(
                gate=name, sign=sign, bound=None, status="unmeasured", num_rows=num_rows, reason=str(error)
            )
        is_better = found.lower > bound if sign == ">=" else found.upper < bound
        return GateResult(
            gate=name,
            sign=sign,
            bound=bound,
            status="passed" if is_better else "failed",
            value=found.value,
            lower=found.lower,
            upper=found.upper,
            num_rows=num_rows,
            reason=f"the baseline has {bound:.4g}" + ("" if is_better else f", not surely beaten on {num_rows} rows"),
        )

    def _slices(self) -> list[SliceResult]:
        results = []
        for column in self.request.sensitive:
            groups = groups_of(self.request.test_table, column)
            if isinstance(groups, str):
                results.append(
                    SliceResult(column=column, group="-", metric=self.request.metric, num_rows=0, reason=groups)
                )
                continue
            results += [self._slice(column, group, rows) for group, rows in groups.items()]
        return results

    def _slice(self, column: str, group: str, rows: Rows) -> SliceResult:
        metric = self.request.metric
        try:
            found = self._estimate(metric, rows)
        except (_Unmeasurable, UndefinedMetric) as error:
            return SliceResult(column=column, group=group, metric=metric, num_rows=len(rows), reason=str(error))
        return SliceResult(
            column=column,
            group=group,
            metric=metric,
            num_rows=len(rows),
            value=found.value,
            lower=found.lower,
            upper=found.upper,
        )

    def _all_rows(self) -> Rows:
        return np.arange(len(self.request.y))

    def _evidence(self) -> dict[str, Any]:
        return {
            "num_rows": len(self.request.y),
            "confidence": self.request.confidence,
            "seed": self.request.seed,
            "certified": [one.to_json() for one in self.certifications.values()],
        }


def _decided(gate: GateSpec, found: Estimate, *, num_rows: int, group: str | None = None, note: str = "") -> GateResult:
    is_met = found.lower >= gate.bound if gate.sign == ">=" else found.upper <= gate.bound
    status: GateStatus = "passed" if is_met else "failed"
    reason = "; ".join(part for part in (note, "" if is_met else _why_failed(gate, found, num_rows)) if part)
    return GateResult(
        gate=str(gate),
        sign=gate.sign,
        bound=gate.bound,
        status=status,
        value=found.value,
        lower=found.lower,
        upper=found.upper,
        num_rows=num_rows,
        group=group,
        reason=reason,
    )


def _why_failed(gate: GateSpec, found: Estimate, num_rows: int) -> str:
    end, word = (found.lower, "below") if gate.sign == ">=" else (found.upper, "above")
    holds = found.value >= gate.bound if gate.sign == ">=" else found.value <= gate.bound
    if holds:
        return f"{found.value:.4g} would do, but {num_rows} rows leave room for {end:.4g}; test on more"
    return f"{found.value:.4g} is {word} {gate.bound:g}"


def _unmeasured(gate: GateSpec, reason: str, *, num_rows: int, group: str | None = None) -> GateResult:
    return GateResult(
        gate=str(gate),
        sign=gate.sign,
        bound=gate.bound,
        status="unmeasured",
        num_rows=num_rows,
        group=group,
        reason=reason,
    )
