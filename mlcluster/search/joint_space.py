"""All families' search spaces as one unit cube, in which a model can compare any two configurations.

A family owns its hyperparameters' axes and one axis of its own; on axes of other families it stands in the middle
(imputation as in SMAC, Hutter et al., LION 2011). With one family the cube is that family's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from mlcluster.search.candidate import Candidate
from mlcluster.spec import Configuration, SearchSpace

Floats = npt.NDArray[np.float64]

_ELSEWHERE = 0.5
"""Where a family stands on another's axes."""


class JointSpace:
    """Maps candidates to points of shape (num_axes,) and back."""

    def __init__(self, spaces: Mapping[str, SearchSpace]) -> None:
        self._spaces = dict(spaces)
        self.families: tuple[str, ...] = tuple(spaces)
        self._own: dict[str, slice] = {}
        axes = 0
        for family, space in spaces.items():
            self._own[family] = slice(axes, axes + len(space))
            axes += len(space)
        self._first_family_axis = axes
        self.num_axes = axes + (len(self.families) if len(self.families) > 1 else 0)

    @property
    def most_own_axes(self) -> int:
        """Hyperparameters of the family that has most of them."""
        return max(1, *(len(space) for space in self._spaces.values()))

    def own_axes(self, family: str) -> slice:
        """Where the hyperparameters of a family lie."""
        return self._own[family]

    def embed(self, family: str, own_points: Floats) -> Floats:
        """Points of a family's own cube, shape (n, its axes), as points of the joint one, shape (n, num_axes)."""
        points = np.full((len(own_points), self.num_axes), _ELSEWHERE)
        points[:, self._own[family]] = own_points
        if len(self.families) > 1:
            points[:, self._first_family_axis :] = 0.0
            points[:, self._first_family_axis + self.families.index(family)] = 1.0
        return points

    def own_point(self, family: str, configuration: Configuration) -> Floats:
        """A configuration in its family's cube, shape (its axes,)."""
        return np.array([domain.unit(configuration[name]) for name, domain in self._spaces[family].items()])  # type: ignore[arg-type]

    def point(self, candidate: Candidate) -> Floats:
        """A candidate in the joint cube, shape (num_axes,)."""
        return np.asarray(
            self.embed(candidate.family, self.own_point(candidate.family, candidate.configuration)[None])[0]
        )

    def configuration(self, family: str, own_point: Sequence[float] | Floats) -> Configuration:
        """The configuration at a point of its family's cube."""
        space = self._spaces[family]
        return {name: domain.at(float(unit)) for (name, domain), unit in zip(space.items(), own_point, strict=True)}
