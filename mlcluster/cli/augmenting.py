"""What augmentation does to a project's train split, where that split is thin, and whether augmentation helped."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlcluster.data import DatasetSnapshot, Engine, prepare
from mlcluster.data.augment import ThinCell, check_images, covered_columns, thin_cells
from mlcluster.errors import SpecError
from mlcluster.spec import AugmentSpec, CoverageSpec, ImageAugmentSpec, ProjectSpec

if TYPE_CHECKING:
    from mlcluster.train import ArmScores

_DEFAULT_COLUMNS = 8
_NETS = ("linear", "mlp", "conv")
_AFFINE = ("rotate", "translate", "scale", "shear")
NONE = "none"
"""The variant that the others are held against."""
OTHERS = "others"
"""The validation rows that no watched group holds."""
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Augmenting:
    """A project's data and its augmentation; snapshots live as long as `work` does."""

    spec: ProjectSpec
    folder: Path
    seed: int
    engine: Engine
    work: Path

    @cached_property
    def snapshot(self) -> DatasetSnapshot:
        """The data as a run at this seed would split it."""
        return self.snapshot_at(self.seed)

    def snapshot_at(self, seed: int) -> DatasetSnapshot:
        """The same at another seed."""
        return prepare(
            self.spec.data, base=self.folder, folder=self.work / f"seed-{seed}", seed=seed, engine=self.engine
        )

    def overview(self) -> dict[str, Any]:
        """Rows before and after, by class and by group, and thin cells; as plain JSON."""
        from mlcluster.cli.augmented_data import train_extra_rows
        from mlcluster.data.augment import group_rows

        snapshot, augment = self.snapshot, self.spec.data.augment
        check_images(augment, [feature.kind for feature in snapshot.schema.features])
        table, targets = snapshot.table("train"), snapshot.matrices("train", "ordinal")[1]
        extra = train_extra_rows(snapshot, augment, seed=self.seed)
        groups = {
            str(label): np.flatnonzero(targets == code) for code, label in enumerate(snapshot.schema.target.classes)
        }
        groups |= {key: group_rows(key, table, targets, snapshot.schema) for key in augment.oversample}
        return {
            "train_rows": len(targets),
            "extra_rows": len(extra),
            "groups": {
                name: {"before": len(rows), "after": len(rows) + int(np.isin(extra.base, rows).sum())}
                for name, rows in groups.items()
            },
            "augment": augment.model_dump(mode="json"),
            **self._coverage(snapshot),
        }

    def _coverage(self, snapshot: DatasetSnapshot) -> dict[str, Any]:
        asked = self.spec.data.augment.coverage
        table, columns = snapshot.table("train"), self._covered_columns(snapshot)
        cells = thin_cells(table, columns, min_rows=asked.min_rows, num_bins=asked.bins)
        return {
            "covered_columns": list(columns),
            "num_thin_cells": len(cells),
            "num_empty_cells": sum(cell.num_rows == 0 for cell in cells),
            "thin_cells": [_cell_json(cell, table.num_rows, asked.min_rows) for cell in cells],
        }

    def _covered_columns(self, snapshot: DatasetSnapshot) -> Sequence[str]:
        there = snapshot.table("train", max_rows=1).schema.names
        asked = self.spec.data.augment.coverage.columns and covered_columns(self.spec.data, there)
        sensitive = [name for name in self.spec.data.sensitive if name in there]
        left_out = {*sensitive, *(feature.name for feature in snapshot.schema.images)}
        features = [name for name in snapshot.schema.feature_names if name not in left_out]
        return asked or [*sensitive, *features][:_DEFAULT_COLUMNS]

    def ablation(self, family: str, *, num_seeds: int, say: Say, train_rows: int | None = None) -> dict[str, Any]:
        """Each augmentation by itself, and all that the project asks for, against none; as plain JSON.

        With `train_rows`, each seed learns from so many of its train rows, drawn anew.
        """
        from mlcluster.cli.planning import resolve_metric
        from mlcluster.train import check_families

        schema = self.snapshot.schema
        check_families((family,), {feature.name: feature.kind for feature in schema.features})
        metric = resolve_metric(self.spec, schema.target.task)
        arms = ablation_arms(self.spec.data.augment, self.snapshot, family)
        training = _Training(family=family, metric=metric, num_rows=self._checked_rows(train_rows, arms))
        scores: dict[str, list[ArmScores]] = {name: [] for name in arms}
        first, splits_anew = self.snapshot.matrices("validation", "dense")[0], False
        for seed in range(self.seed, self.seed + num_seeds):
            snapshot = self.snapshot if seed == self.seed else self.snapshot_at(seed)
            splits_anew |= not np.array_equal(first, snapshot.matrices("validation", "dense")[0])
            groups = _watched_groups(arms, snapshot)
            for name, augment in arms.items():
                scores[name].append(_score(snapshot, augment, training, seed=seed, groups=groups))
            say(f"seed {seed} is done ({len(arms)} trainings)")
        rows = self.snapshot.num_rows
        ratio = rows["validation"] / rows["train"]
        return {
            "family": family,
            "metric": metric,
            "num_seeds": num_seeds,
            "train_rows": training.num_rows or rows["train"],
            "splits_anew": splits_anew,
            "arms": {
                name: {
                    "augment": augment.model_dump(mode="json", exclude_defaults=True),
                    **compared(scores[name], scores[NONE], metric, test_per_train_rows=ratio if splits_anew else None),
                }
                for name, augment in arms.items()
            },
        }

    def _checked_rows(self, asked: int | None, arms: dict[str, AugmentSpec]) -> int | None:
        if asked is not None and any(augment.oversample for augment in arms.values()):
            raise SpecError(
                f"--train-rows = {asked} leaves rows out, and data.augment.oversample counts them; drop one of the two."
            )
        if asked is not None and asked > (num_rows := self.snapshot.num_rows["train"]):
            raise SpecError(f"--train-rows = {asked} is above the {num_rows} train rows that there are; give fewer.")
        return asked


