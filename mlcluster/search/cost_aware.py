"""Cost-aware asynchronous Hyperband: rungs by cost, promotion by promise.

Trials climb the rungs of Hyperband and pause at each. What a free worker does next is whatever promises most for its
seconds (`promise`): a paused trial that goes on to its next rung, or a new one. Both are measured with one model of
losses over (configuration, fidelity) and one of seconds, so that a trial that is cheap, or looks like others that got
good late, goes before one whose rank at a rung is better. Successive halving stays as a guard: of so many that stand at
a rung one goes on in any case, for the model may be wrong.

Pure and deterministic: the same calls in the same order give the same decisions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mlcluster.search.beliefs import Beliefs, BeliefSettings, Outlook
from mlcluster.search.candidate import Candidate
from mlcluster.search.curve_model import Likeness
from mlcluster.search.growing_bounds import GrowingBounds
from mlcluster.search.joint_space import Floats, JointSpace
from mlcluster.search.ladders import CostTerms, Ladders
from mlcluster.search.policy import Action, Decision, Fidelity, Suggestion, TrialRecord, TrialState
from mlcluster.search.promise import promise
from mlcluster.search.proposals import Proposals, ProposalShape
from mlcluster.search.trial_table import Ints, TrialTable
from mlcluster.search.twins import Twins
from mlcluster.spec import SearchSpace


@dataclass(frozen=True, kw_only=True, slots=True)
class CostAwareSettings:
    """What was chosen on the given benchmarks; ADR 7 has the ablation of each."""

    rungs_seconds: tuple[float, ...]
    """Nominal, lowest first, as in `HyperbandSettings`."""
    num_first: int = 8
    """Trials before the model is asked."""
    num_scout_steps: int = 2
    """Rungs that the best of the first trials climbs at once, so that the model sees how curves go on."""
    guard: int = 5
    """Of so many trials at a rung, one goes on whatever the model says; 0 for none."""
    observed_share: float = 0.5
    """Share of the decisions that want to beat the best loss seen, not the best that is expected of a known trial."""
    random_share: float = 0.1
    """Of the new trials: even draws, so that a model that is wrong of a space cannot lock the search in."""
    random_share_of_twins: float = 0.5
    """The same where all trials come out as twins of earlier ones; between the two in between."""
    new_trial_discount: float = 0.5
    """On what new trials promise: the best of many points that nobody has looked at always promises too much."""
    max_standing: int = 120
    """Paused trials that are looked at: those with the best losses."""
    least_rate: float = 0.0
    """Of improvement, in units of the loss a second: where nothing promises more, nothing is suggested."""
    uses_model: bool = True
    """Off, for ablation: new trials are random, and the guard alone promotes."""
    costs: CostTerms = field(default_factory=CostTerms)
    beliefs: BeliefSettings = field(default_factory=BeliefSettings)
    proposals: ProposalShape = field(default_factory=ProposalShape)


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchProblem:
    """What is searched. `spaces` and `fidelities` are by family; `first` are tried before all others."""

    spaces: Mapping[str, SearchSpace]
    fidelities: Mapping[str, Fidelity]
    first: tuple[Candidate, ...] = ()
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Offer:
    """The best of one kind of choice: a standing trial's row, or a new candidate."""

    promise: float
    likeness: Likeness
    index: int
    """Of it among the points of `likeness`."""
    row: int = -1
    candidate: Candidate | None = None


