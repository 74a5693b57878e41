"""Is there a point of the box that is classified otherwise? A quick search by the gradient, for nets.

A proof is sought only for rows that this fails to break: a found point settles a row for good, and costs less than
the bounds would. Projected gradient descent with signs (Madry et al., ICLR 2018), from the row itself and from a
random corner. Shapes: n rows, d inputs, k classes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mlcluster.train.structure import DenseNet
from mlcluster.verify.region import Boxes

_STEPS = 12


def attack(
    net: DenseNet, classes: npt.NDArray[np.int64], boxes: Boxes, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Points of the boxes (n, d) that are classified otherwise than `classes` (n,); a row of NaN where none was found.

    Scores are (n, k) with k > 1, as `bounds.two_scored` makes them.
    """
    found = np.full(boxes.center.shape, np.nan, dtype=np.float32)
    corner = np.where(rng.random(boxes.center.shape) < 0.5, boxes.lower, boxes.upper)
    for start in (boxes.center, corner):
        _descend(net, classes, boxes, start.astype(np.float64), found)
    return found


def _descend(
    net: DenseNet,
    classes: npt.NDArray[np.int64],
    boxes: Boxes,
    points: npt.NDArray[np.float64],
    found: npt.NDArray[np.float32],
) -> None:
    width = boxes.upper.astype(np.float64) - boxes.lower
    for step in range(_STEPS):
        share = max(0.1, 1.0 - step / _STEPS)
        stepped = boxes.clip(points - share * width * np.sign(_margin_gradient(net, classes, points)))
        changed = net.raw_scores(stepped).argmax(axis=1) != classes
        is_news = changed & np.isnan(found).all(axis=1)
        found[is_news] = stepped[is_news]
        points = stepped.astype(np.float64)


def _margin_gradient(
    net: DenseNet, classes: npt.NDArray[np.int64], points: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Of the score of the class less the best other score, (n, d)."""
    active: list[npt.NDArray[np.bool_]] = []
    values = points
    for layer in net.layers[:-1]:
        values = values @ layer.weight.astype(np.float64) + layer.bias
        active.append(values > 0)
        values = np.maximum(values, 0.0)
    scores = values @ net.layers[-1].weight.astype(np.float64) + net.layers[-1].bias
    rows = np.arange(len(points))
    others = scores.copy()
    others[rows, classes] = -np.inf
    gradient = np.zeros_like(scores)
    gradient[rows, classes] = 1.0
    gradient[rows, others.argmax(axis=1)] -= 1.0
    for layer, is_active in zip(reversed(net.layers[1:]), reversed(active), strict=True):
        gradient = (gradient @ layer.weight.T.astype(np.float64)) * is_active
    return np.asarray(gradient @ net.layers[0].weight.T.astype(np.float64))
