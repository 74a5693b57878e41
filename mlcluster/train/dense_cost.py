"""What training a net costs before it is trained: one alone, and several as one batched model.

A step costs something whatever its size (Python, kernel launches), something a member, and the rest by rows and
parameters. Alone, the first part is paid by each step of each net; together, once for all of them. The coefficients
below were fitted to medians on one thread of a shared EPYC core with AVX-512 (`scripts/bench_fused.py` prints the
like): 0 to 3 layers of width 16 to 256, 10 to 100 inputs, batches of 64 to 1024 rows, 2 to 32 members, 360 points. The
ratio of alone to together comes out with a log error of 0.21 (one sigma).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf

from mlcluster.spec import Configuration
from mlcluster.train.learner import DataSize, Span

_REFERENCE_FLOPS = 1.2e10
"""Multiply-adds that a reference core does in a second on layers of this size."""
_STEP_SECONDS = 5e-4
"""Fixed price of one optimiser step, and of each hidden layer in it: Python and kernel launches."""
_GPU_FLOPS = 4e12
"""Multiply-adds that a reference GPU does in a second: layers of this size reach an eighth of its peak in float32."""
_GPU_STEP_SECONDS, _GPU_LAYER_SECONDS = 8e-4, 4e-4
"""The same fixed prices there: Python, and a launch for each kernel."""
DRAW_SECONDS = 6e-8
"""Of one random number of an augmented row, on the CPU wherever the net is; the row's own copying is in it."""
_CACHED_VALUES = 1e6
"""Floats that the caches of one core hold; passes over more of them wait for memory."""


def nominal_seconds(configuration: Configuration, size: DataSize, units: int) -> float:
    """Seconds of that many epochs on a reference core."""
    return units * _epoch_seconds(
        configuration, size, flops=_REFERENCE_FLOPS, step_seconds=_STEP_SECONDS, layer_seconds=_STEP_SECONDS
    )


def nominal_seconds_on_gpu(configuration: Configuration, size: DataSize, units: int) -> float:
    """Seconds of that many epochs on a reference GPU.

    Fitted to 104 nets on one H200 (0 to 3 layers of width 16 to 1024, batches of 64 to 1024), with a log error of 0.15;
    what a step costs is its host's doing. `scripts/bench_crossover.py` measures a machine's, and a search learns it.
    """
    return units * _epoch_seconds(
        configuration, size, flops=_GPU_FLOPS, step_seconds=_GPU_STEP_SECONDS, layer_seconds=_GPU_LAYER_SECONDS
    )


def _epoch_seconds(
    configuration: Configuration, size: DataSize, *, flops: float, step_seconds: float, layer_seconds: float
) -> float:
    multiply_adds = sum(a * b for a, b in pairwise(_widths(configuration, size)))
    steps = _num_steps(configuration, size)
    num_layers = int(configuration.get("num_layers", 0))
    drawing = size.rows * size.draws_per_row * DRAW_SECONDS
    return 3 * size.rows * multiply_adds / flops + steps * (step_seconds + num_layers * layer_seconds) + drawing


def nominal_seconds_together(spans: Sequence[Span], size: DataSize) -> float:
    """Seconds of all spans on a reference core, trained as one batched model.

    What they cost alone, times the measured ratio of together to alone, for a reference core is slower in both.
    Infinite where rows are augmented: nets that see rows of their own have no rows to share.
    """
    alone = sum(nominal_seconds(span.configuration, size, span.stop_units - span.start_units) for span in spans)
    if len(spans) < 2 or alone == 0:
        return alone
    if size.draws_per_row:
        return inf
    nets = [_Net.of(span, size) for span in spans]
    seconds_alone = sum(net.num_epochs * net.num_steps * _alone_step_seconds(net) for net in nets)
    return alone * _seconds_together(nets) / seconds_alone


@dataclass(frozen=True, kw_only=True, slots=True)
class _Net:
    inputs: int
    outputs: int
    width: int
    num_layers: int
    batch_size: int
    num_steps: int
    """Of one epoch."""
    num_epochs: int

    @classmethod
    def of(cls, span: Span, size: DataSize) -> _Net:
        configuration = span.configuration
        return cls(
            inputs=size.columns,
            outputs=size.outputs,
            width=int(configuration.get("width", 0)),
            num_layers=int(configuration.get("num_layers", 0)),
            batch_size=min(int(configuration["batch_size"]), size.rows),
            num_steps=_num_steps(configuration, size),
            num_epochs=span.stop_units - span.start_units,
        )

    def multiply_adds(self, width: int) -> int:
        """Of one row on its way forward, when padded to a width."""
        return sum(a * b for a, b in pairwise([self.inputs, *[width] * self.num_layers, self.outputs]))


def _alone_step_seconds(net: _Net) -> float:
    hidden = net.width * net.num_layers
    row_seconds = 1.4e-7 * net.outputs + 6.9e-9 * net.inputs + 1.0e-8 * hidden + 3.8e-11 * net.multiply_adds(net.width)
    num_parameters = net.multiply_adds(net.width) + hidden + net.outputs
    return 1.24e-4 + 9.3e-5 * net.num_layers + net.batch_size * row_seconds + 6.9e-10 * num_parameters


def _seconds_together(nets: Sequence[_Net]) -> float:
    """Epoch by epoch in lockstep: members that are done leave, and those with fewer steps sit out an epoch's end."""
    seconds = 0.0
    for done, epochs in pairwise(sorted({0, *(net.num_epochs for net in nets)})):
        active = [net for net in nets if net.num_epochs >= epochs]
        for first, last in pairwise(sorted({0, *(net.num_steps for net in active)})):
            in_step = [net for net in active if net.num_steps >= last]
            seconds += (epochs - done) * (last - first) * _together_step_seconds(in_step)
    return seconds


def _together_step_seconds(nets: Sequence[_Net]) -> float:
    """A step of members that are padded to the widest net and the largest batch among them."""
    width, rows = max(net.width for net in nets), max(net.batch_size for net in nets)
    num_layers, count = max(net.num_layers for net in nets), len(nets)
    hidden = width * sum(net.num_layers for net in nets)
    multiply_adds = sum(net.multiply_adds(width) for net in nets)
    row_seconds = (
        count * (3.9e-8 * nets[0].outputs + 1.6e-9 * nets[0].inputs) + 5.75e-9 * hidden + 4.5e-11 * multiply_adds
    )
    deepest = next(net for net in nets if net.num_layers == num_layers)
    num_parameters = count * (deepest.multiply_adds(width) + width * num_layers + deepest.outputs)
    uncached_seconds = 7.1e-9 * num_layers * max(0.0, count * rows * width - _CACHED_VALUES)
    uncached_seconds += 4.7e-9 * max(0.0, num_parameters - _CACHED_VALUES)
    fixed_seconds = 5.6e-5 + 4.1e-5 * num_layers + 8.1e-7 * count * (1 + num_layers)
    return fixed_seconds + rows * row_seconds + 1.6e-9 * num_parameters + uncached_seconds


def _widths(configuration: Configuration, size: DataSize) -> list[int]:
    width, num_layers = int(configuration.get("width", 0)), int(configuration.get("num_layers", 0))
    return [size.columns, *[width] * num_layers, size.outputs]


def _num_steps(configuration: Configuration, size: DataSize) -> int:
    return -(-size.rows // int(configuration["batch_size"]))
