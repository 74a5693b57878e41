"""Cost-aware Hyperband: what it keeps in any order of reports, and that it is worth its thinking."""

from __future__ import annotations

import heapq
import math
import statistics
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcluster.search import (
    Action,
    AsyncHyperband,
    Candidate,
    CostAwareHyperband,
    CostAwareSettings,
    CostTerms,
    Decision,
    Fidelity,
    HyperbandSettings,
    RandomWithinFamily,
    SearchPolicy,
    SearchProblem,
    Suggestion,
    TrialState,
)
from mlcluster.search.beliefs import BeliefSettings
from mlcluster.search.curve_model import CurveModel
from mlcluster.search.proposals import ProposalShape
from mlcluster.search.trial_table import TrialTable
from mlcluster.spec import Configuration, FloatDomain, SearchSpace

RUNGS = (1, 3, 9, 27)
SPACE = {name: FloatDomain(low=0.0, high=1.0, default=0.5) for name in ("x", "y")}
SMALL = ProposalShape(num_even=30, num_near=10, num_anchors=2)
"""Few proposals, where it is not the quality of the search that is tested."""


def policy(
    *,
    seed: int = 0,
    max_units: int = 27,
    families: tuple[str, ...] = ("toy",),
    first: tuple[Candidate, ...] = (),
    num_first: int = 4,
    unit_seconds: float = 1.0,
    space: SearchSpace = SPACE,
    **chosen: object,
) -> CostAwareHyperband:
    """Over `families`, all alike. A unit is nominally `unit_seconds` long, and the rungs are `RUNGS` units."""

    def nominal_seconds(configuration: Configuration, units: int) -> float:
        return units * unit_seconds

    asked: dict[str, object] = {"proposals": SMALL, "num_first": num_first, **chosen}
    rungs_seconds = tuple(unit_seconds * units for units in RUNGS)
    fidelity = Fidelity(max_units=max_units, nominal_seconds=nominal_seconds)
    problem = SearchProblem(
        spaces=dict.fromkeys(families, space), fidelities=dict.fromkeys(families, fidelity), first=first, seed=seed
    )
    return CostAwareHyperband(CostAwareSettings(rungs_seconds=rungs_seconds, **asked), problem)  # type: ignore[arg-type]


def loss_of(suggestion: Suggestion) -> float:
    """Falls with units, to a floor that rises with the distance from (0.7, 0.2)."""
    place = suggestion.candidate.configuration
    floor = math.hypot(float(place["x"]) - 0.7, float(place["y"]) - 0.2)
    return floor + math.exp(-suggestion.stop_units / (2 + 8 * float(place["x"])))


def work(
    search: CostAwareHyperband, num_pieces: int, *, loss: Callable[[Suggestion], float] = loss_of, seconds: float = 1.0
) -> list[tuple[Suggestion, Decision]]:
    """One worker's next pieces, each unit `seconds` long."""
    done = []
    for _ in range(num_pieces):
        suggestion = search.suggest()
        assert suggestion is not None
        search.accept(suggestion)
        took = seconds * (suggestion.stop_units - suggestion.start_units)
        decision = search.report(suggestion.trial_id, units=suggestion.stop_units, loss=loss(suggestion), seconds=took)
        done.append((suggestion, decision))
    return done


