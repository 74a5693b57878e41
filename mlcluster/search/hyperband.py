"""Asynchronous Hyperband by promotion, with rungs in cost.

Successive halving as in ASHA (Li et al., MLSys 2020, algorithm 2): whenever a worker is free, a trial in the best
1/eta of its rung that was not promoted yet goes on to the next rung, the highest rung first; else a new trial starts.
Trials are paused, never stopped early, so a late developer can still be promoted. Hyperband (Li et al., JMLR 2018) adds
brackets: bracket b starts its trials at rung b, against metrics that mislead at low cost.

Pure and deterministic: the same calls in the same order give the same decisions.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, field

from mlcluster.search.candidate import Candidate, CandidateSource, Observation
from mlcluster.search.policy import Action, Decision, Fidelity, Suggestion, TrialRecord, TrialState
from mlcluster.search.rungs import REDUCTION_FACTOR, units_within


@dataclass(frozen=True, kw_only=True)
class HyperbandSettings:
    """`rungs_seconds` are nominal, lowest first. Of `num_brackets` brackets, bracket b starts at rung b."""

    rungs_seconds: tuple[float, ...]
    num_brackets: int = 1
    reduction_factor: int = REDUCTION_FACTOR


@dataclass(slots=True)
class _Standings:
    """Of one bracket at one rung: pairs of loss and number of the trial, best first; the older wins a tie.

    Kept in order, for sorting ten thousand trials at each decision would make the search wait for its policy.
    """

    all: list[tuple[float, int]] = field(default_factory=list)
    waiting: list[tuple[float, int]] = field(default_factory=list)
    """Those that had no higher rung to stand at; who has gone on since is taken out when it is met."""

    def rank(self, loss: float, number: int) -> int:
        return bisect_left(self.all, (loss, number)) + 1


class AsyncHyperband:
    """See the module. `source` proposes candidates; `fidelities` maps a family to its `Fidelity`."""

    def __init__(
        self, settings: HyperbandSettings, *, source: CandidateSource, fidelities: dict[str, Fidelity]
    ) -> None:
        self._settings = settings
        self._source = source
        self._fidelities = fidelities
        self._trials: dict[str, TrialRecord] = {}
        self._records: list[TrialRecord] = []
        self._numbers: dict[str, int] = {}
        self._standings: dict[tuple[int, int], _Standings] = {}
        self._unfinished: set[int] = set()
        """Numbers of trials that were cut or lost their worker on the way to their rung."""
        self._observed: list[list[Observation]] = []
        """By number."""

    @property
    def trials(self) -> Sequence[TrialRecord]:
        return tuple(self._records)

    def trial(self, trial_id: str) -> TrialRecord:
        return self._trials[trial_id]

    def suggest(self, *, new_trials: bool = True, room_seconds: float = math.inf) -> Suggestion | None:  # noqa: ARG002
        """What a free worker should do next; None where nothing is left to do for now.

        Unless `accept` follows, nothing changes: asking twice gives the same answer.
        """
        return self._unfinished_business() or self._promotion() or (self._new_trial() if new_trials else None)

    def accept(self, suggestion: Suggestion) -> None:
        """The suggestion is being carried out."""
        trial = self._trials.get(suggestion.trial_id)
        if trial is None:
            self._add(
                TrialRecord(
                    trial_id=suggestion.trial_id,
                    candidate=suggestion.candidate,
                    bracket=self._bracket(len(self._records)),
                    rung=suggestion.rung,
                    target_units=suggestion.stop_units,
                )
            )
            return
        self._unfinished.discard(self._numbers[suggestion.trial_id])
        trial.state = TrialState.RUNNING
        trial.rung = suggestion.rung
        trial.target_units = suggestion.stop_units

    def report(self, trial_id: str, *, units: int, loss: float, seconds: float = 0.0) -> Decision:  # noqa: ARG002
        """Takes what a trial came to; it is paused in any case, and goes on only by a later suggestion."""
        trial = self._trials[trial_id]
        trial.units = units
        if not math.isfinite(loss):
            trial.state = TrialState.FAILED
            return Decision(action=Action.STOP, reason=f"its loss is {loss}")
        if trial.is_short_of_its_rung:
            trial.state = TrialState.PAUSED
            self._unfinished.add(self._numbers[trial_id])
            return Decision(
                action=Action.PAUSE, reason=f"cut at {units} of {trial.target_units} units by its time limit"
            )
        self._stand(trial, loss)
        if self._is_last_rung(trial.rung):
            trial.state = TrialState.COMPLETE
            return Decision(action=Action.COMPLETE, reason=f"at the top rung with {units} units")
        trial.state = TrialState.PAUSED
        rank, peers = self._rank(trial)
        return Decision(action=Action.PAUSE, reason=f"rank {rank} of {peers} at rung {trial.rung}")

    def lose(self, trial_id: str, *, units: int) -> None:
        """The trial's worker is gone: it stands again where its last checkpoint is, at `units`."""
        trial = self._trials[trial_id]
        trial.units = units
        trial.state = TrialState.PAUSED
        self._unfinished.add(self._numbers[trial_id])

    def give_up(self, trial_id: str) -> None:
        """The trial will not be tried again."""
        self._trials[trial_id].state = TrialState.FAILED

    def _add(self, trial: TrialRecord) -> None:
        self._trials[trial.trial_id] = trial
        self._numbers[trial.trial_id] = len(self._records)
        self._records.append(trial)
        self._observed.append([])

    def _unfinished_business(self) -> Suggestion | None:
        for trial in (self._records[number] for number in sorted(self._unfinished)):
            if trial.state is TrialState.PAUSED and trial.is_short_of_its_rung:
                return self._suggestion(trial, trial.rung, trial.target_units, "goes on to the rung it was sent to")
        return None

    def _promotion(self) -> Suggestion | None:
        for bracket in range(self._settings.num_brackets):
            for rung in reversed(range(len(self._settings.rungs_seconds) - 1)):
                found = self._promotable(bracket, rung)
                if found is not None:
                    trial, reason = found
                    return self._suggestion(trial, rung + 1, self._units_at(trial.candidate, rung + 1), reason)
        return None

    def _promotable(self, bracket: int, rung: int) -> tuple[TrialRecord, str] | None:
        standing = self._standings_at(bracket, rung)
        num_places = len(standing.all) // self._settings.reduction_factor
        while standing.waiting and self._records[standing.waiting[0][1]].rung > rung:
            del standing.waiting[0]
        for loss, number in standing.waiting:
            trial = self._records[number]
            rank = standing.rank(loss, number)
            if rank > num_places:
                return None
            if trial.rung == rung and trial.state is TrialState.PAUSED:
                return trial, f"rank {rank} of {len(standing.all)} at rung {rung}, {num_places} go on"
        return None

    def _standings_at(self, bracket: int, rung: int) -> _Standings:
        return self._standings.setdefault((bracket, rung), _Standings())

    def _stand(self, trial: TrialRecord, loss: float) -> None:
        """Enters the loss at the trial's rung, and at each higher one that asks for no more units than it has."""
        self._enter(trial, loss)
        while not self._is_last_rung(trial.rung) and self._units_at(trial.candidate, trial.rung + 1) <= trial.units:
            trial.rung += 1
            self._enter(trial, loss)
        insort(self._standings_at(trial.bracket, trial.rung).waiting, (loss, self._numbers[trial.trial_id]))

    def _enter(self, trial: TrialRecord, loss: float) -> None:
        assert trial.rung not in trial.losses, f"{trial.trial_id} stands at rung {trial.rung} already"
        number = self._numbers[trial.trial_id]
        trial.losses[trial.rung] = loss
        insort(self._standings_at(trial.bracket, trial.rung).all, (loss, number))
        self._observed[number].append(Observation(candidate=trial.candidate, rung=trial.rung, loss=loss))

    def _is_last_rung(self, rung: int) -> bool:
        return rung == len(self._settings.rungs_seconds) - 1

    def _rank(self, trial: TrialRecord) -> tuple[int, int]:
        standing = self._standings_at(trial.bracket, trial.rung)
        return standing.rank(trial.losses[trial.rung], self._numbers[trial.trial_id]), len(standing.all)

    def _new_trial(self) -> Suggestion:
        index = len(self._records)
        candidate = self._source.propose(index, self.observations())
        rung = self._bracket(index)
        return Suggestion(
            trial_id=f"t{index:04d}",
            candidate=candidate,
            rung=rung,
            start_units=0,
            stop_units=self._units_at(candidate, rung),
            reason=f"new {candidate.family} ({candidate.origin}), to rung {rung}",
        )

    def _suggestion(self, trial: TrialRecord, rung: int, stop_units: int, reason: str) -> Suggestion:
        return Suggestion(
            trial_id=trial.trial_id,
            candidate=trial.candidate,
            rung=rung,
            start_units=trial.units,
            stop_units=stop_units,
            reason=reason,
        )

    def _bracket(self, index: int) -> int:
        """Brackets take turns, a bracket one rung higher eta times as seldom."""
        eta = self._settings.reduction_factor
        for bracket in reversed(range(1, self._settings.num_brackets)):
            if index % eta**bracket == eta**bracket - 1:
                return bracket
        return 0

    def _units_at(self, candidate: Candidate, rung: int) -> int:
        fidelity = self._fidelities[candidate.family]
        return units_within(
            self._settings.rungs_seconds[rung],
            lambda units: fidelity.nominal_seconds(candidate.configuration, units),
            max_units=fidelity.max_units,
        )

    def observations(self) -> list[Observation]:
        """What sources may learn from, by trial and then by rung."""
        return list(itertools.chain.from_iterable(self._observed))
