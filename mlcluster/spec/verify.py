"""`verify:`: what the winner must prove before it ships.

Short form: `METRIC[(name=value, ...)] [by COLUMN] >= NUMBER`, with `>=` or `<=`.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, model_validator

from mlcluster.spec.base import Section

_NAME = r"[A-Za-z_][A-Za-z_0-9]*"
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_GATE = re.compile(
    rf"^\s*(?P<metric>{_NAME})\s*(?:\((?P<arguments>[^)]*)\))?\s*(?:by\s+(?P<by>\S+))?\s*(?P<sign>>=|<=)\s*(?P<bound>{_NUMBER})\s*$"
)

GATE_METRICS = (
    "roc_auc", "accuracy", "balanced_accuracy", "precision", "recall", "f1", "log_loss", "brier",
    "r2", "rmse", "mae",
    "equal_opportunity", "demographic_parity",
    "certified",
)  # fmt: skip
FAIRNESS_METRICS = ("equal_opportunity", "demographic_parity")
"""Differences between groups: they need `by`."""


class GateSpec(Section):
    """One requirement: `metric` on the test split, for everyone or by the groups of a column, against a bound."""

    metric: str
    by: str | None = None
    sign: Literal[">=", "<="]
    bound: float
    arguments: dict[str, float] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_short_form(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        match = _GATE.match(value)
        if match is None:
            raise ValueError("is no requirement; write it like `roc_auc >= 0.90` or `recall by sex >= 0.55`")
        return {
            "metric": match["metric"],
            "by": match["by"],
            "sign": match["sign"],
            "bound": float(match["bound"]),
            "arguments": _parse_arguments(match["arguments"]),
        }

    @model_validator(mode="after")
    def _check(self) -> GateSpec:
        if self.metric not in GATE_METRICS:
            raise ValueError(f"asks for {self.metric!r}, which is no measure; use one of {', '.join(GATE_METRICS)}")
        if self.metric in FAIRNESS_METRICS and self.by is None:
            raise ValueError(
                f"compares groups without naming them; write `{self.metric} by COLUMN {self.sign} {self.bound:g}`"
            )
        allowed = {"eps"} if self.metric == "certified" else set()
        if set(self.arguments) != allowed:
            need = "needs eps, as in `certified(eps=0.01) >= 0.8`" if allowed else "takes no arguments"
            raise ValueError(f"calls {self.metric} with {sorted(self.arguments)}; it {need}")
        return self

    def __str__(self) -> str:
        arguments = ", ".join(f"{name}={value:g}" for name, value in self.arguments.items())
        call = f"{self.metric}({arguments})" if arguments else self.metric
        by = f" by {self.by}" if self.by else ""
        return f"{call}{by} {self.sign} {self.bound:.12g}"


def _parse_arguments(text: str | None) -> dict[str, float]:
    arguments: dict[str, float] = {}
    for part in (text or "").split(","):
        if not part.strip():
            continue
        name, equals, number = part.partition("=")
        try:
            arguments[name.strip()] = float(number)
        except ValueError:
            equals = ""
        if not equals:
            raise ValueError(f"has {part.strip()!r} between its brackets; write name=number")
    return arguments
