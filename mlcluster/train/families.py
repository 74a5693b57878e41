"""The families that a project file may name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from mlcluster.train.dense import LINEAR, MLP
from mlcluster.train.learner import Family
from mlcluster.train.trees import BOOSTING, FOREST, TREE

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {family.name: family for family in (LINEAR, TREE, FOREST, BOOSTING, MLP)}
)
"""By name, from the simplest to the most complex."""