class CostAwareHyperband:
    """See the module. Seconds may be weighed by what a worker costs: then it is dollars that the policy counts."""

    def __init__(self, settings: CostAwareSettings, problem: SearchProblem) -> None:
        self._settings = settings
        self._problem = problem
        self._space = JointSpace(problem.spaces)
        self._ladders = Ladders(settings.rungs_seconds, problem.fidelities, settings.costs)
        self._bounds = GrowingBounds(problem.spaces)
        self._proposals = Proposals(self._space, settings.proposals, self._bounds, seed=problem.seed)
        self._table = TrialTable(num_axes=self._space.num_axes, num_rungs=len(settings.rungs_seconds))
        self._beliefs = Beliefs(self._space, self._table, settings.beliefs, seed=problem.seed)
        self._twins = Twins()
        self._records: list[TrialRecord] = []
        self._rows: dict[str, int] = {}
        self._distances: dict[str, float] = {}
        self._unfinished: dict[int, None] = {}
        """Rows of trials that were cut, or lost their worker, on the way to their rung; in that order."""
        self._num_reports = 0
        self._scout = -1
        """The row of the trial that climbs first."""
        self._num_scout_steps = 0

    @property
    def trials(self) -> Sequence[TrialRecord]:
        return tuple(self._records)

    def trial(self, trial_id: str) -> TrialRecord:
        return self._records[self._rows[trial_id]]

    def suggest(self, *, new_trials: bool = True, room_seconds: float = math.inf) -> Suggestion | None:
        for row in self._unfinished:
            if self._fits(row, room_seconds):
                return self._to_units(row, self._records[row].target_units, "goes on to the rung it was sent to")
        standing = self._standing(room_seconds)
        num_first = max(self._settings.num_first, len(self._problem.first))
        num_seen = int((self._table.units > 0).sum())
        if new_trials and (len(self._table) < num_first or num_seen < min(4, num_first)):
            first = self._first_candidate(room_seconds)
            if first is not None:
                return self._new_trial(first, "one of the first")
        scout = self._scout_row(standing)
        if scout is not None:
            return self._promotion(scout, "the best of the first goes ahead, to show how curves go on")
        if not len(self._beliefs):
            first = self._first_candidate(room_seconds) if new_trials else None
            return None if first is None else self._new_trial(first, "nothing is known yet")
        return self._by_promise(standing, new_trials=new_trials, room_seconds=room_seconds)

    def accept(self, suggestion: Suggestion) -> None:
        row = self._rows.get(suggestion.trial_id)
        if row is None:
            row = self._add(suggestion)
        elif self._num_scout_steps < self._settings.num_scout_steps and self._scout in (-1, row):
            self._scout = row
            self._num_scout_steps += 1
        self._unfinished.pop(row, None)
        record = self._records[row]
        record.state = TrialState.RUNNING
        record.rung, record.target_units = suggestion.rung, suggestion.stop_units
        self._table.targets[row] = suggestion.stop_units

    def report(self, trial_id: str, *, units: int, loss: float, seconds: float = 0.0) -> Decision:
        row = self._rows[trial_id]
        record = self._records[row]
        self._num_reports += 1
        is_first_report = self._table.units[row] == 0
        before = float(self._table.seconds[row])
        after = before + max(0.0, seconds - self._settings.costs.overhead_seconds)
        self._ladders.observe(record.candidate, self._space, units=(record.units, units), seconds=(before, after))
        self._table.targets[row] = 0
        self._table.seconds[row] = after
        self._table.losses[row] = loss
        self._table.units[row] = record.units = units
        twin = self._twins.twin_of(trial_id, record.candidate.family, units=units, loss=loss)
        if is_first_report:
            self._twins.learn(self._distances.pop(trial_id, 1.0), was_twin=twin is not None)
        decision = self._decide(row, loss, twin)
        if twin is not None:
            return decision
        self._beliefs.observe(row, units=units, loss=loss)
        return self._growing(record, loss, decision)

    def lose(self, trial_id: str, *, units: int) -> None:
        row = self._rows[trial_id]
        self._table.targets[row] = 0
        self._table.units[row] = self._records[row].units = units
        self._records[row].state = TrialState.PAUSED
        self._unfinished[row] = None

    def give_up(self, trial_id: str) -> None:
        row = self._rows[trial_id]
        self._unfinished.pop(row, None)
        self._records[row].state = TrialState.FAILED
        self._table.is_open[row], self._table.targets[row] = False, 0

    def _fits(self, row: int, room_seconds: float) -> bool:
        """Whether a trial's next rung does, by the pace that it has shown; before it has shown any, it may."""
        return not self._table.units[row] or len(self._fitting(np.array([row]), room_seconds)) > 0

    def _fitting(self, rows: Ints, room_seconds: float) -> Ints:
        """Those of these started trials whose next rung fits into the room."""
        if not math.isfinite(room_seconds) or not len(rows):
            return rows
        following = self._ladders.stages_of_trials(self._table, rows, room_seconds=room_seconds)[0]
        return rows[np.isfinite(following.seconds)]

    def _standing(self, room_seconds: float) -> Ints:
        """Rows of the trials that wait at a rung below their last, and whose next one fits into the room."""
        table = self._table
        waits = table.is_open & (table.units > 0) & (table.targets == 0) & (table.units < table.ladders[:, -1])
        rows = np.nonzero(waits)[0]
        if len(rows) > self._settings.max_standing:
            rows = rows[np.argsort(table.losses[rows], kind="stable")[: self._settings.max_standing]]
        return self._fitting(rows, room_seconds)

    def _first_candidate(self, room_seconds: float) -> Candidate | None:
        """The next of those that come first, then of an even spread; what does not fit into the room is passed over."""
        begun = [record.candidate for record in self._records]
        named = (candidate for candidate in self._problem.first if candidate not in begun)
        index, num_families = len(self._table), len(self._space.families)
        spread = (self._proposals.spread(index + turn) for turn in range(num_families))
        fitting = (
            candidate
            for candidate in itertools.chain(named, spread)
            if self._ladders.first_seconds(candidate, self._space) <= room_seconds
        )
        return next(fitting, None)

    def _scout_row(self, standing: Ints) -> int | None:
        if self._num_scout_steps >= self._settings.num_scout_steps or not len(standing):
            return None
        if self._scout < 0:
            return int(standing[np.argmin(self._table.losses[standing])])
        return self._scout if self._scout in standing else None

    def _by_promise(self, standing: Ints, *, new_trials: bool, room_seconds: float) -> Suggestion | None:
        rng = np.random.default_rng([self._problem.seed, len(self._table), self._num_reports])
        self._beliefs.condition(rng)
        guarded = self._guarded(standing)
        if guarded is not None:
            return self._promotion(*guarded)
        if not self._settings.uses_model:
            return self._new_trial(self._proposals.random(rng), "a random draw") if new_trials else None
        outlook = self._beliefs.outlook(standing, num_best=self._settings.proposals.num_anchors)
        beats_seen = rng.random() < self._settings.observed_share
        threshold = outlook.lowest_seen if beats_seen else outlook.lowest_expected
        offers = [self._best_standing(standing, threshold, room_seconds)]
        if new_trials:
            offers += self._best_new(outlook, threshold, room_seconds, rng)
        best = max((offer for offer in offers if offer is not None), key=lambda offer: offer.promise, default=None)
        if best is None or best.promise * self._beliefs.loss_per_warped() < self._settings.least_rate:
            return None
        prospects = self._beliefs.prospects(best.likeness, best.index)
        reason = f"promises most ({best.promise:.3g} a second): it {prospects}"
        if best.candidate is None:
            return self._promotion(best.row, reason)
        if rng.random() < self._random_share():
            return self._new_trial(self._proposals.random(rng), "a random draw, against a model that is wrong")
        return self._new_trial(best.candidate, reason)

    def _random_share(self) -> float:
        """Where what the model proposes is mostly there already, it says too little of where anything else is."""
        fewest, most = self._settings.random_share, self._settings.random_share_of_twins
        return fewest + (most - fewest) * self._twins.share

    def _guarded(self, standing: Ints) -> tuple[int, str] | None:
        """Successive halving's promotion, by what is expected at the end: highest rung first."""
        table, guard = self._table, self._settings.guard
        if not guard or not len(standing):
            return None
        rungs, heading = table.rungs_at(table.units), table.rungs_at(np.maximum(table.targets, table.units))
        for rung in reversed(range(len(self._settings.rungs_seconds) - 1)):
            num_stood = int((table.is_open & (rungs >= rung)).sum())
            num_went_on = int((table.is_open & (heading > rung)).sum())
            here = np.nonzero(rungs[standing] == rung)[0]
            if len(here) and num_stood // guard > num_went_on:
                best = int(standing[here[np.argmin(self._beliefs.expected_ends(standing)[here])]])
                return best, f"the best expected at rung {rung}, where {num_stood} stood and {num_went_on} went on"
        return None

    def _best_standing(self, standing: Ints, threshold: float, room_seconds: float) -> _Offer | None:
        if not len(standing):
            return None
        stages = self._ladders.stages_of_trials(self._table, standing, room_seconds=room_seconds)
        likeness = self._beliefs.model.likeness(self._table.points[standing])
        promises = promise(self._beliefs.model, likeness, stages, threshold=threshold)
        best = int(np.argmax(promises))
        if not promises[best] > 0:
            return None
        return _Offer(promise=float(promises[best]), likeness=likeness, index=best, row=int(standing[best]))

    def _best_new(
        self, outlook: Outlook, threshold: float, room_seconds: float, rng: np.random.Generator
    ) -> list[_Offer]:
        """The best of each family."""
        offers = []
        anchors = [self._records[row].candidate for row in outlook.best_rows]
        for family, own_points in self._proposals.pool(anchors, rng).items():
            points = self._space.embed(family, own_points)
            stages = self._ladders.stages_of_new(
                family, self._space, own_points, self._table, room_seconds=room_seconds
            )
            likeness = self._beliefs.model.likeness(points)
            promises = promise(self._beliefs.model, likeness, stages, threshold=threshold)
            promises = promises * (self._newness(points) * self._settings.new_trial_discount)
            best = int(np.argmax(promises))
            if promises[best] > 0:
                candidate = Candidate(
                    family=family,
                    configuration=self._space.configuration(family, own_points[best]),
                    origin="promise",
                )
                offers.append(_Offer(promise=float(promises[best]), likeness=likeness, index=best, candidate=candidate))
        return offers

    def _newness(self, points: Floats) -> Floats:
        """Of candidates, shape (n,). How far all known trials are is only asked for where there were twins."""
        return self._twins.newness(_nearest(points, self._table.points)) if self._twins else np.ones(len(points))

    def _add(self, suggestion: Suggestion) -> int:
        candidate = suggestion.candidate
        point = self._space.point(candidate)
        if len(self._table):
            self._distances[suggestion.trial_id] = float(_nearest(point[None], self._table.points)[0])
        whole_units = self._problem.fidelities[candidate.family].max_units
        family = self._space.families.index(candidate.family)
        row = self._table.add(point, self._ladders.of(candidate), whole_units=whole_units, family=family)
        self._rows[suggestion.trial_id] = row
        self._records.append(
            TrialRecord(
                trial_id=suggestion.trial_id,
                candidate=candidate,
                bracket=0,
                rung=suggestion.rung,
                target_units=suggestion.stop_units,
            )
        )
        return row

    def _decide(self, row: int, loss: float, twin: str | None) -> Decision:
        record, ladder = self._records[row], self._table.ladders[row]
        if not math.isfinite(loss):
            record.state = TrialState.FAILED
            self._table.is_open[row] = False
            return Decision(action=Action.STOP, reason=f"its loss is {loss}")
        if record.is_short_of_its_rung:
            record.state = TrialState.PAUSED
            self._unfinished[row] = None
            return Decision(
                action=Action.PAUSE, reason=f"cut at {record.units} of {record.target_units} units by its time limit"
            )
        record.rung = int(np.searchsorted(ladder, record.units, side="right")) - 1
        record.losses.update(dict.fromkeys(np.nonzero(ladder == record.units)[0].tolist(), loss))
        if record.units >= ladder[-1]:
            record.state = TrialState.COMPLETE
            return Decision(action=Action.COMPLETE, reason=f"at the top rung with {record.units} units")
        record.state = TrialState.PAUSED
        if twin is not None:
            self._table.is_open[row] = False
            return Decision(action=Action.PAUSE, reason=f"equals {twin} to the last digit, which stands for both")
        peers = self._table.losses[self._table.units >= record.units]
        rank = 1 + int((peers < loss).sum())
        return Decision(
            action=Action.PAUSE, reason=f"rank {rank} of {len(peers)} that came as far as rung {record.rung}"
        )

    def _growing(self, record: TrialRecord, loss: float, decision: Decision) -> Decision:
        """The decision, with what grew because of the report."""
        if record.state is TrialState.FAILED or record.is_short_of_its_rung:
            return decision
        own_point = self._space.own_point(record.candidate.family, record.candidate.configuration)
        grown = self._bounds.observe(record.candidate, own_point, rung=record.rung, loss=loss)
        return replace(decision, reason=f"{decision.reason}; {grown}") if grown else decision

    def _new_trial(self, candidate: Candidate, reason: str) -> Suggestion:
        return Suggestion(
            trial_id=f"t{len(self._table):04d}",
            candidate=candidate,
            rung=0,
            start_units=0,
            stop_units=int(self._ladders.of(candidate)[0]),
            reason=f"new {candidate.family} ({candidate.origin}), {reason}",
        )

    def _promotion(self, row: int, reason: str) -> Suggestion:
        ladder = self._table.ladders[row]
        stop_units = int(ladder[np.searchsorted(ladder, self._table.units[row], side="right")])
        return self._to_units(row, stop_units, reason)

    def _to_units(self, row: int, stop_units: int, reason: str) -> Suggestion:
        record, ladder = self._records[row], self._table.ladders[row]
        return Suggestion(
            trial_id=record.trial_id,
            candidate=record.candidate,
            rung=int(np.searchsorted(ladder, stop_units, side="right")) - 1,
            start_units=record.units,
            stop_units=stop_units,
            reason=reason,
        )


def _nearest(points: Floats, known: Floats) -> Floats:
    """Distance of each point to the nearest known one, shape (n,)."""
    squared = (points**2).sum(axis=1)[:, None] + (known**2).sum(axis=1)[None, :] - 2 * points @ known.T
    return np.asarray(np.sqrt(np.maximum(squared.min(axis=1), 0.0)))
