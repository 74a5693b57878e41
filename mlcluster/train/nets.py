"""What linear models, perceptrons and convolutional nets share: a training loop by AdamW on one thread.

The order of rows of an epoch depends on the seed and the epoch alone, which is what makes a resumed training equal an
unbroken one bit for bit. On a GPU the weights begin the same, but dropout draws from that device's own stream, and sums
are in another order: there a training equals its like on the same device, bit for bit where its kernels add in one
order, as those of the one GPU that was tried do.
States hold CPU tensors only, so that a trial may go on wherever it is sent.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from mlcluster.errors import ClusterError
from mlcluster.spec import Configuration, FloatDomain, IntDomain, SearchSpace
from mlcluster.train.augmented import AugmentedRows
from mlcluster.train.learner import Learner, TrainingData
from mlcluster.train.structure import Link, Structure, apply_link

COMMON_SPACE: SearchSpace = {
    "learning_rate": FloatDomain(low=1e-4, high=3e-2, default=2e-3, log=True, least=1e-6, most=1.0),
    "weight_decay": FloatDomain(low=1e-6, high=1e-1, default=1e-4, log=True, least=1e-9, most=10.0),
    "batch_size": IntDomain(low=64, high=1024, default=256, log=True, least=8, most=8192),
}


class NetLearner(ABC):
    """One net in training; see the module. What kind of net it is, a subclass says."""

    def __init__(self, configuration: Configuration, data: TrainingData, seed: int) -> None:
        self._configuration = configuration
        self._seed = seed
        self._task = data.task
        self._device = torch.device("cpu")
        train = data.train["dense"]
        # A copy where the object store hands out read-only memory, which torch refuses to wrap in silence.
        self.features = torch.from_numpy(np.require(train.features, requirements=["C", "W"]))
        self._link: Link = "identity" if data.task == "regression" else "softmax"
        self._shift, self._scale = 0.0, 1.0
        if data.task == "regression":
            self._shift, self._scale = float(np.mean(train.targets)), float(np.std(train.targets)) or 1.0
            scaled = (train.targets.astype(np.float64) - self._shift) / self._scale
            self.targets = torch.from_numpy(scaled.astype(np.float32))
        else:
            self.targets = torch.from_numpy(train.targets.astype(np.int64))
        self._augmented = _augmented_rows(data, self.targets, seed)
        self.units = 0
        self.generator = torch.Generator().manual_seed(seed)
        self._net = self._build(data, 1 if data.task == "regression" else data.num_classes)
        self.optimizer = torch.optim.AdamW(
            self._net.parameters(),
            lr=float(configuration["learning_rate"]),
            weight_decay=float(configuration["weight_decay"]),
        )

    @abstractmethod
    def _build(self, data: TrainingData, outputs: int) -> nn.Sequential:
        """The net, its weights drawn from `generator`; it takes rows of the dense matrix."""

    @abstractmethod
    def scores(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Probabilities (n, k) of the k classes, or values (n,) of a regression."""

    @abstractmethod
    def structure(self) -> Structure:
        """The model as numbers, for export and proofs."""

    def move_to(self, device: torch.device) -> None:
        """Trains and scores there from now on."""
        self._device = device
        self._net.to(device)
        self.features, self.targets = self.features.to(device), self.targets.to(device)
        self.optimizer.load_state_dict(self.optimizer.state_dict())  # it puts its tensors where the parameters are
        self.generator = torch.Generator(device)
        for module in self._net.modules():
            if isinstance(module, SeededDropout):
                module.generator = self.generator

    @property
    def batch_size(self) -> int:
        return int(self._configuration["batch_size"])

    @property
    def is_augmented(self) -> bool:
        """Whether it sees other rows in each epoch."""
        return self._augmented is not None

    @property
    def keep_share(self) -> float:
        """Of the hidden units of a layer, those that dropout keeps on average."""
        return 1.0 - float(self._configuration.get("dropout", 0.0))

    def advance(self, until: int) -> None:
        while self.units < until:
            self._train_epoch()
            self.units += 1

    def answers(self, outputs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """What `scores` gives where the net, before its last layer is scaled back, gives `outputs` (n, k)."""
        answers = apply_link(outputs * self._scale + self._shift, self._link)
        return answers[:, 0] if self._task == "regression" else answers

    def state(self) -> bytes:
        buffer = io.BytesIO()
        state = {"units": self.units, "net": self._net.state_dict(), "optimizer": self.optimizer.state_dict()}
        torch.save(state if self._device.type == "cpu" else _on_cpu(state), buffer)
        return buffer.getvalue()

    def load(self, state: bytes) -> None:
        """Takes the place of the learner that gave `state`; tensors and numbers only, no code."""
        saved = torch.load(io.BytesIO(state), weights_only=True)
        self._net.load_state_dict(saved["net"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.units = saved["units"]

    def begin_epoch(self) -> torch.Tensor:
        """The order of the train rows (n,) in the next epoch; its dropout draws from `generator` from here on."""
        order = np.random.default_rng([self._seed, self.units]).permutation(len(self.targets))
        self.generator.manual_seed(self._seed * 1_000_003 + self.units)
        return torch.from_numpy(order)

    def _train_epoch(self) -> None:
        rows = self.begin_epoch()
        self._net.train()
        batches = (
            self._batches(rows)
            if self._augmented is None
            else self._augmented.batches(rows, size=self.batch_size, epoch=self.units)
        )
        for features, targets in batches:
            loss = self._loss(self._net(features.to(self._device)), targets.to(self._device))
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()

    def _batches(self, rows: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for batch in torch.split(rows.to(self._device), self.batch_size):
            yield self.features[batch], self.targets[batch]

    def _loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if self._task == "regression":
            return nn.functional.mse_loss(outputs[:, 0], targets)
        return nn.functional.cross_entropy(outputs, targets)


def _augmented_rows(data: TrainingData, targets: torch.Tensor, seed: int) -> AugmentedRows | None:
    if data.augmentation is None:
        return None
    return AugmentedRows(data.augmentation, data.train["dense"].features, targets, data.num_classes, seed)


class SeededDropout(nn.Module):
    """Dropout that draws from a generator of its own, so that trainings side by side do not disturb each other."""

    def __init__(self, probability: float, generator: torch.Generator) -> None:
        super().__init__()
        self._keep = 1.0 - probability
        self.generator = generator

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        if not self.training or self._keep >= 1.0:
            return values
        kept = torch.rand(values.shape, generator=self.generator, device=values.device) < self._keep
        return values * kept / self._keep


def _on_cpu(state: Any) -> Any:
    """The same nested state, its tensors on the CPU."""
    if isinstance(state, torch.Tensor):
        return state.cpu()
    if isinstance(state, dict):
        return {key: _on_cpu(value) for key, value in state.items()}
    return [_on_cpu(value) for value in state] if isinstance(state, list) else state


def to_gpu(learner: Learner) -> None:
    """Takes a net there.

    Raises:
        ClusterError: torch can use none.
    """
    assert isinstance(learner, NetLearner), "only nets train on a GPU"
    if not torch.cuda.is_available():
        raise ClusterError(
            f"workers = gpu gave this training a GPU that torch {torch.__version__} cannot use; "
            "install a CUDA build of torch on the GPU nodes, or set workers: cpu."
        )
    learner.move_to(torch.device("cuda"))
