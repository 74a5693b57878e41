"""New configurations to choose from: even draws over each family, and changes of the best known ones."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlcluster.search.candidate import Candidate
from mlcluster.search.growing_bounds import GrowingBounds
from mlcluster.search.joint_space import Floats, JointSpace


@dataclass(frozen=True, kw_only=True, slots=True)
class ProposalShape:
    """How many of what."""

    num_even: int = 150
    """Over all families together."""
    num_near: int = 60
    num_anchors: int = 5
    """Best known trials that are changed."""
    smallest_step: float = 0.02
    largest_step: float = 0.3
    """Standard deviations of a change, in widths of the space; drawn log-evenly between the two."""
    change_share: float = 0.5
    """Of the axes that a change moves."""


class Proposals:
    """The seed alone decides; the same generator state gives the same pool."""

    def __init__(self, space: JointSpace, shape: ProposalShape, bounds: GrowingBounds, *, seed: int) -> None:
        self._space = space
        self._bounds = bounds
        self._shape = shape
        self._spread = {family: _sobol(space, family, seed) for family in space.families}

    def spread(self, index: int) -> Candidate:
        """Number `index` of a sequence that covers the space evenly, families in turn."""
        families = self._space.families
        family, turn = families[index % len(families)], index // len(families)
        points = self._spread[family]
        configuration = self._space.configuration(family, points[turn % len(points)])
        return Candidate(family=family, configuration=configuration, origin="spread")

    def random(self, rng: np.random.Generator) -> Candidate:
        """An even draw of a family, and of a configuration of it."""
        family = self._space.families[int(rng.integers(len(self._space.families)))]
        configuration = self._space.configuration(family, self._even(family, 1, rng)[0])
        return Candidate(family=family, configuration=configuration, origin="random")

    def pool(self, anchors: Sequence[Candidate], rng: np.random.Generator) -> dict[str, Floats]:
        """Points of each family's own cube, shape (n, its axes): what there is to choose from now."""
        families = self._space.families
        each = -(-self._shape.num_even // len(families))
        pools = {family: [self._even(family, each, rng)] for family in families}
        if anchors:
            each = -(-self._shape.num_near // len(anchors))
            for anchor in anchors:
                point = self._space.own_point(anchor.family, anchor.configuration)
                pools[anchor.family].append(self._changed(anchor.family, point, each, rng))
        return {family: np.concatenate(parts) for family, parts in pools.items()}

    def _even(self, family: str, count: int, rng: np.random.Generator) -> Floats:
        lows, highs = self._bounds.of(family)
        return np.asarray(lows + (highs - lows) * rng.random((count, len(lows))))

    def _changed(self, family: str, point: Floats, count: int, rng: np.random.Generator) -> Floats:
        shape = (count, len(point))
        moves = rng.random(shape) < self._shape.change_share
        steps = np.exp(rng.uniform(np.log(self._shape.smallest_step), np.log(self._shape.largest_step), (count, 1)))
        return np.asarray(np.clip(point + moves * steps * rng.normal(size=shape), *self._bounds.of(family)))


def _sobol(space: JointSpace, family: str, seed: int) -> Floats:
    from scipy.stats import qmc

    own = space.own_axes(family)
    rng = np.random.default_rng([seed, space.families.index(family), 4])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(qmc.Sobol(own.stop - own.start, rng=rng).random(64))
