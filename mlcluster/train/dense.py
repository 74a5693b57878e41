"""Linear models and multi-layer perceptrons.

A linear model is a net without hidden layers, so both share one training loop, one checkpoint and one export.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from mlcluster.spec import Configuration, FloatDomain, IntDomain, SearchSpace
from mlcluster.train.batched_dense import DenseBatch
from mlcluster.train.dense_cost import nominal_seconds, nominal_seconds_on_gpu, nominal_seconds_together
from mlcluster.train.learner import Family, Learner, LearnerBatch, OnGpu, Together, TrainingData
from mlcluster.train.nets import COMMON_SPACE, NetLearner, SeededDropout, to_gpu
from mlcluster.train.structure import DenseLayer, DenseNet, apply_link


class DenseLearner(NetLearner):
    """One linear model or perceptron in training."""

    def _build(self, data: TrainingData, outputs: int) -> nn.Sequential:
        return _build_net(self._configuration, data.train["dense"].features.shape[1], outputs, self.generator)

    @property
    def layers(self) -> list[nn.Linear]:
        """From the input to the output."""
        return [module for module in self._net if isinstance(module, nn.Linear)]

    def scores(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        # One core would take longer to score than a GPU to train.
        is_on_cpu, net = self._device.type == "cpu", self.structure()
        raw = net.raw_scores(features) if is_on_cpu else raw_scores_on(self._device, net, features)
        answers = apply_link(raw, self._link)
        return answers[:, 0] if self._task == "regression" else answers

    def structure(self) -> DenseNet:
        weights = [layer.weight.detach().cpu().numpy().T.astype(np.float64) for layer in self.layers]
        biases = [layer.bias.detach().cpu().numpy().astype(np.float64) for layer in self.layers]
        weights[-1], biases[-1] = weights[-1] * self._scale, biases[-1] * self._scale + self._shift
        return DenseNet(
            layers=tuple(
                DenseLayer(weight=np.ascontiguousarray(weight, dtype=np.float32), bias=bias.astype(np.float32))
                for weight, bias in zip(weights, biases, strict=True)
            ),
            link=self._link,
        )


def raw_scores_on(device: torch.device, net: DenseNet, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """What `DenseNet.raw_scores` gives, to float64 rounding, worked out on a device."""
    values = torch.from_numpy(features.astype(np.float64)).to(device)
    for place, layer in enumerate(net.layers):
        weight, bias = (torch.from_numpy(part.astype(np.float64)).to(device) for part in (layer.weight, layer.bias))
        values = (values.relu() if place else values) @ weight + bias
    return np.asarray(values.cpu().numpy(), dtype=np.float64)


def _build_net(configuration: Configuration, inputs: int, outputs: int, generator: torch.Generator) -> nn.Sequential:
    width = int(configuration.get("width", 0))
    widths = [inputs, *[width] * int(configuration.get("num_layers", 0)), outputs]
    modules: list[nn.Module] = []
    for index, (fan_in, fan_out) in enumerate(pairwise(widths)):
        layer = nn.Linear(fan_in, fan_out)
        with torch.no_grad():
            # He et al. 2015, eq. 10, with the last layer small so that training starts from even odds.
            deviation = (2.0 / max(1, fan_in)) ** 0.5 if index < len(widths) - 2 else 0.01
            layer.weight.normal_(0.0, deviation, generator=generator)
            layer.bias.zero_()
        modules.append(layer)
        if index < len(widths) - 2:
            modules += [nn.ReLU(), SeededDropout(float(configuration["dropout"]), generator)]
    return nn.Sequential(*modules)


def _build(configuration: Configuration, data: TrainingData, seed: int) -> Learner:
    return DenseLearner(configuration, data, seed)


def _restore(state: bytes, configuration: Configuration, data: TrainingData, seed: int) -> Learner:
    learner = DenseLearner(configuration, data, seed)
    learner.load(state)
    return learner


def _build_batch(learners: Sequence[Learner]) -> LearnerBatch:
    nets = [learner for learner in learners if isinstance(learner, DenseLearner)]
    assert len(nets) == len(learners), "a batch of nets holds nets"
    assert not any(net.is_augmented for net in nets), "nets that see rows of their own share none"
    return DenseBatch(nets)


def _dense_family(name: str, space: SearchSpace, max_units: int) -> Family:
    return Family(
        name=name,
        encoding="dense",
        fidelity_unit="epochs",
        space=space,
        max_units=max_units,
        nominal_seconds=nominal_seconds,
        build=_build,
        restore=_restore,
        together=Together(nominal_seconds=nominal_seconds_together, build=_build_batch),
        on_gpu=OnGpu(nominal_seconds=nominal_seconds_on_gpu, move=to_gpu),
    )


LINEAR = _dense_family("linear", COMMON_SPACE, max_units=27)
MLP = _dense_family(
    "mlp",
    {
        **COMMON_SPACE,
        "num_layers": IntDomain(low=1, high=3, default=2, most=6),
        "width": IntDomain(low=16, high=256, default=64, log=True, least=4, most=1024),
        "dropout": FloatDomain(low=0.0, high=0.5, default=0.1, most=0.9),
    },
    max_units=54,
)
