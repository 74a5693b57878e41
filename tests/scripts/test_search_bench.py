"""What stands behind `bench_search.py`: the textbook peers, earlier studies, and the figures, by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from search_bench.draws import as_configuration, random_configurations, rung_epochs
from search_bench.halving import AshaPromotion, Hyperband, RandomSearch
from search_bench.runs import Results, Run, TaskFacts, read_results, write_results
from search_bench.score import score_policy
from search_bench.task import PolicyTask
from search_bench.warm import past_studies

from mlcluster.errors import DataError
from mlcluster.spec import ChoiceDomain, FloatDomain, IntDomain
from mlcluster.tune import AskTell, Piece, PieceOutcome, SearchSettings
from tests.tune.benchmark_folders import TABLE_EPOCHS, write_table

SPACE = {"rate": FloatDomain(low=0.01, high=1, default=0.1, log=True), "width": IntDomain(low=1, high=9, default=3)}


def policy_task(max_epochs: int = 9, seed: int = 0) -> PolicyTask:
    return PolicyTask(space=SPACE, max_epochs=max_epochs, seed=seed, num_workers=1)


def answer(policy: AskTell, losses: dict[str, float]) -> Iterator[Piece]:
    """Each piece of a lone worker; trials report their losses, whatever their epoch."""
    while True:
        piece = policy.ask(room_seconds=1.0)
        assert piece is not None
        yield piece
        epochs = np.arange(1.0, piece.stop_units - piece.start_units + 1)
        loss = losses.get(piece.trial_id, 1.0)
        policy.tell(piece.trial_id, PieceOutcome(losses=np.full(len(epochs), loss), elapsed_seconds=epochs))


def steps(policy: AskTell, losses: dict[str, float], number: int) -> list[tuple[str, int, int]]:
    pieces = [piece for piece, _ in zip(answer(policy, losses), range(number), strict=False)]
    return [(piece.trial_id, piece.start_units, piece.stop_units) for piece in pieces]


@pytest.mark.parametrize(
    ("max_epochs", "eta", "rungs"),
    [(50, 3, (1, 3, 9, 27, 50)), (9, 3, (1, 3, 9)), (50, 4, (1, 4, 16, 50)), (1, 3, (1,))],
)
def test_rungs_rise_by_the_reduction_factor_to_the_last_epoch(
    max_epochs: int, eta: int, rungs: tuple[int, ...]
) -> None:
    assert rung_epochs(max_epochs, reduction_factor=eta) == rungs


def test_the_best_of_three_is_promoted_and_the_best_of_three_promoted_again() -> None:
    losses = {"1": 0.5, "3": 0.4, "7": 0.3}
    # Of the first three trials 1 goes on; of six 3 does too, of nine 7; then three stand at the second rung.
    assert steps(AshaPromotion(policy_task()), losses, 14) == [
        *[("0", 0, 1), ("1", 0, 1), ("2", 0, 1), ("1", 1, 3)],
        *[("3", 0, 1), ("4", 0, 1), ("5", 0, 1), ("3", 1, 3)],
        *[("6", 0, 1), ("7", 0, 1), ("8", 0, 1), ("7", 1, 3), ("7", 3, 9)],
        ("9", 0, 1),
    ]


def test_a_trial_that_diverged_is_promoted_last() -> None:
    losses = {"0": float("inf"), "1": float("inf"), "2": 0.5}
    assert steps(AshaPromotion(policy_task()), losses, 4)[-1] == ("2", 1, 3)


def test_hyperband_halves_nine_then_five_then_trains_three_in_full() -> None:
    losses = {"4": 0.1, "5": 0.2, "6": 0.3, "10": 0.1}
    found = steps(Hyperband(policy_task()), losses, 9 + 3 + 1 + 5 + 1 + 3)
    assert found[:9] == [(str(number), 0, 1) for number in range(9)]
    assert found[9:13] == [("4", 1, 3), ("5", 1, 3), ("6", 1, 3), ("4", 3, 9)]
    assert found[13:19] == [*[(str(number), 0, 3) for number in range(9, 14)], ("10", 3, 9)]
    assert found[19:] == [(str(number), 0, 9) for number in range(14, 17)]


def test_hyperband_starts_the_next_bracket_while_a_rung_waits() -> None:
    policy = Hyperband(policy_task())
    pieces = [policy.ask(room_seconds=1.0) for _ in range(10)]
    assert (pieces[9].trial_id, pieces[9].stop_units) == ("9", 3)
    policy.tell("0", PieceOutcome(losses=np.ones(1), elapsed_seconds=np.ones(1)))
    assert policy.ask(room_seconds=1.0).trial_id == "10"


def test_peers_of_one_seed_draw_the_same_configurations() -> None:
    first = next(random_configurations(SPACE, 7))
    for peer in (RandomSearch, AshaPromotion, Hyperband):
        assert peer(policy_task(seed=7)).ask(room_seconds=1.0).configuration == first
    assert next(random_configurations(SPACE, 8)) != first


def test_proposals_of_other_libraries_become_plain_numbers_within_the_bounds() -> None:
    space = {**SPACE, "kind": ChoiceDomain(options=("a", "b"), default="a")}
    plain = as_configuration(space, {"rate": np.float64(1.0000000002), "width": np.int64(4), "kind": "b", "more": 1})
    assert plain == {"rate": 1.0, "width": 4, "kind": "b"}
    assert [type(value) for value in plain.values()] == [float, int, str]


@pytest.mark.slow
def test_ray_stops_the_worse_three_quarters_at_its_rungs_and_never_resumes() -> None:
    pytest.importorskip("ray")
    from search_bench.ray_peers import asha_stopping

    found = steps(asha_stopping(policy_task(max_epochs=20)), {"0": 0.5, "1": 0.9, "2": 0.4}, 8)
    assert found == [
        *[("0", 0, 1), ("0", 1, 4), ("0", 4, 16), ("0", 16, 20)],  # the first at a rung always goes on
        ("1", 0, 1),
        *[("2", 0, 1), ("2", 1, 4), ("2", 4, 16)],
    ]


def test_earlier_studies_are_of_other_tasks_and_hold_what_was_trained(tmp_path: Path) -> None:
    folder = write_table(tmp_path / "tiny", tasks=("a", "b", "c"))
    settings = SearchSettings(num_workers=2, budget_c=5)
    found = past_studies(folder, leave_out="b", seed=1, settings=settings)
    assert [study.task for study in found] == ["a", "c"]
    for study in found:
        lengths = {len(trial.losses) for trial in study.trials}
        assert lengths <= {1, 3, TABLE_EPOCHS}
        assert len(lengths) > 1
        assert all(len(trial.losses) == len(trial.seconds) for trial in study.trials)
    assert past_studies(folder, leave_out="b", seed=1, settings=settings)[0] is found[0]


def run(policy: str, task: str, seed: int, q99: float | None, *, q999: float | None = None) -> Run:
    return Run(
        policy=policy,
        task=task,
        seed=seed,
        q95=None,
        q99=q99,
        q999=q999,
        billed=60.0,
        decision_seconds=2.0,
        median_decision_ms=3.0,
        decisions=4,
        trials=5,
        trace=[[0.5, 1.25]],
    )


def runs_of(policy: str, task: str, *costs: float | None) -> list[Run]:
    return [run(policy, task, seed, cost, q999=cost) for seed, cost in enumerate(costs)]


RUNS = [
    *runs_of("asha-promotion", "t/one", 10, 20, 30),
    *runs_of("asha-promotion", "t/two", 5, None, 6),
    *runs_of("other", "t/one", 5, None, 10),
    *runs_of("other", "t/two", 24, 12, 40),
]


def test_the_ratio_is_the_geometric_mean_over_tasks_of_ratios_of_medians() -> None:
    score = score_policy("other", RUNS, budget_c=60)
    # Medians 10 against 20 and 24 against 6, where a run that does not arrive costs 60.
    assert score.ratio is not None
    assert score.ratio.mean == pytest.approx((10 / 20 * 24 / 6) ** 0.5)
    assert (score.ratio.worst, score.ratio.worst_task) == (pytest.approx(4), "t/two")
    assert score.ratio.low < score.ratio.mean < score.ratio.high
    assert score.q99_share == pytest.approx(5 / 6)
    assert score.q999_share == pytest.approx(4 / 6)
    assert (score.num_tasks, score.num_seeds) == (2, 3)
    assert score == score_policy("other", RUNS, budget_c=60)


def test_the_reference_is_exactly_as_good_as_itself() -> None:
    ratio = score_policy("asha-promotion", RUNS, budget_c=60).ratio
    assert ratio is not None
    assert (ratio.mean, ratio.low, ratio.high, ratio.worst) == (1, 1, 1, 1)


def test_only_seeds_that_both_ran_are_compared() -> None:
    more = [*RUNS, run("other", "t/one", 3, 1.0), run("other", "t/three", 0, 1.0)]
    assert score_policy("other", more, budget_c=60).ratio == score_policy("other", RUNS, budget_c=60).ratio


def test_without_the_reference_there_is_no_ratio() -> None:
    assert score_policy("other", runs_of("other", "t/one", 1.0), budget_c=60).ratio is None


def test_results_come_back_as_they_were_written(tmp_path: Path) -> None:
    facts = TaskFacts(metric="accuracy", direction="maximize", q99_loss=-0.9)
    results = Results(header={"workers": 8}, tasks={"t/one": facts}, runs=RUNS)
    write_results(tmp_path / "runs.json", results)
    assert read_results(tmp_path / "runs.json") == results
    (tmp_path / "other.json").write_text('{"header": {}}')
    with pytest.raises(DataError, match=r"other\.json is no file of results"):
        read_results(tmp_path / "other.json")