@dataclass(frozen=True, kw_only=True, slots=True)
class _Training:
    """What the variants of one ablation share."""

    family: str
    metric: str
    num_rows: int | None
    """Train rows; None is all."""


def compared(
    own: Sequence[ArmScores], plain: Sequence[ArmScores], metric: str, *, test_per_train_rows: float | None
) -> dict[str, Any]:
    """The metric and each group's recall of one variant, less those of another; better is higher in all differences."""
    from mlcluster.train import METRICS, paired_difference

    sign = 1.0 if METRICS[metric].direction == "maximize" else -1.0

    def told(values: Sequence[float], baseline: Sequence[float], sign: float = 1.0) -> dict[str, Any]:
        pairs = [sign * value for value in values], [sign * value for value in baseline]
        found = paired_difference(*pairs, test_per_train_rows=test_per_train_rows).to_json()
        return {**found, "mean": sign * found["mean"]}

    shared = set.intersection(*(set(one.group_recall) for one in [*own, *plain]))
    return {
        "metric": told([one.metric for one in own], [one.metric for one in plain], sign),
        "recall": {
            group: told([one.group_recall[group] for one in own], [one.group_recall[group] for one in plain])
            for group in sorted(shared)
        },
    }


def ablation_arms(augment: AugmentSpec, snapshot: DatasetSnapshot, family: str) -> dict[str, AugmentSpec]:
    """What is tried: what the project asks for, piece by piece and as a whole; else a usual dose of each.

    Raises:
        SpecError: nothing of it is for this family.
    """
    asked = (augment if augment.is_on else usual_dose(snapshot)).model_copy(update={"coverage": CoverageSpec()})
    if family not in _NETS:
        asked = asked.model_copy(update={"noise": 0.0, "mixup": 0.0, "images": ImageAugmentSpec()})
    if not asked.is_on:
        raise SpecError(
            f"--family = {family} has nothing to try, since noise, mixup and images are for nets; "
            "set data.augment.oversample, or give --family mlp."
        )
    arms = {NONE: AugmentSpec()}
    if asked.noise:
        arms["noise"] = AugmentSpec(noise=asked.noise)
    if asked.mixup:
        arms["mixup"] = AugmentSpec(mixup=asked.mixup)
    arms |= {name: AugmentSpec(images=images) for name, images in _image_arms(asked.images).items()}
    if asked.oversample:
        arms["oversample"] = AugmentSpec(oversample=asked.oversample)
        arms["interpolate"] = AugmentSpec(oversample=asked.oversample, interpolate=True)
    if asked not in arms.values():
        arms["all"] = asked
    return arms


