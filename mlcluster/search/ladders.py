"""Units and seconds of the rungs that lie before a trial."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mlcluster.cost import CostModel
from mlcluster.search.beliefs import FULL_FIDELITY
from mlcluster.search.candidate import Candidate
from mlcluster.search.joint_space import Floats, JointSpace
from mlcluster.search.policy import Fidelity
from mlcluster.search.promise import Stage
from mlcluster.search.rungs import units_within
from mlcluster.search.trial_table import Ints, TrialTable
from mlcluster.spec import Configuration


@dataclass(frozen=True, kw_only=True, slots=True)
class CostTerms:
    """How costs enter the choice."""

    floor_share: float = 0.5
    """Nothing counts as cheaper than this share of the median trial: the cheapest are not the goal."""
    overhead_seconds: float = 0.0
    """Nominal seconds that a segment takes beside its training."""
    by_configuration: bool = True
    """Off, for ablation: all configurations of a family are taken to cost the same."""


class Ladders:
    """The rungs of each candidate in units, and what it takes to climb them."""

    def __init__(self, rungs_seconds: Sequence[float], fidelities: Mapping[str, Fidelity], terms: CostTerms) -> None:
        self._rungs_seconds = np.array(rungs_seconds)
        self._fidelities = fidelities
        self._terms = terms
        self._cost_model = CostModel()

    def of(self, candidate: Candidate) -> Ints:
        """Units at each rung, shape (num_rungs,)."""
        fidelity = self._fidelities[candidate.family]

        def nominal_seconds(units: int) -> float:
            return fidelity.nominal_seconds(candidate.configuration, units)

        levels = self._rungs_seconds
        return np.array([units_within(level, nominal_seconds, max_units=fidelity.max_units) for level in levels])

    def observe(self, candidate: Candidate, space: JointSpace, *, units: tuple[int, int], seconds: float) -> None:
        """Learns from a segment, from one number of units to another, what its configuration costs."""
        nominal_seconds = self._fidelities[candidate.family].nominal_seconds
        before = nominal_seconds(candidate.configuration, units[0]) if units[0] else 0.0
        self._cost_model.observe(
            candidate.family,
            nominal_seconds=nominal_seconds(candidate.configuration, units[1]) - before,
            actual_seconds=max(0.0, seconds - self._terms.overhead_seconds),
            point=space.own_point(candidate.family, candidate.configuration),
        )

    def stages_of_trials(self, table: TrialTable, rows: Ints, *, room_seconds: float) -> tuple[Stage, ...]:
        """What lies before started trials, by the pace that each has shown."""
        whole = table.whole_units[rows]
        pace = np.maximum(table.seconds[rows] * whole / table.units[rows], self._floor_seconds(table))
        return self._stages(table.ladders[rows], table.units[rows], whole, pace, room_seconds)

    def stages_of_new(
        self, family: str, space: JointSpace, own_points: Floats, table: TrialTable, *, room_seconds: float
    ) -> tuple[Stage, ...]:
        """What would lie before new trials of a family, by the cost model."""
        max_units = self._fidelities[family].max_units
        nominal = self._whole_nominal_seconds(family, [space.configuration(family, point) for point in own_points])
        pace = nominal * self._cost_model.expected_ratios(family, own_points)
        if not self._terms.by_configuration:
            pace = np.full(len(pace), float(np.median(pace)))
        # As if each unit cost the same; where it does not, the trial's own ladder is exact.
        shares = self._rungs_seconds[None, :] / nominal[:, None]
        ladders = np.clip((shares * max_units + 1e-9).astype(np.int64), 1, max_units)
        zeros, whole = np.zeros(len(ladders), dtype=np.int64), np.full(len(ladders), max_units)
        return self._stages(ladders, zeros, whole, np.maximum(pace, self._floor_seconds(table)), room_seconds)

    def _whole_nominal_seconds(self, family: str, configurations: Sequence[Configuration]) -> Floats:
        fidelity = self._fidelities[family]
        return np.array([fidelity.nominal_seconds(one, fidelity.max_units) for one in configurations])

    def _floor_seconds(self, table: TrialTable) -> float:
        """Of a whole training, below which none counts as cheaper."""
        seen = table.units > 0
        if not seen.any():
            return 0.0
        whole_seconds = table.seconds[seen] * table.whole_units[seen] / table.units[seen]
        return self._terms.floor_share * float(np.median(whole_seconds))

    def _stages(
        self, ladders: Ints, units: Ints, whole_units: Ints, whole_seconds: Floats, room_seconds: float
    ) -> tuple[Stage, ...]:
        """The next rung of each trial, one half-way from there, and the last; what does not fit takes for ever."""
        last = ladders.shape[1] - 1
        following = np.minimum((ladders <= units[:, None]).sum(axis=1), last)
        stages = []
        for rungs in (following, np.minimum((following + 1 + last + 1) // 2, last), np.full(len(ladders), last)):
            stops = ladders[np.arange(len(ladders)), rungs]
            seconds = self._terms.overhead_seconds + (stops - units) / whole_units * whole_seconds
            seconds = np.where(seconds <= room_seconds, np.maximum(seconds, 1e-9), math.inf)
            stages.append(Stage(fidelities=FULL_FIDELITY * stops / whole_units, seconds=seconds))
        return tuple(stages)
