"""`data.labels:` and `data.screen:`: where labels come from that the source lacks, and rows that may be planted."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from mlcluster.spec.base import Section

ScreenAction = Literal["off", "warn", "quarantine"]


class LabelsSpec(Section):
    """Labels by functions, by annotators, and by the answers to `mlcluster data label`."""

    store: Annotated[str, Field(min_length=1)] = "labels.parquet"
    """Answers that `data label --add` has collected; they stand in for targets that the source lacks."""
    votes: str | None = None
    """Annotators' answers from elsewhere (CSV or Parquet): columns row or key, annotator, label."""
    functions: str | None = None
    """A Python file with functions decorated by `mlcluster.data.labels.label_function`. It is run."""
    fill_above: Annotated[float, Field(gt=0.5, lt=1)] | None = None
    """Probability from which on the functions' common label is learned from, in train rows; without it, in none."""
    budget: Annotated[int, Field(ge=0)] | None = None
    """Answers that may be asked for in all."""
    classes: tuple[str | int | float | bool, ...] | None = None
    """What may be answered; by default, what the target holds already."""
    class_shares: dict[str | int | float | bool, Annotated[float, Field(gt=0, lt=1)]] | None = None
    """How frequent each class is, which functions tell badly; by default, what known labels say."""
    audit: bool = False
    """Whether a run looks for labels that are probably wrong, and says so."""

    @field_validator("classes")
    @classmethod
    def _two_or_more(cls, classes: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        if classes is not None and len(set(classes)) < max(2, len(classes)):
            raise ValueError("needs two or more classes, each once; list what may be answered")
        return classes

    @field_validator("class_shares")
    @classmethod
    def _shares_of_all(cls, shares: dict[Any, float] | None) -> dict[Any, float] | None:
        if shares is not None and abs(sum(shares.values()) - 1) > 0.01:
            raise ValueError(f"adds up to {sum(shares.values()):g}; give a share of each class that together make 1")
        return shares

    @model_validator(mode="after")
    def _functions_to_fill_from(self) -> LabelsSpec:
        if self.fill_above is not None and self.functions is None:
            raise ValueError("has fill_above without functions; name the file of label functions")
        return self


class ScreenSpec(Section):
    """What is done about train rows that a robust linear model of the others cannot explain."""

    trimmed_loss: ScreenAction = "off"
