"""`data:`: what to learn from."""

from __future__ import annotations

import difflib
import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from mlcluster.spec.augment import AugmentSpec
from mlcluster.spec.base import Identifier, Section
from mlcluster.spec.images import ImageSpec
from mlcluster.spec.labels import LabelsSpec, ScreenSpec
from mlcluster.spec.sources import JoinSpec, Place, SourceSpec
from mlcluster.spec.spans import span_seconds

Task = Literal["classification", "regression"]
BadRows = Literal["fail", "quarantine", "warn"]

_RANGE = re.compile(r"^\s*(?P<low>[-+0-9.eE]*)\s*\.\.\s*(?P<high>[-+0-9.eE]*)\s*$")


def parse_range(text: str) -> dict[str, float]:
    """`0..120` as {min, max}; either end may be left open.

    Raises:
        ValueError: the text is no range of numbers.
    """
    match = _RANGE.match(text)
    if match is None or not (match["low"] or match["high"]):
        raise ValueError("is no range; write it like 0..120, 0.. or ..120")
    try:
        return {key: float(match[name]) for key, name in (("min", "low"), ("max", "high")) if match[name]}
    except ValueError:
        raise ValueError("is no range of numbers; write it like 0..120") from None


def check_ends(low: float | None, high: float | None) -> None:
    """Raises ValueError where a range has its ends the wrong way round."""
    if low is not None and high is not None and low > high:
        raise ValueError(f"has its low end {low:g} above its high end {high:g}; swap them")


