"""The batches of an epoch whose rows are made anew.

A row's noise and partner depend on the training's seed, the epoch and the row's number alone, so that batches, workers
and pauses leave no trace. Rows are made on the CPU, some thousands at a time: a batch of 64 would be mostly overhead.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from mlcluster.data.augment import EpochAugmentation

_ROWS_AT_ONCE = 8192
_VALUES_AT_ONCE = 1 << 22
"""Of wide rows, such as images, fewer are made at once."""


class AugmentedRows:
    """The dense train rows of one training, with targets (n,) as class indices, or as values if `num_classes` is 0."""

    def __init__(
        self,
        augmentation: EpochAugmentation,
        features: npt.NDArray[np.float32],
        targets: torch.Tensor,
        num_classes: int,
        seed: int,
    ) -> None:
        self._augmentation = augmentation
        self._features = features
        values = targets.cpu()
        self._targets = (torch.nn.functional.one_hot(values, num_classes) if num_classes else values[:, None]).float()
        self._plain_targets = values
        self._seed = seed

    def batches(self, order: torch.Tensor, *, size: int, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Features (b, d) and targets of each batch: shares of classes (b, k) where rows are mixed, else as given."""
        at_once = min(_ROWS_AT_ONCE, _VALUES_AT_ONCE // max(1, self._features.shape[1]))
        for rows in torch.split(order, max(1, at_once // size) * size):
            made, mixture = self._augmentation.made(self._features, rows.numpy(), seed=self._seed, epoch=epoch)
            if mixture is None:
                targets = self._plain_targets[rows]
            else:
                own, theirs = self._targets[rows].numpy(), self._targets[torch.from_numpy(mixture.partners)].numpy()
                mixed = torch.from_numpy(mixture.mixed(own, theirs))
                targets = mixed if mixed.shape[1] > 1 else mixed[:, 0]
            yield from zip(torch.split(torch.from_numpy(made), size), torch.split(targets, size), strict=True)
