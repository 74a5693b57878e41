"""Something that a person should know about the data before trusting a model of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

FindingKind = Literal[
    "all_missing",
    "bad_rows",
    "class_imbalance",
    "class_without_train_rows",
    "constant",
    "drift",
    "duplicate_column",
    "duplicate_rows",
    "entity_overlap",
    "id_like",
    "label_noise",
    "labels_filled",
    "labels_stale",
    "join",
    "leak",
    "many_missing",
    "mixed_types",
    "sentinel",
    "split_overlap",
    "suspect_rows",
    "stale_source",
    "target_missing",
    "thin_slice",
    "unordered_query",
    "unsupported",
]
Severity = Literal["info", "warning"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing found; `message` names the column, the number that gave rise to it, and what to do."""

    kind: FindingKind
    message: str
    column: str | None = None
    severity: Severity = "warning"
    value: float | None = None
    """The number behind it: a share, a count, an AUC."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Finding:
        return cls(**value)


def most_telling_first(findings: Sequence[Finding], association: Mapping[str, float]) -> tuple[Finding, ...]:
    """Warnings before the rest; in each, what is about the whole table, then columns that tell most of the target."""

    def urgency(finding: Finding) -> tuple[bool, float]:
        return finding.severity == "info", -association.get(finding.column or "", 2.0)

    return tuple(sorted(findings, key=urgency))
