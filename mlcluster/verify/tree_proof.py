"""Can the class of a row change inside its box? For trees, forests and boosting: branch and bound over thresholds.

Inside a box, a tree answers with one of few leaves. The sum over the trees of the highest reachable leaf is a bound
that no point can exceed; where it does not settle the question, the box is parted at a threshold and both parts are
bounded again, the most promising part first. A part in which every tree has one leaf left is exact. This gives the
certificates of Veritas (Devos et al., ICML 2021) for every `TreeEnsemble`. Thresholds and boxes are compared in
float32, as the model compares them, so that no point lies between a bound and the model. Shapes: n rows, d inputs,
k classes, r reachable leaves, f inputs that move.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlcluster.train.structure import BinaryTree, TreeEnsemble
from mlcluster.verify.proof import RowProof
from mlcluster.verify.region import Boxes

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
IndexArray = npt.NDArray[np.int64]

_MAX_PARTS = 400
"""Parts of one row's box that are looked into, per other class, before the row counts as unknown."""
_ROUNDING = 1e-6
"""Relative to what a score sums up: room for the float32 arithmetic of a served artifact."""
_ROWS_AT_ONCE = 64


def prove_trees(ensemble: TreeEnsemble, boxes: Boxes) -> list[RowProof]:
    """For each box, whether all of it is classified as its center is; see `RowProof`."""
    nodes, classes = _Nodes.of(ensemble), _classes(ensemble.raw_scores(boxes.center))
    proofs: list[RowProof] = []
    for start in range(0, len(boxes), _ROWS_AT_ONCE):
        rows = np.arange(start, min(start + _ROWS_AT_ONCE, len(boxes)))
        proofs += _prove_chunk(nodes, boxes.take(rows), classes[rows])
    return _held_against_model(ensemble, classes, proofs)


def _held_against_model(ensemble: TreeEnsemble, classes: IndexArray, proofs: list[RowProof]) -> list[RowProof]:
    """An example counts only if the model itself, rather than the search, gives it another class."""
    rows = [row for row, proof in enumerate(proofs) if proof.example is not None]
    if rows:
        found = _classes(ensemble.raw_scores(np.stack([np.asarray(proofs[row].example) for row in rows])))
        for row, other in zip(rows, found, strict=True):
            proofs[row] = proofs[row] if other != classes[row] else RowProof.unknown()
    return proofs


@dataclass(frozen=True, kw_only=True, slots=True)
class _Nodes:
    """All trees in one array of nodes; `value` is (nodes, k) with one score a class, `parent` -1 at roots."""

    feature: IndexArray
    threshold: npt.NDArray[np.float32]
    left: IndexArray
    right: IndexArray
    missing_left: npt.NDArray[np.bool_]
    value: FloatArray
    tree: IndexArray
    parent: IndexArray
    roots: IndexArray
    base: FloatArray
    tolerance: FloatArray
    """Of each class's score, (k,): what float32 arithmetic may do to it."""

    @classmethod
    def of(cls, ensemble: TreeEnsemble) -> _Nodes:
        """A single sigmoid score r becomes the pair (0, r)."""
        trees: tuple[BinaryTree, ...] = ensemble.trees
        sizes = [len(tree.feature) for tree in trees]
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        left = np.concatenate(
            [tree.left.astype(np.int64) + start for tree, start in zip(trees, starts[:-1], strict=True)]
        )
        right = np.concatenate(
            [tree.right.astype(np.int64) + start for tree, start in zip(trees, starts[:-1], strict=True)]
        )
        feature = np.concatenate([tree.feature for tree in trees]).astype(np.int64)
        value, base = np.concatenate([tree.value for tree in trees]), ensemble.base
        if value.shape[1] == 1:
            value, base = np.concatenate([np.zeros_like(value), value], axis=1), np.concatenate([[0.0], base])
        inner = np.flatnonzero(feature >= 0)
        parent = np.full(len(feature), -1, dtype=np.int64)
        parent[left[inner]] = inner
        parent[right[inner]] = inner
        largest = np.maximum.reduceat(np.where(feature[:, None] < 0, np.abs(value), 0.0), starts[:-1], axis=0)
        return cls(
            feature=feature,
            threshold=np.concatenate([tree.threshold for tree in trees]),
            left=left,
            right=right,
            missing_left=np.concatenate([tree.missing_left for tree in trees]),
            value=value,
            tree=np.repeat(np.arange(len(trees)), sizes),
            parent=parent,
            roots=starts[:-1],
            base=base,
            tolerance=_ROUNDING * (np.abs(base) + largest.sum(axis=0)),
        )

    def reachable(self, boxes: Boxes) -> tuple[IndexArray, IndexArray]:
        """Pairs of a row and a leaf that the row's box can reach, in the order of rows, then of trees.

        A leaf behind two tests of one input that cannot both hold may be among them; its own box is empty.
        """
        row, node = np.repeat(np.arange(len(boxes)), len(self.roots)), np.tile(self.roots, len(boxes))
        rows, leaves = [], []
        while len(row):
            feature = self.feature[node]
            is_leaf = feature < 0
            rows.append(row[is_leaf])
            leaves.append(node[is_leaf])
            row, node, feature = row[~is_leaf], node[~is_leaf], feature[~is_leaf]
            lower, upper, threshold = boxes.lower[row, feature], boxes.upper[row, feature], self.threshold[node]
            is_missing = np.isnan(lower)
            goes_left = np.where(is_missing, self.missing_left[node], lower <= threshold)
            goes_right = np.where(is_missing, ~self.missing_left[node], upper > threshold)
            row, node = (
                np.concatenate([row[goes_left], row[goes_right]]),
                np.concatenate([self.left[node[goes_left]], self.right[node[goes_right]]]),
            )
        all_rows, all_leaves = np.concatenate(rows), np.concatenate(leaves)
        order = np.lexsort((self.tree[all_leaves], all_rows))
        return all_rows[order], all_leaves[order]

    def boxes_of(self, leaves: IndexArray, moving: IndexArray) -> tuple[Float32Array, Float32Array]:
        """From where to where the `moving` inputs (f,) reach each leaf, both ends included: twice (r, f)."""
        above = np.full((len(leaves), len(moving)), -np.inf, dtype=np.float32)
        up_to = np.full((len(leaves), len(moving)), np.inf, dtype=np.float32)
        column_of = np.full(max(int(self.feature.max()), int(moving.max(initial=0))) + 1, -1, dtype=np.int64)
        column_of[moving] = np.arange(len(moving))
        child, index = leaves, np.arange(len(leaves))
        while len(child):
            parent = self.parent[child]
            has_parent = parent >= 0
            child, parent, index = child[has_parent], parent[has_parent], index[has_parent]
            column, threshold = column_of[self.feature[parent]], self.threshold[parent]
            is_left = self.left[parent] == child
            low, high = (column >= 0) & ~is_left, (column >= 0) & is_left
            above[index[low], column[low]] = np.maximum(above[index[low], column[low]], threshold[low])
            up_to[index[high], column[high]] = np.minimum(up_to[index[high], column[high]], threshold[high])
            child = parent
        return np.nextafter(above, np.float32(np.inf)), up_to


