"""What training a convolutional net costs before it is trained.

A row's multiply-adds follow from the sides of the image and the widths of the blocks. Besides, each value that a block
gives passes through ReLU, pooling and dropout and back, which is memory and no arithmetic, and most of the time of nets
of this size; and a step costs something whatever its size. The coefficients were fitted on one thread of a shared EPYC
core: images of 12 to 64 pixels a side, 1 or 3 channels, width 8 to 32, 1 to 3 blocks, batches of 32 to 512, 99 points.
Seconds come out with a log error of 0.31 (one sigma).
"""

from __future__ import annotations

from dataclasses import dataclass

from mlcluster.data.schema import ImageShape
from mlcluster.spec import Configuration
from mlcluster.train.dense_cost import DRAW_SECONDS
from mlcluster.train.learner import DataSize

_CONV_FLOPS = 1.4e11
_VALUE_SECONDS = 1e-8
_STEP_SECONDS = 1.5e-4
_GPU_FLOPS = 2e13
_GPU_VALUE_SECONDS = 5e-11
_GPU_STEP_SECONDS = 8e-4
_KERNEL_PLACES = 9


def nominal_seconds(configuration: Configuration, size: DataSize, units: int) -> float:
    """Seconds of that many epochs on a reference core."""
    seconds = _epoch_seconds(
        configuration, size, flops=_CONV_FLOPS, value_seconds=_VALUE_SECONDS, step_seconds=_STEP_SECONDS
    )
    return units * seconds


def nominal_seconds_on_gpu(configuration: Configuration, size: DataSize, units: int) -> float:
    """Seconds of that many epochs on a reference GPU.

    Fitted to 84 nets on one H200 (images of 12 to 64 pixels a side, width 8 to 64, batches of 32 to 512), with a log
    error of 0.18; what a step costs is its host's doing.
    """
    seconds = _epoch_seconds(
        configuration, size, flops=_GPU_FLOPS, value_seconds=_GPU_VALUE_SECONDS, step_seconds=_GPU_STEP_SECONDS
    )
    return units * seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class RowWork:
    """Of one row on its way forward."""

    multiply_adds: int
    values: int
    """That convolutions give."""


def row_work(configuration: Configuration, shape: ImageShape, outputs: int) -> RowWork:
    """The work of one row, block by block."""
    height, width, channels = shape.height, shape.width, shape.channels
    multiply_adds = values = 0
    for block in range(int(configuration["num_blocks"])):
        wide = int(configuration["width"]) << block
        multiply_adds += height * width * _KERNEL_PLACES * channels * wide
        values += height * width * wide
        if min(height, width) > 1:
            height, width = height // 2, width // 2
        channels = wide
    return RowWork(multiply_adds=multiply_adds + height * width * channels * outputs, values=values)


def _epoch_seconds(
    configuration: Configuration, size: DataSize, *, flops: float, value_seconds: float, step_seconds: float
) -> float:
    # A plan that is made for a table without an image is refused before anything is trained.
    shape = size.image or ImageShape(height=1, width=max(1, size.columns), channels=1)
    work = row_work(configuration, shape, size.outputs)
    steps = -(-size.rows // int(configuration["batch_size"]))
    row_seconds = 3 * work.multiply_adds / flops + work.values * value_seconds + size.draws_per_row * DRAW_SECONDS
    return size.rows * row_seconds + steps * step_seconds * (1 + int(configuration["num_blocks"]))
