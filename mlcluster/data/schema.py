"""What a row looks like: the names, kinds and order of columns that every later room relies on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from mlcluster.spec import Expectation

ColumnKind = Literal["number", "category", "boolean", "image"]
TaskKind = Literal["binary", "multiclass", "regression"]
Label = str | int | float | bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageShape:
    """What each image of a column is brought to."""

    height: int
    width: int
    channels: int
    """1 for grey, 3 for RGB."""
    max_pixels: int = 1 << 24
    """An encoded image that claims more is refused before it is decoded."""

    @property
    def num_values(self) -> int:
        """Of one image: they stand row by row, the channels of a pixel side by side."""
        return self.height * self.width * self.channels


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureColumn:
    """One input of the model."""

    name: str
    kind: ColumnKind
    arrow_type: str
    """The type that the column has in the source, as Arrow spells it: `int64`, `double`, `string`, `bool`."""
    has_missing: bool
    """Whether the train split holds missing values."""
    image: ImageShape | None = None
    """Of a column of images."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; without `image` where there is none, as in schemas that were written before there were any."""
        return {name: value for name, value in asdict(self).items() if name != "image" or value is not None}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> FeatureColumn:
        image = value.get("image")
        return cls(**{**value, "image": None if image is None else ImageShape(**image)})


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetColumn:
    """What is predicted. `classes` is empty for a regression; else it is sorted, and `classes[i]` is class i.

    For two classes, class 1 is the positive one.
    """

    name: str
    task: TaskKind
    classes: tuple[Label, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class TableSchema:
    """The features, in the order in which the model takes them, and the target."""

    features: tuple[FeatureColumn, ...]
    target: TargetColumn
    non_features: tuple[str, ...] = ()
    """Columns of the source that never reach a model: a table may hold them, and they are left aside."""
    expect: Mapping[str, Expectation] = field(default_factory=dict)
    """What a value of a feature must satisfy, in training and in serving alike."""

    @property
    def feature_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.features)

    @property
    def images(self) -> tuple[FeatureColumn, ...]:
        """The features that are images."""
        return tuple(column for column in self.features if column.kind == "image")

    @property
    def only_image(self) -> ImageShape | None:
        """Of a table whose one feature is an image."""
        return self.features[0].image if len(self.features) == 1 else None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; `from_json` gives an equal schema."""
        plain = {
            "features": [feature.to_json() for feature in self.features],
            "target": asdict(self.target),
            "non_features": self.non_features,
        }
        if self.expect:
            plain["expect"] = {
                name: each.model_dump(mode="json", exclude_defaults=True) for name, each in self.expect.items()
            }
        return plain

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> TableSchema:
        target = value["target"]
        return cls(
            features=tuple(FeatureColumn.from_json(column) for column in value["features"]),
            target=TargetColumn(name=target["name"], task=target["task"], classes=tuple(target["classes"])),
            non_features=tuple(value.get("non_features", ())),
            expect={name: Expectation.model_validate(each) for name, each in value.get("expect", {}).items()},
        )