@dataclass
class Run:
    """Workers that finish, are cut or are lost in an order of their own; checks each suggestion and each trial."""

    search: CostAwareHyperband
    max_trials: int = 12
    running: dict[str, Suggestion] = field(default_factory=dict)
    units: dict[str, int] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    """Failed, complete, or given up: they never go on."""

    def start(self) -> bool:
        may_start = len(self.search.trials) < self.max_trials
        suggestion = self.search.suggest(new_trials=may_start)
        assert self.search.suggest(new_trials=may_start) == suggestion, "asking twice has changed something"
        if suggestion is None:
            return False
        self._check(suggestion, may_start=may_start)
        self.search.accept(suggestion)
        self.running[suggestion.trial_id] = suggestion
        self.units.setdefault(suggestion.trial_id, 0)
        return True

    def _check(self, suggestion: Suggestion, *, may_start: bool) -> None:
        assert suggestion.reason
        assert suggestion.trial_id not in self.running
        assert suggestion.trial_id not in self.ended
        assert may_start or suggestion.trial_id in self.units
        assert suggestion.start_units == self.units.get(suggestion.trial_id, 0)
        assert suggestion.start_units < suggestion.stop_units
        assert suggestion.stop_units == RUNGS[suggestion.rung]

    def happen(self, position: int, event: str, loss: float) -> None:
        trial_id = list(self.running)[position % len(self.running)]
        suggestion = self.running.pop(trial_id)
        if event == "lost":
            self.search.lose(trial_id, units=suggestion.start_units)
        elif event == "given up":
            self.search.lose(trial_id, units=suggestion.start_units)
            self.search.give_up(trial_id)
            self.ended.add(trial_id)
        else:
            is_cut = event == "cut" and suggestion.stop_units > suggestion.start_units + 1
            units = suggestion.start_units + 1 if is_cut else suggestion.stop_units
            decision = self.search.report(trial_id, units=units, loss=loss, seconds=float(units))
            assert decision.reason
            self.units[trial_id] = units
            if decision.action in (Action.STOP, Action.COMPLETE):
                self.ended.add(trial_id)
        self._check_records()

    def _check_records(self) -> None:
        states = {trial.trial_id: trial.state for trial in self.search.trials}
        assert {name for name, state in states.items() if state is TrialState.RUNNING} == set(self.running)
        assert {trial.trial_id: trial.units for trial in self.search.trials} == self.units
        assert all(states[name] in (TrialState.FAILED, TrialState.COMPLETE) for name in self.ended)


events = st.tuples(
    st.integers(0, 3),
    st.sampled_from(["done", "done", "done", "done", "cut", "lost", "given up"]),
    st.one_of(st.floats(-10.0, 10.0), st.sampled_from([0.5, math.inf, math.nan])),
)


@settings(max_examples=25, deadline=None)
@given(steps=st.lists(events, max_size=25), num_workers=st.integers(1, 4), uses_model=st.booleans())
def test_trials_only_climb_their_ladders_and_none_trains_twice_at_once_whatever_happens(
    steps: list[tuple[int, str, float]], num_workers: int, uses_model: bool
) -> None:
    run = Run(policy(uses_model=uses_model, guard=2))
    for position, event, loss in steps:
        while len(run.running) < num_workers and run.start():
            pass
        if not run.running:
            break
        run.happen(position, event, loss)


@pytest.mark.parametrize("seed", [0, 5])
def test_the_same_calls_give_the_same_decisions(seed: int) -> None:
    assert work(policy(seed=seed), 25) == work(policy(seed=seed), 25)


def test_other_seeds_give_other_decisions() -> None:
    one, other = ([suggestion.candidate for suggestion, _ in work(policy(seed=seed), 12)] for seed in (0, 1))
    assert one != other


def test_asking_changes_nothing_that_is_decided_later() -> None:
    asked, left_alone = policy(), policy()
    for _ in range(20):
        for room in (1.5, 10.0, math.inf):
            for new_trials in (True, False):
                asked.suggest(new_trials=new_trials, room_seconds=room)
        assert work(asked, 1) == work(left_alone, 1)


def test_each_suggestion_and_each_decision_says_why() -> None:
    for suggestion, decision in work(policy(), 25):
        assert suggestion.reason
        assert decision.reason


def test_what_is_given_first_is_tried_first_and_in_its_order() -> None:
    first = tuple(
        Candidate(family="toy", configuration={"x": 0.1 * index, "y": 0.5}, origin="default") for index in range(6)
    )
    search = policy(first=first, num_first=4)
    started = [suggestion for suggestion, _ in work(search, 6)]
    assert tuple(suggestion.candidate for suggestion in started) == first
    assert [suggestion.trial_id for suggestion in started] == [f"t{index:04d}" for index in range(6)]
    assert started[0].reason == "new toy (default), one of the first"


