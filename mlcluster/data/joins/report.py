"""What a join has come to, in numbers and examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from mlcluster.data.findings import Finding
from mlcluster.errors import DataError
from mlcluster.spec import JoinSpec

NUM_EXAMPLES = 5
_USUAL_MATCH = 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class JoinReport:
    """One join. Rows are counted on the left, which is what was there before; keys are shown as they stand."""

    source: str
    on: tuple[str, ...]
    """`person_id`, or `person_id = id` where the names differ."""
    how: str
    rows_in: int
    rows_right: int
    rows_out: int
    matched_as_is: int
    matched_normalised: int
    """Rows that found their key only in its normalised form."""
    matched_near: int
    """Rows whose key is near to one on the right, and agrees with none."""
    missing_key: int
    ambiguous: int
    """Rows whose normalised key is that of several different keys on the right; they are taken for unmatched."""
    unmatched_examples: tuple[str, ...]
    unmatched_right: int
    """Rows of the other source that nothing has found."""
    unmatched_right_examples: tuple[str, ...]
    largest_fan_out: int
    """The most rows that one row has found."""
    largest_fan_out_key: str | None
    near_examples: tuple[str, ...]
    """`theirs ~ ours`, of the keys that were taken for slips."""

    @property
    def num_matched(self) -> int:
        return self.matched_as_is + self.matched_normalised + self.matched_near

    @property
    def match_rate(self) -> float:
        """The share of rows that found their key; a row without a key found none."""
        return self.num_matched / max(self.rows_in, 1)

    @property
    def unmatched_left(self) -> int:
        return self.rows_in - self.num_matched

    def finding(self, wanted: JoinSpec) -> Finding:
        """In one sentence; a warning where fewer rows were matched than is asked for, or than is usual."""
        is_low = self.match_rate < max(wanted.min_match, _USUAL_MATCH)
        return Finding(
            kind="join",
            message=f"{self.sentence()}.",
            severity="warning" if is_low else "info",
            value=self.match_rate,
        )

    def sentence(self) -> str:
        """The numbers in words, without a full stop."""
        ways = f" ({self.matched_normalised:,} of them once normalised)" if self.matched_normalised else ""
        words = [
            f"join with {self.source} on {', '.join(self.on)}: {self.match_rate:.1%} of {self.rows_in:,} rows found "
            f"their key{ways}",
            f"{self.unmatched_left:,} did not{_examples(self.unmatched_examples)}",
            f"{self.unmatched_right:,} of {self.rows_right:,} rows of {self.source} were not found"
            + _examples(self.unmatched_right_examples),
        ]
        if self.matched_near:
            words.insert(1, f"{self.matched_near:,} of them by a near key{_examples(self.near_examples)}")
        if self.ambiguous:
            words.append(f"{self.ambiguous:,} could be several keys once normalised")
        if self.largest_fan_out > 1:
            words.append(f"{self.largest_fan_out_key} found {self.largest_fan_out:,}")
        words.append(f"{self.rows_in:,} rows in, {self.rows_out:,} out")
        return "; ".join(words)

    def refuse_few_matches(self, wanted: JoinSpec) -> None:
        """Raises DataError where fewer rows were matched than is asked for."""
        if self.match_rate < wanted.min_match:
            raise DataError(
                f"data.joins = {self.source} is below its min_match of {wanted.min_match:g} ({self.sentence()}); "
                "normalise the key, correct it in either source, or lower min_match."
            )

    def refuse_fan_out(self, wanted: JoinSpec) -> None:
        """Raises DataError where one row finds more rows than is asked for."""
        if self.largest_fan_out > wanted.max_fan_out:
            raise DataError(
                f"data.joins = {self.source} is above its max_fan_out of {wanted.max_fan_out}: "
                f"{self.largest_fan_out_key} finds {self.largest_fan_out:,} rows of {self.source}, and "
                f"{self.rows_in:,} rows would become {self.rows_out:,}; keep one row a key, or raise max_fan_out."
            )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, with the match rate."""
        return {**asdict(self), "match_rate": self.match_rate, "unmatched_left": self.unmatched_left}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> JoinReport:
        lists = ("on", "unmatched_examples", "unmatched_right_examples", "near_examples")
        known: dict[str, Any] = {field.name: value[field.name] for field in fields(cls)}
        return cls(**{**known, **{name: tuple(known[name]) for name in lists}})


def _examples(keys: tuple[str, ...]) -> str:
    return f" ({', '.join(keys)}{', ...' if len(keys) == NUM_EXAMPLES else ''})" if keys else ""
