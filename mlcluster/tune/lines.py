"""Who waits for which kind of worker: what the policy has suggested, where it belongs, and no slot is free there.

A policy gives one suggestion at a time. One that belongs on another kind than the slot that asks would hold that slot
up; so it is accepted, stands in line for its kind, and the policy is asked again. A line is as long as its kind has
slots, and no longer: what stands in it was decided with less known than it might have been.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlcluster.cost import CostModel
from mlcluster.search import Suggestion
from mlcluster.spec import Device
from mlcluster.tune.piece import able_workers, nominal_seconds, point_of
from mlcluster.tune.placement import Placement, Seconds, Wait, cheapest_worker, rather_than_idle, wait_seconds
from mlcluster.tune.plan import StudyPlan

BusySeconds = Mapping[Device, Sequence[float]]
"""By kind of worker: how long those that run are expected to go on, one number for each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Placed:
    """A suggestion and the kind of worker for it."""

    suggestion: Suggestion
    placement: Placement


class Lines:
    """The lines of a study, one for each kind of worker; see the module."""

    def __init__(self, plan: StudyPlan, cost_model: CostModel) -> None:
        self._plan = plan
        self._cost_model = cost_model
        self._waiting: dict[Device, list[Placed]] = {}

    def place(self, suggestion: Suggestion) -> Placed:
        """With the kind of worker on which it belongs."""
        kinds = self._plan.budget.kinds
        if len(kinds) == 1:
            return Placed(suggestion=suggestion, placement=Placement(worker=kinds[0].name, reason=""))
        placement = cheapest_worker(self._seconds(suggestion), kinds)
        return Placed(suggestion=suggestion, placement=placement)

    def first(self, worker: Device) -> Placed | None:
        """Whose turn it is on workers of a kind."""
        return next(iter(self._waiting.get(worker, ())), None)

    def all(self) -> tuple[Placed, ...]:
        return tuple(placed for line in self._waiting.values() for placed in line)

    def has_room(self, worker: Device) -> bool:
        return self.num_waiting(worker) < self._plan.budget.kind(worker).num_slots

    def num_waiting(self, worker: Device) -> int:
        """How long the line of a kind is."""
        return len(self._waiting.get(worker, ()))

    def stand(self, placed: Placed) -> None:
        """At the end of the line of its kind."""
        self._waiting.setdefault(placed.placement.worker, []).append(placed)

    def holds(self, trial_id: str) -> bool:
        """Whether the trial stands in a line."""
        return any(placed.suggestion.trial_id == trial_id for placed in self.all())

    def leave(self, trial_id: str) -> bool:
        """Out of whichever line the trial stands in; says whether it stood in one."""
        for line in self._waiting.values():
            for placed in line:
                if placed.suggestion.trial_id == trial_id:
                    line.remove(placed)
                    return True
        return False

    def done_seconds(self, placed: Placed, busy: BusySeconds) -> float:
        """Until it would be done, were it to stand in line now."""
        home = placed.placement.worker
        ahead = self._waiting.get(home, ())
        return self._wait(home, ahead, busy).wait_seconds + self._seconds(placed.suggestion)[home]

    def for_idle(self, worker: Device, busy: BusySeconds, next_up: Placed | None) -> Placed | None:
        """What a slot that would idle takes from other lines, the longest ahead first, or of `next_up` behind them."""
        for home, line in self._waiting.items():
            is_behind = next_up is not None and next_up.placement.worker == home
            for place, placed in enumerate([*line, next_up] if next_up is not None and is_behind else line):
                wait = self._wait(home, line[:place], busy)
                taken = rather_than_idle(worker, self._seconds(placed.suggestion), wait) if home != worker else None
                if taken is not None:
                    return Placed(suggestion=placed.suggestion, placement=taken)
        return None

    def _wait(self, home: Device, ahead: Sequence[Placed], busy: BusySeconds) -> Wait:
        ahead_seconds = [self._seconds(placed.suggestion)[home] for placed in ahead]
        num_slots = self._plan.budget.kind(home).num_slots
        return Wait(home=home, wait_seconds=wait_seconds(busy[home], ahead_seconds, num_slots=num_slots))

    def _seconds(self, suggestion: Suggestion) -> Seconds:
        family, point = suggestion.candidate.family, point_of(self._plan, [suggestion])
        return {
            worker: self._cost_model.predict(
                (family, worker), nominal_seconds(self._plan, [suggestion], worker), point
            ).expected_seconds
            for worker in able_workers(self._plan, suggestion)
        }
