"""Can the class of a row change inside its box? For linear models and ReLU nets: attack, bound, and divide.

A linear model is settled by its bound alone, which is exact. For a net, the rows that neither the attack breaks nor
CROWN proves are divided: a box is halved across the input that moves its bound most, and each half is bounded again,
which CROWN rewards with bounds that close in quadratically. Few inputs of a table are numbers that move, so this
settles most of what is left; a row that needs too many halves stays unknown.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mlcluster.train.structure import DenseNet
from mlcluster.verify.attack import attack
from mlcluster.verify.bounds import margin_bounds, two_scored
from mlcluster.verify.proof import RowProof
from mlcluster.verify.region import Boxes

_MAX_BOXES = 512
"""Boxes that one row may be divided into before it counts as unknown."""
_MAX_MULTIPLICATIONS = 2e11
"""That dividing all rows may take: under a minute, however wide the net. Counted, not timed: verdicts repeat."""
_AT_ONCE = 16


def prove_dense(net: DenseNet, boxes: Boxes, rng: np.random.Generator) -> list[RowProof]:
    """For each box, whether all of it is classified as its center is; see `RowProof`."""
    net = two_scored(net)
    classes = net.raw_scores(boxes.center).argmax(axis=1)
    examples = attack(net, classes, boxes, rng)
    is_broken = np.asarray(~np.isnan(examples).all(axis=1))
    proofs = [RowProof.refuted_by(examples[row]) if is_broken[row] else RowProof.unknown() for row in range(len(boxes))]
    left = np.flatnonzero(~is_broken)
    bounds = margin_bounds(net, classes[left], *_float64(boxes.take(left)))
    is_open = np.asarray(~(bounds.worst > 0))  # a bound that is NaN proves nothing
    for row in left[~is_open]:
        proofs[row] = RowProof.proved()
    if len(net.layers) > 1:
        nearly_proved_first = left[is_open][np.argsort(-bounds.worst[is_open], kind="stable")]
        _divide_all(net, classes, boxes, nearly_proved_first, proofs)
    return proofs


def _divide_all(
    net: DenseNet,
    classes: npt.NDArray[np.int64],
    boxes: Boxes,
    rows: npt.NDArray[np.int64],
    proofs: list[RowProof],
) -> None:
    """Settles what it can of `rows`; what one row leaves of its share of the effort is shared out over the next."""
    boxes_left = _MAX_MULTIPLICATIONS / _multiplications_a_box(net)
    for done, row in enumerate(rows):
        share = int(np.clip(boxes_left / (len(rows) - done), 2, _MAX_BOXES))
        proofs[row], num_boxes = _divide(net, int(classes[row]), boxes.take(np.array([row])), share)
        boxes_left = max(0.0, boxes_left - num_boxes)


def _multiplications_a_box(net: DenseNet) -> int:
    """The bounds of each unit are carried back through all layers before it, from below and from above."""
    back, multiplications = 0, 1
    for layer in net.layers:
        multiplications += 2 * layer.bias.shape[0] * back
        back += layer.weight.size
    return multiplications


def _divide(net: DenseNet, row_class: int, box: Boxes, max_boxes: int) -> tuple[RowProof, int]:
    """Best-first branch and bound over the inputs of one row; and the number of boxes that it took."""
    lower, upper = _float64(box)
    bounds = margin_bounds(net, np.array([row_class]), lower, upper)
    worst, slopes = bounds.worst, bounds.slopes
    num_boxes = 1
    while num_boxes < max_boxes:
        chosen = np.argsort(worst)[:_AT_ONCE]
        kept = np.setdiff1d(np.arange(len(worst)), chosen)
        example = _corner_that_changes(net, row_class, box, np.where(slopes[chosen] > 0, lower[chosen], upper[chosen]))
        if example is not None:
            return RowProof.refuted_by(example), num_boxes
        halves = _halve(lower[chosen], upper[chosen], slopes[chosen])
        num_boxes += 2 * len(chosen)
        fresh = margin_bounds(net, np.full(len(halves[0]), row_class), *halves)
        lower, upper = np.concatenate([lower[kept], halves[0]]), np.concatenate([upper[kept], halves[1]])
        worst, slopes = np.concatenate([worst[kept], fresh.worst]), np.concatenate([slopes[kept], fresh.slopes])
        is_open = ~(worst > 0)
        lower, upper, worst, slopes = lower[is_open], upper[is_open], worst[is_open], slopes[is_open]
        if not len(worst):
            return RowProof.proved(), num_boxes
    return RowProof.unknown(), num_boxes


def _halve(
    lower: npt.NDArray[np.float64], upper: npt.NDArray[np.float64], slopes: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Both halves of each box, across the input that weighs most in its bound. Shapes (n, d) -> (2n, d), twice."""
    # The width alone breaks ties where the bound is flat, so that every input is halved in the end.
    weight = (np.abs(slopes) + 1e-3 * np.abs(slopes).max(axis=1, keepdims=True) + 1e-12) * (upper - lower)
    rows, across = np.arange(len(lower)), weight.argmax(axis=1)
    middle = (lower[rows, across] + upper[rows, across]) / 2
    left, right = upper.copy(), lower.copy()
    left[rows, across] = middle
    right[rows, across] = middle
    return np.concatenate([lower, right]), np.concatenate([left, upper])


def _corner_that_changes(
    net: DenseNet, row_class: int, box: Boxes, corners: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32] | None:
    points = box.clip(corners)
    changed = np.flatnonzero(net.raw_scores(points).argmax(axis=1) != row_class)
    return points[changed[0]] if len(changed) else None


def _float64(boxes: Boxes) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    return boxes.lower.astype(np.float64), boxes.upper.astype(np.float64)
