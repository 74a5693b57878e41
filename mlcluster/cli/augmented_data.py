"""The train split as learners see it where the project augments it; validation and test stay as they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mlcluster.cli.augmenting_text import epoch_text
from mlcluster.data import DatasetSnapshot
from mlcluster.data.augment import EpochAugmentation, ExtraRows, extra_rows, image_places, number_columns
from mlcluster.spec import AugmentSpec
from mlcluster.train import Encoding, Matrices, TrainingData


def augmented(data: TrainingData, snapshot: DatasetSnapshot, augment: AugmentSpec, *, seed: int) -> TrainingData:
    """`data`, which is of `snapshot`, with the rows and the rule that `augment` adds.

    Raises:
        DataError: `augment` names a group that there is not.
    """
    columns = {name: number_columns(snapshot.schema, snapshot.transforms[name]) for name in data.train}
    by_epoch = None
    if "dense" in data.train:
        places = image_places(snapshot.schema, snapshot.transforms["dense"])
        by_epoch = EpochAugmentation.of(augment, data.train["dense"].features, columns["dense"], places)
    extra = train_extra_rows(snapshot, augment, seed=seed)
    train: dict[Encoding, Matrices] = {
        name: _with_extra(matrices, extra.of(matrices.features, columns[name]), extra)
        for name, matrices in data.train.items()
    }
    return replace(data, train=train, augmentation=by_epoch)


def fewer_train_rows(data: TrainingData, num_rows: int, *, rng: np.random.Generator) -> TrainingData:
    """`data` with so many of its train rows, drawn evenly, before anything is added to them."""
    kept = np.sort(rng.permutation(len(next(iter(data.train.values()))))[:num_rows])
    train: dict[Encoding, Matrices] = {
        name: Matrices(features=matrices.features[kept], targets=matrices.targets[kept])
        for name, matrices in data.train.items()
    }
    return replace(data, train=train)


def augmented_line(data: TrainingData, num_train_rows: int, augment: AugmentSpec) -> str:
    """What was done to the train split, in a line of progress."""
    extra = len(next(iter(data.train.values()))) - num_train_rows
    words = [f"{extra} train rows more by oversampling"] if augment.oversample else []
    if data.augmentation is not None:
        words.append(f"nets see {epoch_text(augment)} in each epoch")
    return f"augment: {', '.join(words) or 'nothing that these models take'}"


def train_extra_rows(snapshot: DatasetSnapshot, augment: AugmentSpec, *, seed: int) -> ExtraRows:
    """The recipes of the rows that oversampling adds to the train split."""
    if not augment.oversample:
        return ExtraRows.together([])
    dense, targets = snapshot.matrices("train", "dense")
    return extra_rows(augment, snapshot.table("train"), dense, targets, snapshot.schema, seed=seed)


def _with_extra(
    matrices: Matrices, made: np.ndarray[tuple[int, int], np.dtype[np.float32]], extra: ExtraRows
) -> Matrices:
    return Matrices(
        features=np.concatenate([matrices.features, made]),
        targets=np.concatenate([matrices.targets, matrices.targets[extra.base]]),
    )
