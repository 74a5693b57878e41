"""Units and seconds of the rungs that lie before a trial."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mlcluster.cost import CostModel
from mlcluster.search.beliefs import FULL_FIDELITY
from mlcluster.search.candidate import Candidate
from mlcluster.search.cost_growth import CostGrowth
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
    learns_growth: bool = True
    """Off, for ablation: each unit of a training is taken to cost the same."""
    by_configuration: bool = True
    """Off, for ablation: all configurations of a family are taken to cost the same."""


class Ladders:
    """The rungs of each candidate in units, and what it takes to climb them."""

    def __init__(self, rungs_seconds: Sequence[float], fidelities: Mapping[str, Fidelity], terms: CostTerms) -> None:
        self._rungs_seconds = np.array(rungs_seconds)
        self._fidelities = fidelities
        self._terms = terms
        self._cost_model = CostModel()
        self._growth = CostGrowth(len(fidelities))

    def of(self, candidate: Candidate) -> Ints:
        """Units at each rung, shape (num_rungs,)."""
        fidelity = self._fidelities[candidate.family]

        def nominal_seconds(units: int) -> float:
            return fidelity.nominal_seconds(candidate.configuration, units)

        levels = self._rungs_seconds
        return np.array([units_within(level, nominal_seconds, max_units=fidelity.max_units) for level in levels])

    def observe(
        self, candidate: Candidate, space: JointSpace, *, units: tuple[int, int], seconds: tuple[float, float]
    ) -> None:
        """Learns from a segment: the units of its trial, and all seconds of its training, before and after."""
        family = candidate.family
        if units[0] > 0:
            if self._terms.learns_growth:
                self._growth.observe(space.families.index(family), units=units, seconds=seconds)
            return
        self._cost_model.observe(
            family,
            nominal_seconds=self._fidelities[family].nominal_seconds(candidate.configuration, units[1]),
            actual_seconds=seconds[1],
            point=space.own_point(family, candidate.configuration),
        )

    def first_seconds(self, candidate: Candidate, space: JointSpace) -> float:
        """Expected until the lowest rung of a new trial."""
        family = candidate.family
        units = int(self.of(candidate)[0])
        nominal = self._fidelities[family].nominal_seconds(candidate.configuration, units)
        point = space.own_point(family, candidate.configuration)
        ratio = float(self._cost_model.expected_ratios(family, point[None])[0])
        return self._terms.overhead_seconds + nominal * ratio

    def stages_of_trials(self, table: TrialTable, rows: Ints, *, room_seconds: float) -> tuple[Stage, ...]:
        """What lies before started trials, by the pace that each has shown."""
        whole = _Whole(
            units=table.whole_units[rows],
            seconds=np.maximum(self._whole_seconds(table, rows), self._floor_seconds(table)),
            powers=self._growth.powers[table.families[rows]],
        )
        return self._stages(table.ladders[rows], table.units[rows], whole, room_seconds)

    def stages_of_new(
        self, family: str, space: JointSpace, own_points: Floats, table: TrialTable, *, room_seconds: float
    ) -> tuple[Stage, ...]:
        """What would lie before new trials of a family, by the cost model."""
        max_units = self._fidelities[family].max_units
        nominal = self._whole_nominal_seconds(family, [space.configuration(family, point) for point in own_points])
        # As if each unit were nominally the same; where it is not, the trial's own ladder is exact.
        shares = self._rungs_seconds[None, :] / nominal[:, None]
        ladders = np.clip((shares * max_units + 1e-9).astype(np.int64), 1, max_units)
        power = float(self._growth.powers[space.families.index(family)])
        # The cost model knows what first segments take; the rest follows from how costs grow.
        first_seconds = nominal * ladders[:, 0] / max_units * self._cost_model.expected_ratios(family, own_points)
        seconds = first_seconds * (max_units / ladders[:, 0]) ** power
        if not self._terms.by_configuration:
            seconds = np.full(len(seconds), float(np.median(seconds)))
        whole = _Whole(
            units=np.full(len(ladders), max_units),
            seconds=np.maximum(seconds, self._floor_seconds(table)),
            powers=np.full(len(ladders), power),
        )
        return self._stages(ladders, np.zeros(len(ladders), dtype=np.int64), whole, room_seconds)

    def _whole_seconds(self, table: TrialTable, rows: Ints) -> Floats:
        """Of a whole training, by what each trial has taken so far."""
        powers = self._growth.powers[table.families[rows]]
        return np.asarray(table.seconds[rows] * (table.whole_units[rows] / table.units[rows]) ** powers)

    def _whole_nominal_seconds(self, family: str, configurations: Sequence[Configuration]) -> Floats:
        fidelity = self._fidelities[family]
        return np.array([fidelity.nominal_seconds(one, fidelity.max_units) for one in configurations])

    def _floor_seconds(self, table: TrialTable) -> float:
        """Of a whole training, below which none counts as cheaper."""
        seen = table.units > 0
        if not seen.any():
            return 0.0
        return self._terms.floor_share * float(np.median(self._whole_seconds(table, np.nonzero(seen)[0])))

    def _stages(self, ladders: Ints, units: Ints, whole: _Whole, room_seconds: float) -> tuple[Stage, ...]:
        """The next rung of each trial, one half-way from there, and the last; what does not fit takes for ever."""
        last = ladders.shape[1] - 1
        following = np.minimum((ladders <= units[:, None]).sum(axis=1), last)
        stages = []
        for rungs in (following, np.minimum((following + 1 + last + 1) // 2, last), np.full(len(ladders), last)):
            stops = ladders[np.arange(len(ladders)), rungs]
            seconds = self._terms.overhead_seconds + whole.seconds_until(stops) - whole.seconds_until(units)
            seconds = np.where(seconds <= room_seconds, np.maximum(seconds, 1e-9), math.inf)
            stages.append(Stage(fidelities=FULL_FIDELITY * stops / whole.units, seconds=seconds))
        return tuple(stages)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Whole:
    """Whole trainings of m trials: their units and seconds, and the power with which seconds grow, each (m,)."""

    units: Ints
    seconds: Floats
    powers: Floats

    def seconds_until(self, units: Ints) -> Floats:
        """From the beginning."""
        return np.asarray(self.seconds * (units / self.units) ** self.powers)
