"""The virtual clock of searches: bills worked out by hand, the end of the budget, decisions that take time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcluster.errors import SpecError
from mlcluster.spec import Configuration, FloatDomain
from mlcluster.tune import (
    BenchmarkTask,
    BestSoFar,
    Curve,
    Piece,
    PieceOutcome,
    SearchRun,
    SearchSettings,
    Thresholds,
    free_decisions,
    load_benchmark,
    simulate_search,
)
from tests.tune.benchmark_folders import write_surrogate, write_table

MEAN_COST_SECONDS = 10.0


class LineCurves:
    """An epoch takes `pace` seconds; after epoch e the loss is 1 - e * pace / 10."""

    def curve(self, configuration: Configuration) -> Curve:
        pace = float(configuration["pace"])
        epochs = np.arange(1.0, 6.0)
        return Curve(losses=1 - epochs * pace / 10, seconds=epochs * pace)


TASK = BenchmarkTask(
    name="line",
    space={"pace": FloatDomain(low=1, high=4, default=2)},
    max_epochs=5,
    mean_cost_seconds=MEAN_COST_SECONDS,
    thresholds=Thresholds(q95=0.5, q99=0.0, q999=-1.0),
    source=LineCurves(),
)


def piece(trial_id: str, pace: float, start: int = 0, stop: int = 5) -> Piece:
    return Piece(trial_id=trial_id, configuration={"pace": pace}, start_units=start, stop_units=stop)


class Script:
    """Hands out given answers in order, and writes down what it hears."""

    def __init__(self, answers: Iterable[Piece | None]) -> None:
        self._answers = deque(answers)
        self.rooms: list[float] = []
        self.told: list[tuple[str, list[float], list[float]]] = []

    def ask(self, *, room_seconds: float) -> Piece | None:
        self.rooms.append(room_seconds)
        return self._answers.popleft() if self._answers else None

    def tell(self, trial_id: str, outcome: PieceOutcome) -> None:
        self.told.append((trial_id, outcome.losses.tolist(), outcome.elapsed_seconds.tolist()))


class RandomSearch:
    """Whole trainings of random configurations."""

    def __init__(self, task: BenchmarkTask, seed: int) -> None:
        self._task = task
        self._rng = np.random.default_rng(seed)
        self._num_trials = 0

    def ask(self, *, room_seconds: float) -> Piece:
        self._num_trials += 1
        configuration = {name: domain.at(self._rng.random()) for name, domain in self._task.space.items()}
        return Piece(
            trial_id=str(self._num_trials),
            configuration=configuration,
            start_units=0,
            stop_units=self._task.max_epochs,
        )

    def tell(self, trial_id: str, outcome: PieceOutcome) -> None:
        pass


class Ticking:
    """A clock that gains `seconds` between the two looks at it of each decision."""

    def __init__(self, *seconds: float) -> None:
        self._seconds = deque(seconds)
        self._now = 0.0
        self._is_second_look = False

    def __call__(self) -> float:
        if self._is_second_look:
            self._now += self._seconds.popleft() if self._seconds else 0.0
        self._is_second_look = not self._is_second_look
        return self._now


def run(script: Script, *, workers: int = 2, budget: float = 100.0) -> SearchRun:
    settings = SearchSettings(num_workers=workers, budget_c=budget)
    return simulate_search(script, TASK, settings, timer=free_decisions)


def test_all_workers_are_billed_until_the_last_is_done_idle_or_busy() -> None:
    # 5 epochs of 2 s and 5 of 4 s side by side: 20 s, of two workers, of which one idles for 10 s.
    result = run(Script([piece("a", 2), piece("b", 4)]))
    assert result.billed_c == pytest.approx(2 * 20 / MEAN_COST_SECONDS)
    assert [(trial.trial_id, trial.units) for trial in result.trials] == [("a", 5), ("b", 5)]


def test_an_improvement_counts_when_its_epoch_ends_not_when_its_piece_does() -> None:
    result = run(Script([piece("a", 2), piece("b", 4)]))
    # a reports after 2, 4, ... 10 s and b after 4, 8, ... 20 s; what b says at 4 and 8 s, a says at that moment too.
    expected = [(2, 0.8), (4, 0.6), (6, 0.4), (8, 0.2), (10, 0), (12, -0.2), (16, -0.6), (20, -1)]
    assert [(point.billed_c, round(point.loss, 9)) for point in result.trace] == [
        (pytest.approx(2 * seconds / MEAN_COST_SECONDS), loss) for seconds, loss in expected
    ]
    assert result.cost_to_q95_c == pytest.approx(1.2)
    assert result.cost_to_q99_c == pytest.approx(2.0)
    assert result.cost_to_q999_c == pytest.approx(4.0)


def test_a_run_ends_once_it_is_as_good_as_was_asked_and_what_that_cost_is_the_same() -> None:
    answers = [piece("a", 2, stop=2), piece("b", 4), piece("a", 2, start=2), piece("c", 4)]
    whole = run(Script(answers))
    settings = SearchSettings(num_workers=2, budget_c=100.0, stop_at="q95")
    script = Script(answers)
    ended = simulate_search(script, TASK, settings, timer=free_decisions)
    assert ended.cost_to_q95_c == whole.cost_to_q95_c
    assert ended.billed_c < whole.billed_c
    assert [trial_id for trial_id, _, _ in script.told] == ["a"]


def test_a_quantile_that_was_not_reached_has_no_cost() -> None:
    result = run(Script([piece("a", 1)]))
    assert (result.cost_to_q95_c, result.cost_to_q99_c) == (pytest.approx(1.0), None)


def test_a_trial_goes_on_where_it_stood_and_pays_only_for_the_new_epochs() -> None:
    script = Script([piece("a", 2, stop=2), piece("a", 2, start=2)])
    result = run(script, workers=1)
    assert result.billed_c == pytest.approx(1.0)
    assert script.told == [
        ("a", pytest.approx([0.8, 0.6]), [2.0, 4.0]),
        ("a", pytest.approx([0.4, 0.2, 0.0]), [2.0, 4.0, 6.0]),
    ]


def test_a_trial_may_be_trained_anew_and_pays_for_all_of_it() -> None:
    assert run(Script([piece("a", 2, stop=2), piece("a", 2)]), workers=1).billed_c == pytest.approx(1.4)


def test_a_piece_that_would_run_past_the_budget_is_cut_there_and_not_told() -> None:
    # 1.5 C are 7.5 s of two workers: b ends its first epoch of 4 s, not its second.
    script = Script([piece("a", 1), piece("b", 4)])
    result = run(script, budget=1.5)
    assert result.billed_c == 1.5
    assert [trial_id for trial_id, *_ in script.told] == ["a"]
    assert [(trial.trial_id, trial.units) for trial in result.trials] == [("a", 5), ("b", 0)]
    assert min(point.loss for point in result.trace) == pytest.approx(0.5)
    assert max(point.billed_c for point in result.trace) <= 1.5


def test_the_policy_hears_how_many_seconds_are_left() -> None:
    script = Script([piece("a", 1), piece("b", 2)])
    run(script, workers=1, budget=3.0)
    assert script.rooms == [30.0, 25.0, 15.0]


def test_an_idle_worker_asks_again_after_the_next_outcome() -> None:
    script = Script([piece("a", 2), None, piece("b", 1), piece("c", 1)])
    result = run(script)
    assert script.rooms == [500.0, 500.0, 490.0, 490.0, 485.0, 485.0]
    assert result.billed_c == pytest.approx(2 * 15 / MEAN_COST_SECONDS)


def test_decisions_take_turns_and_their_seconds_are_billed() -> None:
    # Asked for a: 3 s. Asked for b: 2 s more, after a's. So a runs from 3 to 8 and b from 5 to 15, where 1 s of telling
    # and 1 s of asking end the run at 17. At 8, telling and asking took 0.5 s each, and there was nothing to do.
    script = Script([piece("a", 1), piece("b", 2)])
    settings = SearchSettings(num_workers=2, budget_c=100)
    result = simulate_search(script, TASK, settings, timer=Ticking(3, 2, 0.5, 0.5, 1, 1))
    seconds = [point.billed_c * MEAN_COST_SECONDS / 2 for point in result.trace]
    assert seconds == pytest.approx([4, 5, 6, 7, 8, 11, 13, 15])
    assert result.billed_c == pytest.approx(2 * 17 / MEAN_COST_SECONDS)
    assert result.decision_seconds == pytest.approx(8)
    assert result.num_decisions == 4
    assert result.median_decision_seconds == pytest.approx(2)  # of 3, 2, 0.5 + 0.5 and 1 + 1
    assert script.rooms == pytest.approx([500, 497, 491.5, 484])


def test_a_decision_that_outlasts_the_budget_starts_nothing() -> None:
    result = simulate_search(
        Script([piece("a", 1), piece("b", 1)]), TASK, SearchSettings(num_workers=2, budget_c=1), timer=Ticking(7)
    )
    assert (result.billed_c, result.trace, result.num_decisions) == (1.0, (), 1)


def test_a_policy_that_starts_nothing_costs_nothing() -> None:
    result = run(Script([]))
    assert (result.billed_c, result.trace, result.trials) == (0.0, (), ())


@pytest.mark.parametrize(
    ("answers", "complaint"),
    [
        ([piece("a", 1), piece("a", 1)], "is being trained already"),
        ([piece("a", 1, start=2)], "starts above the 0 units"),
        ([piece("a", 1, stop=6)], "cannot be trained"),
        ([piece("a", 1, stop=0)], "cannot be trained"),
    ],
)
def test_a_policy_that_asks_for_the_impossible_is_a_bug(answers: list[Piece], complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        run(Script(answers))


@pytest.mark.parametrize(("workers", "budget"), [(0, 1.0), (1, 0.0), (1, float("nan")), (1, float("inf"))])
def test_a_budget_that_buys_nothing_is_refused(workers: int, budget: float) -> None:
    with pytest.raises(SpecError, match="give"):
        SearchSettings(num_workers=workers, budget_c=budget)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, BenchmarkTask]:
    folder = tmp_path_factory.mktemp("benchmarks")
    return {
        "table": load_benchmark(write_table(folder / "table")).task("easy"),
        "surrogate": load_benchmark(write_surrogate(folder / "surrogate")).task("one"),
    }


@pytest.mark.parametrize("kind", ["table", "surrogate"])
def test_one_seed_gives_one_record_and_another_seed_another(tasks: dict[str, BenchmarkTask], kind: str) -> None:
    def search(seed: int) -> SearchRun:
        settings = SearchSettings(num_workers=3, budget_c=5)
        return simulate_search(RandomSearch(tasks[kind], seed), tasks[kind], settings, timer=free_decisions)

    assert search(0) == search(0)
    assert search(0) != search(1)


@given(workers=st.integers(1, 9), budget=st.floats(0.01, 30), seed=st.integers(0, 99), ticks=st.lists(st.floats(0, 9)))
def test_no_run_ever_bills_more_than_its_budget(workers: int, budget: float, seed: int, ticks: list[float]) -> None:
    settings = SearchSettings(num_workers=workers, budget_c=budget)
    result = simulate_search(RandomSearch(TASK, seed), TASK, settings, timer=Ticking(*ticks))
    assert result.billed_c == budget
    bills = [point.billed_c for point in result.trace]
    assert bills == sorted(bills)
    assert all(bill <= budget for bill in bills)
    losses = [point.loss for point in result.trace]
    assert losses == sorted(set(losses), reverse=True)
    first = next((point for point in result.trace if point.loss <= TASK.thresholds.q95), None)
    assert result.cost_to_q95_c == (first and first.billed_c)


def test_a_record_says_what_was_best_when() -> None:
    assert run(Script([piece("a", 4, stop=1)])).trace == (BestSoFar(billed_c=0.8, loss=0.6),)
