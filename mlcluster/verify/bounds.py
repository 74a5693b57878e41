"""How low can the margin of a ReLU net fall inside a box? Sound bounds, by intervals and by CROWN.

CROWN (Zhang et al., NeurIPS 2018) replaces each ReLU by two lines that enclose it on the range that its input can
have, and carries the linear function that results back to the box, where its minimum is exact. Everything is float64:
in float32 bounds were seen to overshoot the true optimum by 3.5e-6. Shapes: n boxes, d inputs, h units of a layer,
k classes, m functions that are bounded at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlcluster.train.structure import DenseLayer, DenseNet

FloatArray = npt.NDArray[np.float64]

_ROUNDING = 1e-6
"""Relative to what a score sums up: room for the float32 arithmetic of a served artifact."""
_CHUNK_VALUES = 500_000
"""Coefficients held at a time. Few: what is open in any box of a chunk is bounded in all of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MarginBounds:
    """For each box: the least that (score of its class - score of another class) can be, less a rounding margin."""

    lower: FloatArray
    """(n, k); infinite for the class itself."""
    slopes: FloatArray
    """(n, d): the input coefficients of the linear bound of the worst class, which say what moves it most."""

    @property
    def worst(self) -> FloatArray:
        """The least margin over the other classes, (n,); above 0 it proves the class."""
        return np.asarray(self.lower.min(axis=1))


def two_scored(net: DenseNet) -> DenseNet:
    """The same classifier with one raw score a class: a single sigmoid score r becomes the pair (0, r)."""
    last = net.layers[-1]
    if last.bias.shape[0] > 1:
        return net
    weight = np.concatenate([np.zeros_like(last.weight), last.weight], axis=1)
    bias = np.concatenate([np.zeros_like(last.bias), last.bias])
    return DenseNet(layers=(*net.layers[:-1], DenseLayer(weight=weight, bias=bias)), link="softmax")


def margin_bounds(net: DenseNet, classes: npt.NDArray[np.int64], lower: FloatArray, upper: FloatArray) -> MarginBounds:
    """Bounds on the margins of `classes` (n,) over boxes from `lower` to `upper`, both (n, d); scores (n, k), k > 1."""
    parameters = [(layer.weight.astype(np.float64), layer.bias.astype(np.float64)) for layer in net.layers]
    widest = max(weight.shape[0] for weight, _ in parameters)
    at_a_time = max(1, _CHUNK_VALUES // (2 * widest * widest))
    chunks = [
        _margin_bounds(parameters, classes[start : start + at_a_time], _Box(lower, upper).rows(start, at_a_time))
        for start in range(0, max(1, len(classes)), at_a_time)
    ]
    return MarginBounds(
        lower=np.concatenate([chunk.lower for chunk in chunks]),
        slopes=np.concatenate([chunk.slopes for chunk in chunks]),
    )


Parameters = list[tuple[FloatArray, FloatArray]]


@dataclass(frozen=True, slots=True)
class _Box:
    """Values between `lower` and `upper`, (n, inputs or units)."""

    lower: FloatArray
    upper: FloatArray

    def rows(self, start: int, count: int) -> _Box:
        return _Box(
            self.lower[start : start + count].astype(np.float64), self.upper[start : start + count].astype(np.float64)
        )

    def through(self, weight: FloatArray, bias: FloatArray) -> _Box:
        """Interval bounds after a linear layer."""
        center, radius = (self.lower + self.upper) / 2, (self.upper - self.lower) / 2
        middle, reach = center @ weight + bias, radius @ np.abs(weight)
        return _Box(middle - reach, middle + reach)

    def rectified(self) -> _Box:
        return _Box(np.maximum(self.lower, 0.0), np.maximum(self.upper, 0.0))


def _margin_bounds(parameters: Parameters, classes: npt.NDArray[np.int64], box: _Box) -> MarginBounds:
    hidden = _hidden_bounds(parameters, box)
    num_rows, num_classes = len(classes), parameters[-1][0].shape[1]
    margins = np.eye(num_classes)[classes][:, None, :] - np.eye(num_classes)[None]
    weight, bias = parameters[-1]
    lower, slopes = _linear_minimum(margins @ weight.T, margins @ bias, parameters, hidden, box)
    last = hidden[-1].rectified() if hidden else box
    largest = np.maximum(np.abs(last.lower), np.abs(last.upper))
    rounding = _ROUNDING * (1.0 + largest @ np.abs(weight) + np.abs(bias))
    lower -= rounding + rounding[np.arange(num_rows), classes][:, None]
    lower[np.arange(num_rows), classes] = np.inf
    return MarginBounds(lower=lower, slopes=slopes[np.arange(num_rows), lower.argmin(axis=1)])


def _hidden_bounds(parameters: Parameters, box: _Box) -> list[_Box]:
    """Bounds of the inputs of the ReLUs, layer by layer: by intervals, and by CROWN where they leave the sign open."""
    hidden: list[_Box] = []
    previous = box
    for depth, (weight, bias) in enumerate(parameters[:-1]):
        bounds = previous.through(weight, bias)
        is_open = ((bounds.lower < 0) & (bounds.upper > 0)).any(axis=0)
        if depth and is_open.any():
            rows = len(box.lower)
            functions = np.broadcast_to(weight[:, is_open].T, (rows, int(is_open.sum()), weight.shape[0]))
            offsets = np.broadcast_to(bias[is_open], functions.shape[:2])
            both, _ = _linear_minimum(
                np.concatenate([functions, -functions], axis=1),
                np.concatenate([offsets, -offsets], axis=1),
                parameters[: depth + 1],
                hidden,
                box,
            )
            least, most = np.split(both, 2, axis=1)
            bounds.lower[:, is_open] = np.maximum(bounds.lower[:, is_open], least)
            bounds.upper[:, is_open] = np.minimum(bounds.upper[:, is_open], -most)
        hidden.append(bounds)
        previous = bounds.rectified()
    return hidden


def _linear_minimum(
    slopes: FloatArray, offsets: FloatArray, parameters: Parameters, hidden: list[_Box], box: _Box
) -> tuple[FloatArray, FloatArray]:
    """Lower bounds (n, m), and their input slopes (n, m, d), of linear functions of the last rectified layer.

    The functions have `slopes` (n, m, h) and `offsets` (n, m); `parameters` ends with the layer that they belong to.
    """
    for (weight, bias), bounds in zip(reversed(parameters[:-1]), reversed(hidden), strict=True):
        steepness, intercept, low_slope = _relu_lines(bounds)
        negative = np.minimum(slopes, 0.0)
        offsets = offsets + np.einsum("nmh,nh->nm", negative, intercept)
        slopes = np.maximum(slopes, 0.0) * low_slope[:, None] + negative * steepness[:, None]
        offsets = offsets + slopes @ bias
        slopes = slopes @ weight.T
    center, radius = (box.lower + box.upper) / 2, (box.upper - box.lower) / 2
    least = np.einsum("nmd,nd->nm", slopes, center) - np.einsum("nmd,nd->nm", np.abs(slopes), radius)
    return least + offsets, slopes


def _relu_lines(bounds: _Box) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Of the line above each ReLU: slope and intercept; of the line below, through 0: slope. Each (n, h)."""
    lower, upper = np.minimum(bounds.lower, 0.0), np.maximum(bounds.upper, 0.0)
    steepness = np.where(upper > 0, upper / np.maximum(upper - lower, 1e-300), 0.0)
    return steepness, -steepness * lower, (upper > -lower).astype(np.float64)
