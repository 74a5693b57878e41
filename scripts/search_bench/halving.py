"""Peers of our own hand: random search, ASHA by promotion (the reference) and synchronous Hyperband.

Textbook forms, kept apart from `mlcluster.search` so that a change there cannot move what it is measured against.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections import deque
from dataclasses import dataclass, field

from mlcluster.spec import Configuration
from mlcluster.tune import Piece, PieceOutcome
from search_bench.draws import random_configurations, rung_epochs
from search_bench.task import PolicyTask

REDUCTION_FACTOR = 3


class RandomSearch:
    """Whole trainings of random configurations."""

    def __init__(self, task: PolicyTask) -> None:
        self._max_epochs = task.max_epochs
        self._draws = enumerate(random_configurations(task.space, task.seed))

    def ask(self, *, room_seconds: float) -> Piece:  # noqa: ARG002
        number, configuration = next(self._draws)
        return Piece(trial_id=str(number), configuration=configuration, start_units=0, stop_units=self._max_epochs)

    def tell(self, trial_id: str, outcome: PieceOutcome) -> None:
        """Nothing is learnt."""


@dataclass(slots=True)
class _Rung:
    standing: list[tuple[float, int]] = field(default_factory=list)
    """Loss and number of each trial that came this far, best first."""
    promoted: set[int] = field(default_factory=set)


class AshaPromotion:
    """ASHA (Li et al., MLSys 2020, algorithm 2): the best of a rung's best third goes on, else a new trial starts."""

    def __init__(self, task: PolicyTask) -> None:
        self._epochs = rung_epochs(task.max_epochs, reduction_factor=REDUCTION_FACTOR)
        self._rungs = [_Rung() for _ in self._epochs]
        self._draws = random_configurations(task.space, task.seed)
        self._configurations: list[Configuration] = []

    def ask(self, *, room_seconds: float) -> Piece:  # noqa: ARG002
        for level in reversed(range(len(self._rungs) - 1)):
            number = self._promotable(self._rungs[level])
            if number is not None:
                self._rungs[level].promoted.add(number)
                return self._piece(number, self._epochs[level], self._epochs[level + 1])
        self._configurations.append(next(self._draws))
        return self._piece(len(self._configurations) - 1, 0, self._epochs[0])

    def tell(self, trial_id: str, outcome: PieceOutcome) -> None:
        number = int(trial_id)
        level = sum(number in rung.promoted for rung in self._rungs)
        bisect.insort(self._rungs[level].standing, (float(outcome.losses[-1]), number))

    def _promotable(self, rung: _Rung) -> int | None:
        num_places = len(rung.standing) // REDUCTION_FACTOR
        if num_places <= len(rung.promoted):
            return None
        return next((number for _, number in rung.standing[:num_places] if number not in rung.promoted), None)

    def _piece(self, number: int, start: int, stop: int) -> Piece:
        return Piece(
            trial_id=str(number), configuration=self._configurations[number], start_units=start, stop_units=stop
        )


class Hyperband:
    """Hyperband (Li et al., JMLR 2018) on the rungs of ASHA, most halving bracket first, round and round.

    A rung waits for all its trials. Workers that would idle meanwhile start the next bracket, which is how parallel
    versions do it, and kinder to this peer than idling.
    """

    def __init__(self, task: PolicyTask) -> None:
        self._epochs = rung_epochs(task.max_epochs, reduction_factor=REDUCTION_FACTOR)
        self._draws = random_configurations(task.space, task.seed)
        self._first_levels = itertools.cycle(range(len(self._epochs)))
        self._brackets: list[_Bracket] = []
        self._bracket_of: dict[str, _Bracket] = {}

    def ask(self, *, room_seconds: float) -> Piece:  # noqa: ARG002
        bracket = next((bracket for bracket in self._brackets if bracket.waiting), None)
        if bracket is None:
            bracket = self._new_bracket()
            self._brackets.append(bracket)
        trial_id = bracket.waiting.popleft()
        return Piece(
            trial_id=trial_id,
            configuration=bracket.configurations[trial_id],
            start_units=self._epochs[bracket.level - 1] if bracket.level > bracket.first_level else 0,
            stop_units=self._epochs[bracket.level],
        )

    def tell(self, trial_id: str, outcome: PieceOutcome) -> None:
        bracket = self._bracket_of[trial_id]
        bracket.losses[trial_id] = float(outcome.losses[-1])
        if len(bracket.losses) < bracket.size:
            return
        if bracket.level == len(self._epochs) - 1:
            self._brackets.remove(bracket)
            return
        bracket.halve()

    def _new_bracket(self) -> _Bracket:
        first_level = next(self._first_levels)
        num_halvings = len(self._epochs) - 1 - first_level
        size = math.ceil(len(self._epochs) / (num_halvings + 1) * REDUCTION_FACTOR**num_halvings)
        ids = [str(len(self._bracket_of) + number) for number in range(size)]
        bracket = _Bracket(
            first_level=first_level,
            level=first_level,
            size=size,
            configurations={trial_id: next(self._draws) for trial_id in ids},
            waiting=deque(ids),
        )
        self._bracket_of.update(dict.fromkeys(ids, bracket))
        return bracket


@dataclass(kw_only=True, slots=True, eq=False)
class _Bracket:
    first_level: int
    level: int
    size: int
    """Trials at this level."""
    configurations: dict[str, Configuration]
    waiting: deque[str]
    losses: dict[str, float] = field(default_factory=dict)
    """Of the trials that are done with this level."""

    def halve(self) -> None:
        """The best third goes to the next level."""
        self.size = max(1, self.size // REDUCTION_FACTOR)
        self.waiting.extend(sorted(self.losses, key=self.losses.__getitem__)[: self.size])
        self.losses = {}
        self.level += 1