def _image_arms(asked: ImageAugmentSpec) -> dict[str, ImageAugmentSpec]:
    """What is done to images, piece by piece; the affine maps are one piece."""
    parts = {"crop": ("crop",), "flip": ("flip",), "affine": _AFFINE, "cutout": ("cutout",)}
    arms = {name: ImageAugmentSpec(**asked.model_dump(include=set(keys))) for name, keys in parts.items()}
    return {name: images for name, images in arms.items() if images.is_on}


def usual_dose(snapshot: DatasetSnapshot) -> AugmentSpec:
    """A little of each; the rarest class is brought to half of an even share, where it has less."""
    classes = snapshot.schema.target.classes
    oversample = {}
    if classes:
        counts = np.bincount(snapshot.matrices("train", "ordinal")[1].astype(np.int64), minlength=len(classes))
        seen = np.flatnonzero(counts)
        rarest = int(seen[counts[seen].argmin()])
        if counts[rarest] / counts.sum() < 0.5 / len(seen):
            oversample = {str(classes[rarest]): 0.5 / len(seen)}
    images = ImageAugmentSpec()
    if snapshot.schema.images:
        images = ImageAugmentSpec(crop=2, rotate=10, translate=0.05, scale=0.1, shear=5, cutout=0.3)
    has_numbers = any(feature.kind == "number" for feature in snapshot.schema.features)
    return AugmentSpec(noise=0.1 if has_numbers else 0.0, mixup=0.2, images=images, oversample=oversample)


def _watched_groups(arms: dict[str, AugmentSpec], snapshot: DatasetSnapshot) -> dict[str, Any]:
    """The validation rows of each group that is oversampled, of the rarest class, and all others: who pays for it."""
    from mlcluster.data.augment import group_rows

    classes = snapshot.schema.target.classes
    if not classes:
        return {}
    table, targets = snapshot.table("validation"), snapshot.matrices("validation", "ordinal")[1]
    train_targets = snapshot.matrices("train", "ordinal")[1].astype(np.int64)
    rarest = str(classes[int(np.bincount(train_targets, minlength=len(classes)).argmin())])
    keys = {rarest, *(key for augment in arms.values() for key in augment.oversample)}
    watched = {key: group_rows(key, table, targets, snapshot.schema) for key in sorted(keys)}
    return {**watched, OTHERS: np.setdiff1d(np.arange(len(targets)), np.concatenate(list(watched.values())))}


def _score(
    snapshot: DatasetSnapshot, augment: AugmentSpec, training: _Training, *, seed: int, groups: dict[str, Any]
) -> ArmScores:
    import torch
    from threadpoolctl import threadpool_limits

    from mlcluster.cli.augmented_data import augmented, fewer_train_rows
    from mlcluster.cli.data_stage import load_training_data
    from mlcluster.train import score_arm

    data = load_training_data(snapshot, (training.family,), augment=AugmentSpec(), seed=seed)
    if training.num_rows is not None:
        data = fewer_train_rows(data, training.num_rows, rng=np.random.default_rng(seed))
    if augment.is_on:
        data = augmented(data, snapshot, augment, seed=seed)
    torch.set_num_threads(1)  # as in a worker; more get into each other's way on nets of this size
    with threadpool_limits(1):
        return score_arm(data, training.family, metric=training.metric, seed=seed, groups=groups)


def _cell_json(cell: ThinCell, num_rows: int, min_rows: int) -> dict[str, Any]:
    return {**cell.to_json(), "finding": cell.finding(num_rows, min_rows).to_json()}


def working_folder() -> tempfile.TemporaryDirectory[str]:
    """Where snapshots of a look at the data live."""
    return tempfile.TemporaryDirectory(prefix="mlcluster-augment-")