def test_the_best_of_the_first_climbs_before_the_model_is_asked() -> None:
    done = work(policy(num_scout_steps=2), 6)
    best = min(done[:4], key=lambda one: loss_of(one[0]))[0].trial_id
    assert [suggestion.trial_id for suggestion, _ in done[4:]] == [best, best]
    assert [suggestion.stop_units for suggestion, _ in done[4:]] == [3, 9]


def test_without_the_model_one_in_five_at_a_rung_goes_on_and_no_more() -> None:
    done = work(policy(uses_model=False, guard=5, num_scout_steps=0), 200)
    came, went_on = dict.fromkeys(RUNGS, 0), dict.fromkeys(RUNGS, 0)
    for suggestion, _ in done:
        owed = [units for units in RUNGS[:-1] if came[units] // 5 > went_on[units]]
        # The highest rung is served first, and a new trial only starts where none is owed its promotion.
        assert suggestion.start_units == (owed[-1] if owed else 0)
        if owed:
            went_on[suggestion.start_units] += 1
        came[suggestion.stop_units] += 1
    assert came[27] >= 1


def test_where_two_rungs_owe_a_promotion_the_higher_is_served_first() -> None:
    search = policy(uses_model=False, guard=5, num_first=30, num_scout_steps=0)
    for wave in (30, 5):
        sent = []
        for _ in range(wave):
            suggestion = search.suggest()
            assert suggestion is not None
            search.accept(suggestion)
            sent.append(suggestion)
        for suggestion in sent:
            search.report(suggestion.trial_id, units=suggestion.stop_units, loss=loss_of(suggestion), seconds=1.0)
    # Of 30 at one unit six go on, of whom five have; of these five one goes on.
    served = [suggestion.start_units for suggestion, _ in work(search, 2)]
    assert served == [3, 1]


def test_without_the_model_the_best_of_a_rung_is_the_one_that_goes_on() -> None:
    """All curves fall alike, so that the lowest loss is also what is expected to end lowest."""
    search = policy(uses_model=False, guard=5, num_scout_steps=0)

    def loss(suggestion: Suggestion) -> float:
        return 1 + float(suggestion.candidate.configuration["x"]) + 1 / suggestion.stop_units

    done = work(search, 6, loss=loss)
    best = min(done[:5], key=lambda one: loss(one[0]))[0].trial_id
    assert (done[5][0].trial_id, done[5][0].start_units, done[5][0].stop_units) == (best, 1, 3)
    assert done[5][0].reason == "the best expected at rung 0, where 5 stood and 0 went on"


def test_without_the_model_and_the_guard_nothing_is_promoted() -> None:
    done = work(policy(uses_model=False, guard=0, num_scout_steps=0), 20)
    assert all(suggestion.start_units == 0 for suggestion, _ in done)


@pytest.mark.parametrize("room", [0.4, 1.2, 2.5, 7.0, 30.0])
def test_nothing_is_suggested_that_cannot_end_within_the_room_once_costs_are_known(room: float) -> None:
    search = policy(costs=CostTerms(floor_share=0.0))
    work(search, 25, seconds=1.0)
    suggested = 0
    for _ in range(10):
        suggestion = search.suggest(room_seconds=room)
        if suggestion is None:
            break
        suggested += 1
        assert suggestion.stop_units - suggestion.start_units <= room * 1.1, suggestion
        search.accept(suggestion)
    assert (suggested > 0) == (room > 1.1)


def test_what_costs_beside_the_training_has_to_fit_as_well() -> None:
    search = policy(costs=CostTerms(floor_share=0.0, overhead_seconds=100.0))
    work(search, 12)
    assert search.suggest(room_seconds=99.0) is None
    assert search.suggest(room_seconds=110.0) is not None


def test_the_guard_promotes_nothing_that_cannot_end_within_the_room_either() -> None:
    search = policy(uses_model=False, guard=5, num_first=5, num_scout_steps=0)
    work(search, 5)
    promoted = search.suggest(room_seconds=2.5)
    assert promoted is not None
    assert (promoted.start_units, promoted.stop_units) == (1, 3)
    new = search.suggest(room_seconds=1.5)
    assert new is not None
    assert (new.start_units, new.stop_units) == (0, 1)


def test_of_two_families_that_are_as_good_the_cheaper_is_tried_more() -> None:
    """Nominal seconds are the same; what each really takes has to be seen."""
    search = policy(families=("cheap", "dear"), costs=CostTerms(floor_share=0.0), guard=0)
    started = []
    for _ in range(40):
        suggestion = search.suggest()
        assert suggestion is not None
        search.accept(suggestion)
        took = float(suggestion.stop_units - suggestion.start_units)
        slowness = 10.0 if suggestion.candidate.family == "dear" else 1.0
        search.report(
            suggestion.trial_id, units=suggestion.stop_units, loss=loss_of(suggestion), seconds=slowness * took
        )
        if not suggestion.start_units:
            started.append(suggestion.candidate.family)
    after_the_first = started[4:]
    assert len(after_the_first) >= 5
    assert after_the_first.count("cheap") > 3 * after_the_first.count("dear")


def test_of_equal_losses_the_first_stands_for_all_and_the_others_never_go_on() -> None:
    done = work(policy(), 20, loss=lambda suggestion: 1 / suggestion.stop_units)
    twins = {suggestion.trial_id for suggestion, decision in done if "equals" in decision.reason}
    assert len(twins) >= 8
    assert "t0000" not in twins
    assert all(decision.action is Action.PAUSE for suggestion, decision in done if "equals" in decision.reason)
    assert not twins & {suggestion.trial_id for suggestion, _ in done if suggestion.start_units}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_trial_whose_loss_is_not_finite_stops_for_good(bad: float) -> None:
    search = policy()

    def loss(suggestion: Suggestion) -> float:
        return bad if int(suggestion.trial_id[1:]) % 3 == 1 else loss_of(suggestion)

    done = work(search, 30, loss=loss)
    failed = {suggestion.trial_id for suggestion, decision in done if decision.action is Action.STOP}
    assert failed == {trial.trial_id for trial in search.trials if int(trial.trial_id[1:]) % 3 == 1}
    assert len(failed) >= 3
    assert all(search.trial(name).state is TrialState.FAILED for name in failed)
    assert not failed & {suggestion.trial_id for suggestion, _ in done if suggestion.start_units}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_where_trainings_diverge_fewer_are_tried(bad: float) -> None:
    def loss(suggestion: Suggestion) -> float:
        return bad if float(suggestion.candidate.configuration["y"]) > 0.4 else loss_of(suggestion)

    started = [suggestion for suggestion, _ in work(policy(guard=0), 60, loss=loss) if not suggestion.start_units]
    # Those that the model chose: even draws know nothing, which is what they are for.
    chosen = [suggestion for suggestion in started[8:] if suggestion.candidate.origin == "promise"]
    later = [float(suggestion.candidate.configuration["y"]) > 0.4 for suggestion in chosen]
    assert len(later) >= 8
    assert sum(later) < 0.25 * len(later)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_reasons_speak_of_the_best_loss_that_is_a_number(bad: float) -> None:
    done = work(policy(), 25, loss=lambda suggestion: bad if suggestion.trial_id == "t0000" else loss_of(suggestion))
    told = [suggestion.reason for suggestion, _ in done if "best seen" in suggestion.reason]
    assert told
    assert not any(word in reason for reason in told for word in ("nan", "inf)"))


def test_where_every_training_fails_new_ones_are_tried_for_ever() -> None:
    done = work(policy(), 15, loss=lambda _: math.inf)
    assert all(suggestion.start_units == 0 for suggestion, _ in done)


def test_a_trial_that_was_cut_or_lost_goes_on_before_anything_else_until_it_is_given_up() -> None:
    search = policy()
    work(search, 4)
    sent = search.suggest()
    assert sent is not None
    search.accept(sent)
    decision = search.report(sent.trial_id, units=2, loss=0.05)
    assert (decision.action, decision.reason) == (Action.PAUSE, "cut at 2 of 3 units by its time limit")
    going_on = search.suggest(new_trials=False)
    assert going_on is not None
    assert (going_on.trial_id, going_on.rung, going_on.start_units, going_on.stop_units) == (sent.trial_id, 1, 2, 3)
    search.accept(going_on)
    search.lose(sent.trial_id, units=2)
    assert search.suggest() == going_on
    search.give_up(sent.trial_id)
    assert search.trial(sent.trial_id).state is TrialState.FAILED
    after = search.suggest()
    assert after is not None
    assert after.trial_id != sent.trial_id


def test_a_lost_trial_stands_where_its_checkpoint_is() -> None:
    search = policy()
    suggestion = search.suggest()
    assert suggestion is not None
    search.accept(suggestion)
    search.lose("t0000", units=0)
    assert (search.trial("t0000").units, search.trial("t0000").state) == (0, TrialState.PAUSED)
    again = search.suggest()
    assert again is not None
    assert (again.trial_id, again.start_units, again.stop_units) == ("t0000", 0, 1)


def test_a_trial_that_was_cut_lets_others_pass_where_its_rest_does_not_fit() -> None:
    search = policy(costs=CostTerms(floor_share=0.0))
    work(search, 5)
    sent = search.suggest()
    assert sent is not None
    assert (sent.start_units, sent.stop_units) == (3, 9)
    search.accept(sent)
    search.report(sent.trial_id, units=4, loss=0.5, seconds=1.0)
    other = search.suggest(room_seconds=3.0)
    assert other is not None
    assert other.trial_id != sent.trial_id
    again = search.suggest(room_seconds=6.0)
    assert again is not None
    assert (again.trial_id, again.start_units, again.stop_units) == (sent.trial_id, 4, 9)


def test_several_that_were_lost_go_on_in_the_order_in_which_they_were_lost() -> None:
    search = policy()
    for _ in range(3):
        suggestion = search.suggest()
        assert suggestion is not None
        search.accept(suggestion)
    for name in ("t0002", "t0000"):
        search.lose(name, units=0)
    order = []
    for _ in range(2):
        suggestion = search.suggest(new_trials=False)
        assert suggestion is not None
        order.append(suggestion.trial_id)
        search.accept(suggestion)
    assert order == ["t0002", "t0000"]


def test_a_short_training_stands_at_every_higher_rung_for_nothing() -> None:
    search = policy(max_units=3)
    done = work(search, 5)
    best = done[-1][0]
    assert best.stop_units == 3
    assert done[-1][1] == Decision(action=Action.COMPLETE, reason="at the top rung with 3 units")
    assert set(search.trial(best.trial_id).losses) == {0, 1, 2, 3}


def test_with_nothing_known_and_no_new_trials_allowed_there_is_nothing_to_do() -> None:
    assert policy().suggest(new_trials=False) is None


def test_all_families_are_tried_at_first() -> None:
    search = policy(families=("toy", "other"))
    done = work(search, 4)
    assert {suggestion.candidate.family for suggestion, _ in done} == {"toy", "other"}


def test_a_decision_looks_at_no_more_observations_than_it_may_however_many_trials_are_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A decision is cubic in them, so that it is their number that must not grow."""
    rows: list[int] = []
    condition = CurveModel.condition

    def counted(self: CurveModel, points: np.ndarray, fidelities: np.ndarray, losses: np.ndarray) -> None:
        rows.append(len(points))
        condition(self, points, fidelities, losses)

    search = policy(beliefs=BeliefSettings(max_observations=40), num_first=1_000, num_scout_steps=0)
    work(search, 1_000)
    monkeypatch.setattr(CurveModel, "condition", counted)
    work(search, 5)
    assert len(search.trials) + sum(trial.rung > 0 for trial in search.trials) >= 1_000
    assert 5 <= len(rows) <= 10
    assert max(rows) <= 40


def test_beside_them_it_looks_at_half_as_many_running_trials_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    condition = CurveModel.condition

    def counted(self: CurveModel, points: np.ndarray, fidelities: np.ndarray, losses: np.ndarray) -> None:
        rows.append(len(points))
        condition(self, points, fidelities, losses)

    search = policy(beliefs=BeliefSettings(max_observations=40), num_first=10, num_scout_steps=0)
    work(search, 200, loss=loss_of)
    monkeypatch.setattr(CurveModel, "condition", counted)
    for _ in range(60):
        suggestion = search.suggest()
        assert suggestion is not None
        search.accept(suggestion)
    assert max(rows) == 40 + 20


def test_the_memory_of_the_table_is_that_of_its_columns() -> None:
    tracemalloc.start()
    try:
        table = TrialTable(num_axes=20, num_rungs=5)
        for _ in range(10_000):
            table.add(np.zeros(20), np.arange(1, 6), whole_units=5)
        size, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    row = 8 * (20 + 5 + 5)
    assert size < 2 * 10_000 * row
    assert peak < 4 * 10_000 * row
    assert len(table) == 10_000


def test_the_table_keeps_its_rows_when_it_grows() -> None:
    table = TrialTable(num_axes=1, num_rungs=2)
    for index in range(200):
        row = table.add(np.array([float(index)]), np.array([1, index + 1]), whole_units=index + 1)
        table.seconds[row] = index
    assert table.points[:, 0].tolist() == [float(index) for index in range(200)]
    assert table.seconds.tolist() == [float(index) for index in range(200)]
    assert np.isinf(table.losses).all()
    assert table.is_open.all()
    assert table.rungs_at(np.full(200, 100)).tolist() == [1] * 100 + [0] * 100


PAGE = {name: FloatDomain(low=0.0, high=1.0, default=0.5) for name in ("x", "y", "z")}
BEST_SHARE = 0.01


def page_loss(configuration: Configuration, units: int) -> float:
    """A bowl around (0.3, 0.6, 0.4); how fast it is neared depends on `y`."""
    place = np.array([float(configuration[name]) for name in ("x", "y", "z")])
    floor = float(((place - (0.3, 0.6, 0.4)) ** 2).sum())
    return floor + 0.5 * math.exp(-units / (3 + 6 * float(configuration["y"])))


def page_seconds(configuration: Configuration, units: int) -> float:
    """A unit takes between 1 and 3 seconds; what is nominal knows nothing of it."""
    return units * 3.0 ** float(configuration["x"])


def seconds_to_the_best(search: SearchPolicy, *, threshold: float, num_workers: int = 4, most: float = 4e3) -> float:
    """Seconds of all workers until a loss among the best 1 % is reported; `most` where it is not."""
    now, count = 0.0, 0
    queue: list[tuple[float, int, Suggestion]] = []
    while now * num_workers < most:
        while len(queue) < num_workers and (suggestion := search.suggest()) is not None:
            search.accept(suggestion)
            place = suggestion.candidate.configuration
            took = page_seconds(place, suggestion.stop_units) - page_seconds(place, suggestion.start_units)
            heapq.heappush(queue, (now + took, count, suggestion))
            count += 1
        now, _, done = heapq.heappop(queue)
        place = done.candidate.configuration
        took = page_seconds(place, done.stop_units) - page_seconds(place, done.start_units)
        loss = page_loss(place, done.stop_units)
        if loss <= threshold:
            return now * num_workers
        search.report(done.trial_id, units=done.stop_units, loss=loss, seconds=took)
    return most


def test_it_reaches_the_best_hundredth_for_less_than_asynchronous_hyperband() -> None:
    rng = np.random.default_rng(0)
    places = [dict(zip(PAGE, map(float, point), strict=True)) for point in rng.random((4_000, 3))]
    threshold = float(np.quantile([page_loss(place, RUNGS[-1]) for place in places], BEST_SHARE))
    fidelity = Fidelity(max_units=RUNGS[-1], nominal_seconds=lambda _, units: float(units))
    rungs_seconds = tuple(map(float, RUNGS))
    costs: dict[str, list[float]] = {"promise": [], "halving": []}
    for seed in range(7):
        problem = SearchProblem(spaces={"toy": PAGE}, fidelities={"toy": fidelity}, seed=seed)
        promise = CostAwareHyperband(CostAwareSettings(rungs_seconds=rungs_seconds, proposals=SMALL), problem)
        halving = AsyncHyperband(
            HyperbandSettings(rungs_seconds=rungs_seconds),
            source=BestDraws({"toy": PAGE}, seed=seed),
            fidelities={"toy": fidelity},
        )
        costs["promise"].append(seconds_to_the_best(promise, threshold=threshold))
        costs["halving"].append(seconds_to_the_best(halving, threshold=threshold))
    assert statistics.median(costs["promise"]) < 0.8 * statistics.median(costs["halving"]), costs


class BestDraws(RandomWithinFamily):
    """Even draws from the one family there is."""

    def propose(self, index: int, observations: object) -> Candidate:
        return self.propose_in("toy", index, ())


@pytest.mark.parametrize(("least_rate", "goes_on"), [(0.0, True), (1e-9, True), (1e6, False)])
def test_nothing_is_suggested_that_promises_less_than_it_must(least_rate: float, goes_on: bool) -> None:
    settings_ = CostAwareSettings(
        rungs_seconds=(1.0, 3.0, 9.0), least_rate=least_rate, guard=0, num_first=4, num_scout_steps=0
    )
    space = {"x": FloatDomain(low=0.0, high=1.0, default=0.5)}
    fidelity = Fidelity(max_units=9, nominal_seconds=lambda _, units: float(units))
    search = CostAwareHyperband(settings_, SearchProblem(spaces={"toy": space}, fidelities={"toy": fidelity}, seed=0))
    for _ in range(4):
        first = search.suggest()
        assert first is not None
        search.accept(first)
        loss = (float(first.candidate.configuration["x"]) - 0.3) ** 2
        search.report(first.trial_id, units=first.stop_units, loss=loss, seconds=1.0)
    assert (search.suggest() is not None) is goes_on


def test_where_the_best_stand_at_a_bound_the_search_goes_on_beyond_it_unless_it_is_pinned() -> None:
    def loss(suggestion: Suggestion) -> float:
        return (float(suggestion.candidate.configuration["x"]) - 1.6) ** 2 + 1 / suggestion.stop_units

    def farthest(space: SearchSpace) -> tuple[float, str]:
        search = policy(space=space, seed=1)
        done = work(search, 60, loss=loss)
        told = " ".join(decision.reason for _, decision in done)
        return max(float(trial.candidate.configuration["x"]) for trial in search.trials), told

    growing = {**SPACE, "x": FloatDomain(low=0.0, high=1.0, default=0.5, most=2.0)}
    x, told = farthest(growing)
    assert 1.2 < x <= 2.0
    assert "toy.x may now go up to 1.25, for the best 3 stand at its bound" in told
    x, told = farthest(SPACE)
    assert x <= 1.0
    assert "may now go" not in told


def test_first_trials_that_do_not_fit_into_the_room_are_passed_over() -> None:
    def nominal_seconds(configuration: Configuration, units: int) -> float:
        return units * (100.0 if float(configuration["x"]) > 0.5 else 1.0)

    fidelity = Fidelity(max_units=27, nominal_seconds=nominal_seconds)
    first = tuple(
        Candidate(family="toy", configuration={"x": x, "y": 0.5}, origin="portfolio") for x in (0.9, 0.8, 0.1, 0.7)
    )
    problem = SearchProblem(spaces={"toy": SPACE}, fidelities={"toy": fidelity}, first=first, seed=0)

    def begun(room_seconds: float) -> list[Candidate]:
        search = CostAwareHyperband(CostAwareSettings(rungs_seconds=(1, 3, 9, 27), num_first=4), problem)
        for _ in range(4):
            suggestion = search.suggest(room_seconds=room_seconds)
            if suggestion is not None:
                search.accept(suggestion)
        return [trial.candidate for trial in search.trials]

    assert begun(math.inf) == list(first)
    assert begun(50.0)[0] == first[2]
    assert all(float(candidate.configuration["x"]) <= 0.5 for candidate in begun(50.0))
    assert begun(0.5) == []