class Range(Section):
    """From `min` to `max`, both included; either may be left open. The string form is `0..120`."""

    min: float | None = None
    max: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_short_form(cls, value: Any) -> Any:
        return parse_range(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> Range:
        check_ends(self.min, self.max)
        return self


class Expectation(Section):
    """What one column must satisfy. String forms: `0..120`, `not_null`, `unique`, `increasing`, `number`, `[a, b]`.

    Rules of a value (a range, `not_null`, `one_of`) hold in serving as well; those of the column (its `type`, `unique`,
    `increasing`, `missing`, `median`) need all rows.
    """

    min: float | None = None
    max: float | None = None
    not_null: bool = False
    one_of: tuple[str | int | float | bool, ...] | None = None
    type: Literal["number", "category", "boolean", "time"] | None = None
    unique: bool = False
    increasing: bool = False
    """No value is below the one in the row before."""
    missing: Range | None = None
    """The share of rows without a value, 0 to 1."""
    median: Range | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_short_form(cls, value: Any) -> Any:
        if isinstance(value, list):
            return {"one_of": value}
        if not isinstance(value, str):
            return value
        merged: dict[str, Any] = {}
        for part in value.split(","):
            word = part.strip()
            if word in ("not_null", "unique", "increasing"):
                merged[word] = True
            elif word in ("number", "category", "boolean", "time"):
                merged["type"] = word
            else:
                merged |= parse_range(word)
        return merged

    @model_validator(mode="after")
    def _check(self) -> Expectation:
        check_ends(self.min, self.max)
        return self

    @property
    def of_values(self) -> Expectation | None:
        """The rules that one value can be held against, or None."""
        kept = Expectation(min=self.min, max=self.max, not_null=self.not_null, one_of=self.one_of)
        return kept if kept != Expectation() else None

    @property
    def looks_at_rows_together(self) -> bool:
        """Whether the rows that break a rule can only be told with other rows in view."""
        return self.unique or self.increasing


def _split_from_short_form(value: Any) -> Any:
    return {"column": value} if isinstance(value, str) else value


def _checked_gap(value: Any) -> Any:
    if isinstance(value, str):
        span_seconds(value.strip())
    elif isinstance(value, int | float) and not isinstance(value, bool) and value < 0:
        raise ValueError(f"= {value:g} is below 0; give a span of 0 or more")
    return value


class SplitSpec(Section):
    """How rows are parted: by shares, or by a column that holds train / validation / test.

    With a column that knows no validation rows, `validation` is the share of the train rows that is set aside.
    """

    column: str | None = None
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.2
    test: Annotated[float, Field(gt=0, lt=1)] = 0.2
    gap: Annotated[str | float | None, BeforeValidator(_checked_gap)] = None
    """Of a split by time: rows within this span before validation and before test are left out, since what they were
    judged by may reach into the future. `7d`, `12h`, `30m` for dates; a number in the units of the column otherwise."""
    stratify: bool = False
    """Each class has its share of every split, to the row."""
    group: str | None = None
    """A column whose rows stay together, where it is not the key; it may be a feature."""

    @model_validator(mode="after")
    def _check(self) -> SplitSpec:
        if self.validation + self.test >= 1:
            raise ValueError(
                f"leaves nothing to train on (validation {self.validation:g} + test {self.test:g}); lower one of them"
            )
        if self.column is not None and (self.gap is not None or self.stratify or self.group is not None):
            raise ValueError("names a column that holds the split, which leaves nothing for gap, stratify or group")
        if self.stratify and self.group is not None:
            raise ValueError("asks for stratify and group, which pull rows apart in two ways; choose one of them")
        return self


class DataSpec(Section):
    """What exactly is learned from. Only `source` and `target` have no default."""

    source: Place
    """A path, glob or URI, or a name of `sources`."""
    target: Annotated[str, Field(min_length=1)]
    task: Task | None = None
    """Inferred from the target when left out."""
    key: str | None = None
    """The entity: never a feature; rows of one entity stay in one split."""
    time: str | None = None
    """Event time: the split is by time when given, and the column is no feature."""
    exclude: tuple[str, ...] = ()
    sensitive: tuple[str, ...] = ()
    split: Annotated[SplitSpec, BeforeValidator(_split_from_short_form)] = SplitSpec()
    expect: dict[str, Expectation] = Field(default_factory=dict)
    bad_rows: BadRows = "fail"
    image: ImageSpec = ImageSpec()
    augment: AugmentSpec = AugmentSpec()
    labels: LabelsSpec = LabelsSpec()
    screen: ScreenSpec = ScreenSpec()
    sources: dict[Identifier, SourceSpec] = Field(default_factory=dict)
    joins: tuple[JoinSpec, ...] = ()
    """Done in this order, after `source` is read."""

    @field_validator("exclude", "sensitive", mode="before")
    @classmethod
    def _one_name_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("joins")
    @classmethod
    def _joined_sources_are_there(cls, value: tuple[JoinSpec, ...], info: ValidationInfo) -> tuple[JoinSpec, ...]:
        if "sources" not in info.data:
            return value  # they are wrong themselves, which is said already
        known: dict[str, SourceSpec] = info.data["sources"]
        for join in value:
            if join.source not in known:
                near = difflib.get_close_matches(join.source, known, n=1, cutoff=0.6)
                fix = f"did you mean {near[0]}" if near else "name it under data.sources, with its path"
                raise ValueError(f"names {join.source!r}, which is no source; {fix}")
        return value

    @model_validator(mode="after")
    def _target_is_not_a_feature_rule(self) -> DataSpec:
        for name, columns in (("key", (self.key,)), ("time", (self.time,)), ("exclude", self.exclude)):
            if self.target in columns:
                raise ValueError(
                    f"names the target {self.target!r} under {name} too; a target is learned, not excluded"
                )
        if self.split.gap is not None and self.time is None:
            raise ValueError("sets split.gap, which is of a split by time; name the event time under time")
        if self.split.stratify and (self.time is not None or self.key is not None):
            raise ValueError("sets split.stratify, but the split is by time or by key; drop one of them")
        return self

    @property
    def entity(self) -> str | None:
        """The column whose rows stay together."""
        return self.split.group or self.key

    @property
    def non_features(self) -> frozenset[str]:
        """The columns that never reach a model."""
        roles = {self.target, self.key, self.time, self.split.column, *self.exclude}
        return frozenset(name for name in roles if name is not None)