def _prove_chunk(nodes: _Nodes, boxes: Boxes, classes: IndexArray) -> list[RowProof]:
    rows, leaves = nodes.reachable(boxes)
    values = nodes.value[leaves] - nodes.value[leaves, classes[rows]][:, None]
    starts = np.flatnonzero(np.r_[True, (np.diff(rows) != 0) | (np.diff(nodes.tree[leaves]) != 0)])
    highest = np.maximum.reduceat(values, starts, axis=0).reshape(len(boxes), len(nodes.roots), -1)
    bounds = highest.sum(axis=1) + nodes.base - nodes.base[classes][:, None]
    bounds[np.arange(len(boxes)), classes] = -np.inf
    proofs = []
    for row, (row_class, bound) in enumerate(zip(classes, bounds, strict=True)):
        box, own = boxes.take(np.array([row])), leaves[slice(*np.searchsorted(rows, [row, row + 1]))]
        tolerance = nodes.tolerance + nodes.tolerance[row_class]
        # Not `>=`: a bound that is NaN proves nothing.
        others = [int(other) for other in np.argsort(-bound) if not bound[other] < -tolerance[other]]
        proofs.append(_prove_row(nodes, box, own, int(row_class), others))
    return proofs


def _prove_row(nodes: _Nodes, box: Boxes, leaves: IndexArray, row_class: int, others: list[int]) -> RowProof:
    outcome = RowProof.proved()
    for other in others:
        proof = _Search.of(nodes, box, leaves, row_class, other).run()
        if proof.status == "refuted":
            return proof
        if proof.status == "unknown":
            outcome = proof
    return outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class _Search:
    """The search for a point of one row's box at which `other` outscores `row_class`.

    Of the r leaves that the box can reach, `gain` is what each adds to the difference of the two scores.
    """

    nodes: _Nodes
    box: Boxes
    moving: IndexArray
    low: Float32Array
    high: Float32Array
    gain: FloatArray
    tree: IndexArray
    constant: float
    tolerance: float
    row_class: int

    @classmethod
    def of(cls, nodes: _Nodes, box: Boxes, leaves: IndexArray, row_class: int, other: int) -> _Search:
        moving = np.flatnonzero(box.lower[0] < box.upper[0])
        low, high = nodes.boxes_of(leaves, moving)
        fits = _meets(low, high, box.lower[0, moving], box.upper[0, moving])
        gain, tree = nodes.value[leaves, other] - nodes.value[leaves, row_class], nodes.tree[leaves]
        num_leaves = np.bincount(tree[fits], minlength=len(nodes.roots))[tree]
        fixed, kept = fits & (num_leaves == 1), fits & (num_leaves > 1)
        return cls(
            nodes=nodes,
            box=box,
            moving=moving,
            low=low[kept],
            high=high[kept],
            gain=gain[kept],
            tree=np.unique(tree[kept], return_inverse=True)[1].astype(np.int64),
            constant=float(nodes.base[other] - nodes.base[row_class] + gain[fixed].sum()),
            tolerance=float(nodes.tolerance[other] + nodes.tolerance[row_class]),
            row_class=row_class,
        )

    def run(self) -> RowProof:
        """Best first: the bound of the best open part falls until it settles the question."""
        whole = self._part(self.box.lower[0, self.moving], self.box.upper[0, self.moving], np.arange(len(self.gain)))
        if whole.is_exact:
            return RowProof.proved()  # one leaf a tree: the same score all over the box, to the last bit
        example = self._changed_point(*self._dive(whole))
        heap, ticket = [(-whole.bound, 0, whole)], 1
        while example is None and ticket < _MAX_PARTS:
            if not heap or -heap[0][0] < -self.tolerance:
                return RowProof.proved()
            part = heapq.heappop(heap)[2]
            if part.is_exact:
                # No point of the box has a higher bound: if this one is not of another class, it is a tie in rounding.
                example = self._changed_point(part.lower, part.upper)
                break
            for half in self._parted(part):
                heapq.heappush(heap, (-half.bound, ticket, half))
                ticket += 1
        return RowProof.unknown() if example is None else RowProof.refuted_by(example)

    def _part(self, lower: Float32Array, upper: Float32Array, leaves: IndexArray) -> _Part:
        """What of `leaves`, which stand in the order of trees, meets the box from `lower` to `upper`, both (f,)."""
        left = leaves[_meets(self.low[leaves], self.high[leaves], lower, upper)]
        gain = self.gain[left]
        starts = np.flatnonzero(np.diff(self.tree[left], prepend=-1))
        if len(starts) == len(left):
            bound = self.constant + float(gain.sum())
            return _Part(bound=bound, lower=lower, upper=upper, leaves=left, best=-1)
        highest, lowest = np.maximum.reduceat(gain, starts), np.minimum.reduceat(gain, starts)
        counts = np.diff(starts, append=len(left))
        # Of the trees with more than one leaf, the one with most at stake.
        tree = int(np.where(counts > 1, highest - lowest, -1.0).argmax())
        best = starts[tree] + gain[starts[tree] : starts[tree] + counts[tree]].argmax()
        bound = self.constant + float(highest.sum())
        return _Part(bound=bound, lower=lower, upper=upper, leaves=left, best=int(left[best]))

    def _parted(self, part: _Part) -> tuple[_Part, _Part]:
        """Both sides of a threshold that parts the best leaf from another leaf of its tree."""
        low, high = self.low[part.best], self.high[part.best]
        cuts_low, cuts_high = low > part.lower, high < part.upper
        column = int(np.argmax(cuts_low | cuts_high))
        upper, lower = part.upper.copy(), part.lower.copy()
        if cuts_low[column]:
            upper[column], lower[column] = np.nextafter(low[column], np.float32(-np.inf)), low[column]
        else:
            upper[column], lower[column] = high[column], np.nextafter(high[column], np.float32(np.inf))
        return self._part(part.lower, upper, part.leaves), self._part(lower, part.upper, part.leaves)

    def _dive(self, part: _Part) -> tuple[Float32Array, Float32Array]:
        """A small box in the part: shrunk into one leaf after the other, the highest gains first, where it can be."""
        lower, upper = part.lower, part.upper
        for leaf in part.leaves[np.argsort(-self.gain[part.leaves], kind="stable")]:
            low, high = np.maximum(lower, self.low[leaf]), np.minimum(upper, self.high[leaf])
            if (low <= high).all():
                lower, upper = low, high
        return lower, upper

    def _changed_point(self, lower: Float32Array, upper: Float32Array) -> Float32Array | None:
        """The point between `lower` and `upper` that is nearest to the row, if it is of another class."""
        point = self.box.center[0].copy()
        point[self.moving] = np.clip(point[self.moving], lower, upper)
        here = _meets(self.low, self.high, point[self.moving], point[self.moving])
        if self.constant + float(self.gain[here].sum()) < -self.tolerance:
            return None
        reached = self.nodes.reachable(Boxes(center=point[None], lower=point[None], upper=point[None]))[1]
        scores = self.nodes.base + self.nodes.value[reached].sum(axis=0)
        return point if scores.argmax() != self.row_class else None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Part:
    """A part of a row's box, the leaves that it can reach, and the best leaf of the tree with most at stake."""

    bound: float
    lower: Float32Array
    upper: Float32Array
    leaves: IndexArray
    best: int
    """-1 where every tree has one leaf left, which makes the bound exact."""

    @property
    def is_exact(self) -> bool:
        return self.best < 0


def _meets(low: Float32Array, high: Float32Array, lower: Float32Array, upper: Float32Array) -> npt.NDArray[np.bool_]:
    """Which leaves (r, f) hold a point between `lower` and `upper` (f,): (r,)."""
    return np.asarray((np.maximum(low, lower) <= np.minimum(high, upper)).all(axis=1))


def _classes(raw: FloatArray) -> IndexArray:
    """The class of each row of raw scores (n, k), of which a single one is the sigmoid's."""
    return np.asarray(raw.argmax(axis=1) if raw.shape[1] > 1 else raw[:, 0] > 0, dtype=np.int64)
