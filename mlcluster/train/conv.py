"""Small convolutional nets, for tables whose one feature is an image.

Each block is a 3 x 3 convolution, ReLU, the maximum of each 2 x 2 pixels while there are two, and dropout; it is twice
as wide as the one before. One linear layer answers. Without batch normalisation an image's answer hangs on no other
image, and what is exported is what was trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from mlcluster.data.schema import ImageShape
from mlcluster.errors import DataError
from mlcluster.spec import Configuration, FloatDomain, IntDomain
from mlcluster.train.conv_cost import nominal_seconds, nominal_seconds_on_gpu
from mlcluster.train.learner import Family, Learner, OnGpu, TrainingData
from mlcluster.train.nets import COMMON_SPACE, NetLearner, SeededDropout, to_gpu
from mlcluster.train.structure import KERNEL, ConvLayer, ConvNet, DenseLayer, DenseNet

_ROWS_AT_ONCE = 256


class ConvLearner(NetLearner):
    """One convolutional net in training.

    Raises:
        DataError: a row is no single image.
    """

    def _build(self, data: TrainingData, outputs: int) -> nn.Sequential:
        if data.image is None:
            raise DataError(
                "models = conv learns from one image a row and no other feature; exclude the others, or take conv out."
            )
        self._image = data.image
        blocks, width = conv_blocks(self._configuration, data.image), int(self._configuration["width"])
        modules: list[nn.Module] = [_Unflattened(data.image)]
        inputs = data.image.channels
        for block, pools in enumerate(blocks):
            convolution = nn.Conv2d(inputs, width << block, KERNEL, padding=1)
            _draw(convolution, (2.0 / (KERNEL * KERNEL * inputs)) ** 0.5, self.generator)
            modules += [convolution, nn.ReLU(), *([nn.MaxPool2d(2)] if pools else [])]
            modules.append(SeededDropout(float(self._configuration["dropout"]), self.generator))
            inputs = width << block
        last = nn.Linear(inputs * _pixels_left(data.image, blocks), outputs)
        _draw(last, 0.01, self.generator)
        return nn.Sequential(*modules, nn.Flatten(), last)

    def advance(self, until: int) -> None:
        with _as_on_a_core():
            super().advance(until)

    @torch.no_grad()
    def scores(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Convolutions in float32, as they are trained (double ones take three times as long), the rest in double."""
        self._net.eval()
        rows = torch.from_numpy(np.require(features, requirements=["C", "W"]))
        last = self._last
        weight, bias = last.weight.double().T, last.bias.double()
        with _as_on_a_core():
            parts = [
                (self._net[:-1](part.to(self._device)).double() @ weight + bias).cpu()
                for part in torch.split(rows, _ROWS_AT_ONCE)
            ]
        return self.answers(torch.cat(parts).numpy())

    def structure(self) -> ConvNet:
        convolutions = [module for module in self._net if isinstance(module, nn.Conv2d)]
        blocks = conv_blocks(self._configuration, self._image)
        layers = tuple(
            ConvLayer(
                # (outputs, inputs, 3, 3) to (9 * inputs, outputs): the inputs of one place stand side by side.
                weight=_numbers(module.weight.permute(2, 3, 1, 0).reshape(-1, module.out_channels)),
                bias=_numbers(module.bias),
                pools=pools,
            )
            for module, pools in zip(convolutions, blocks, strict=True)
        )
        return ConvNet(shape=self._image, layers=layers, head=self._head(convolutions[-1].out_channels))

    @property
    def _last(self) -> nn.Linear:
        last = self._net[-1]
        assert isinstance(last, nn.Linear), "a linear layer answers"
        return last

    def _head(self, channels: int) -> DenseNet:
        last = self._last
        # torch has the channels first; the structure, like the transform, has those of a pixel side by side.
        weight = last.weight.reshape(last.out_features, channels, -1).permute(2, 1, 0).reshape(-1, last.out_features)
        scaled = _numbers(weight).astype(np.float64) * self._scale
        bias = _numbers(last.bias).astype(np.float64) * self._scale + self._shift
        layer = DenseLayer(weight=scaled.astype(np.float32), bias=bias.astype(np.float32))
        return DenseNet(layers=(layer,), link=self._link)


def conv_blocks(configuration: Configuration, shape: ImageShape) -> tuple[bool, ...]:
    """Whether each block ends with pooling: it does while both sides have two pixels."""
    height, width, blocks = shape.height, shape.width, []
    for _ in range(int(configuration["num_blocks"])):
        blocks.append(min(height, width) > 1)
        height, width = (height // 2, width // 2) if blocks[-1] else (height, width)
    return tuple(blocks)


def _pixels_left(shape: ImageShape, blocks: tuple[bool, ...]) -> int:
    return (shape.height >> sum(blocks)) * (shape.width >> sum(blocks))


@contextmanager
def _as_on_a_core() -> Iterator[None]:
    """A GPU's convolutions with all digits of float32, and by kernels that add in one order.

    By default cuDNN rounds factors to TF32, which has three decimal digits: scores were then off from those of the
    export by 2e-4, and are by 2e-7 so. Nets of the search space are no slower for it. A core takes no notice.
    """
    cudnn: Any = torch.backends.cudnn  # its types do not know of `conv`
    before = cudnn.conv.fp32_precision, cudnn.deterministic
    cudnn.conv.fp32_precision, cudnn.deterministic = "ieee", True
    try:
        yield
    finally:
        cudnn.conv.fp32_precision, cudnn.deterministic = before


class _Unflattened(nn.Module):
    """Rows of the dense matrix as images (n, channels, height, width)."""

    def __init__(self, shape: ImageShape) -> None:
        super().__init__()
        self._sides = (shape.height, shape.width, shape.channels)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.reshape(-1, *self._sides).permute(0, 3, 1, 2)


def _draw(module: nn.Conv2d | nn.Linear, deviation: float, generator: torch.Generator) -> None:
    """He et al. 2015, eq. 10; the last layer is drawn small, so that training starts from even odds."""
    with torch.no_grad():
        module.weight.normal_(0.0, deviation, generator=generator)
        if module.bias is not None:
            module.bias.zero_()


def _numbers(tensor: torch.Tensor | None) -> npt.NDArray[np.float32]:
    assert tensor is not None, "every layer has a bias"
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), dtype=np.float32)


def _build(configuration: Configuration, data: TrainingData, seed: int) -> Learner:
    return ConvLearner(configuration, data, seed)


def _restore(state: bytes, configuration: Configuration, data: TrainingData, seed: int) -> Learner:
    learner = ConvLearner(configuration, data, seed)
    learner.load(state)
    return learner


CONV = Family(
    name="conv",
    encoding="dense",
    fidelity_unit="epochs",
    space={
        **COMMON_SPACE,
        "batch_size": IntDomain(low=32, high=512, default=64, log=True, least=8, most=4096),
        "num_blocks": IntDomain(low=1, high=3, default=2, most=5),
        "width": IntDomain(low=8, high=32, default=16, log=True, least=2, most=128),
        "dropout": FloatDomain(low=0.0, high=0.5, default=0.1, most=0.9),
    },
    max_units=27,
    nominal_seconds=nominal_seconds,
    build=_build,
    restore=_restore,
    on_gpu=OnGpu(nominal_seconds=nominal_seconds_on_gpu, move=to_gpu),
)
