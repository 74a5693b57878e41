"""Is the winner fit to ship? The answer, gate by gate, with what it rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

GateStatus = Literal["passed", "failed", "unmeasured"]
_WORST_FIRST: tuple[GateStatus, ...] = ("unmeasured", "failed", "passed")


@dataclass(frozen=True, kw_only=True, slots=True)
class GateResult:
    """One requirement, for everyone or for one group. Numbers are None where nothing could be measured."""

    gate: str
    """As the project file spells it."""
    sign: Literal[">=", "<="]
    bound: float | None
    status: GateStatus
    value: float | None = None
    lower: float | None = None
    """One-sided bound: what a `>=` is held against."""
    upper: float | None = None
    """One-sided bound: what a `<=` is held against."""
    num_rows: int
    group: str | None = None
    reason: str

    @property
    def label(self) -> str:
        """The gate, and its group if it has one."""
        return self.gate if self.group is None else f"{self.gate} [{self.group}]"


@dataclass(frozen=True, kw_only=True, slots=True)
class SliceResult:
    """The main measure on the rows of one group; nothing is required of it. None where too few rows."""

    column: str
    group: str
    metric: str
    num_rows: int
    value: float | None = None
    lower: float | None = None
    upper: float | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The outcome of a verification; `evidence` is plain JSON: rows, seed, confidence, proofs with examples."""

    gates: tuple[GateResult, ...]
    """A gate `by` a column has one result a group."""
    slices: tuple[SliceResult, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Every gate passed; what could not be measured has not."""
        return all(result.status == "passed" for result in self.gates)

    @property
    def worst(self) -> tuple[GateResult, ...]:
        """One result a gate: of its worst group. In the order of the gates."""
        by_gate: dict[str, GateResult] = {}
        for result in self.gates:
            known = by_gate.get(result.gate)
            if known is None or _badness(result) < _badness(known):
                by_gate[result.gate] = result
        return tuple(by_gate.values())

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "passed": self.passed,
            "gates": [asdict(result) for result in self.gates],
            "slices": [asdict(result) for result in self.slices],
            "evidence": dict(self.evidence),
        }

    def summary(self) -> str:
        """An aligned table of gates, one of slices, and the verdict, for a terminal."""
        header = ("gate", "value", f"{self.evidence.get('confidence', 0.95):.0%} bounds", "status", "reason")
        rows = [(one.label, _number(one.value), _bounds(one), one.status, one.reason) for one in self.gates]
        parts = [_aligned([header, *rows])]
        if self.slices:
            parts.append(_aligned([("slice", "rows", "value", "bounds", ""), *map(_slice_row, self.slices)]))
        num_passed = sum(result.status == "passed" for result in self.gates)
        word = "fit to ship" if self.passed else "not fit to ship"
        parts.append(f"{num_passed} of {len(self.gates)} checks passed: {word}.")
        return "\n\n".join(parts)


def _badness(result: GateResult) -> tuple[int, float]:
    """Sorts worst first: by status, then by how far the deciding bound is from the bound that is asked for."""
    if result.lower is None or result.upper is None or result.bound is None:
        return _WORST_FIRST.index(result.status), 0.0
    room = result.bound - result.upper if result.sign == "<=" else result.lower - result.bound
    return _WORST_FIRST.index(result.status), room


def _slice_row(one: SliceResult) -> tuple[str, str, str, str, str]:
    return (f"{one.metric} [{one.column}={one.group}]", str(one.num_rows), _number(one.value), _bounds(one), one.reason)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _bounds(result: GateResult | SliceResult) -> str:
    return "-" if result.lower is None else f"[{_number(result.lower)}, {_number(result.upper)}]"


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)
