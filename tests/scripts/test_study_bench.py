"""What stands behind `bench_studies.py`: traces, figures, tables and files, by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from study_bench.datasets import DATASETS, dataset_name, load_dataset, write_split_by_order
from study_bench.report import dollar_table, run_line, score_table
from study_bench.retrain import largest_gap, retrain, trainings_of
from study_bench.runs import (
    Job,
    Results,
    Run,
    TableFacts,
    check_policies,
    jobs_of,
    missing_jobs,
    read_results,
    write_results,
)
from study_bench.score import Quartiles, quartiles, reached, scores_at
from study_bench.task import Money
from study_bench.trace import Improvement, Report, best_at, improvements_of, usd_to_reach, with_tests

from mlcluster.errors import DataError, SpecError
from mlcluster.train import CheckpointFolder, Matrices, Segment, TrainingData, run_segment


def report(seconds: float, validation: float, trial: str = "a", units: int = 1) -> Report:
    return Report(
        seconds=seconds,
        validation=validation,
        trial=trial,
        family="tree",
        configuration={"max_depth": 3},
        seed=7,
        units=units,
    )


def improvement(usd: float, validation: float, test: float | None = None) -> Improvement:
    return Improvement(
        usd=usd, seconds=10 * usd, validation=validation, trial=f"t{usd}", family="tree", units=1, seed=0, test=test
    )


def run(policy: str, seed: int, *scores: tuple[float, float], dataset: str = "one") -> Run:
    """Each score is (dollars, validation); the test score is a tenth lower."""
    return Run(
        dataset=dataset,
        policy=policy,
        seed=seed,
        usd=4.0,
        seconds=40.0,
        trials=5,
        failed=0,
        reports=9,
        trace=[improvement(usd, validation, validation - 0.1) for usd, validation in scores],
        validation_gap=0.0,
        overhead_seconds={"connect": 1.0, "search": 0.5, "test": 2.0},
    )


RUNS = [
    run("ours", 0, (0.5, 0.8), (1.0, 0.9)),
    run("ray-default", 0, (1.0, 0.7), (4.0, 0.8)),
    run("ours", 1, (0.5, 0.7), (3.0, 0.8)),
    run("ray-default", 1, (2.0, 0.9)),
    run("ours", 2, (2.0, 0.6)),
    run("ray-default", 2, (2.0, 0.7)),
]
FACTS = TableFacts(metric="roc_auc", direction="maximize", num_rows={"train": 9}, digest="d")
RESULTS = Results(header={"workers": 2}, datasets={"one": FACTS}, runs=RUNS)


def test_a_trace_holds_each_new_best_until_the_money_is_gone() -> None:
    reports = [report(3, 0.8, "b"), report(1, 0.7), report(2, 0.7, "c"), report(4, 0.75), report(9, 0.99)]
    found = improvements_of(reports, "roc_auc", limit_seconds=8, usd_per_second=0.5)
    assert [(one.trial, one.usd, one.validation) for one in found] == [("a", 0.5, 0.7), ("b", 1.5, 0.8)]
    assert (found[1].configuration, found[1].seed, found[1].units) == ({"max_depth": 3}, 7, 1)


def test_for_a_loss_less_is_better_and_what_is_not_a_number_is_never_the_best() -> None:
    reports = [report(1, float("nan")), report(2, 0.7), report(3, 0.9), report(4, 0.6)]
    found = improvements_of(reports, "log_loss", limit_seconds=8, usd_per_second=1)
    assert [one.validation for one in found] == [0.7, 0.6]


def test_the_best_at_a_price_is_what_was_known_when_that_was_spent() -> None:
    trace = [improvement(1, 0.7), improvement(2, 0.8)]
    assert best_at(trace, 0.9) is None
    assert best_at(trace, 1) == trace[0]
    assert best_at(trace, 5) == trace[1]
    assert usd_to_reach(trace, 0.8, "roc_auc") == 2
    assert usd_to_reach(trace, 0.75, "roc_auc") == 2
    assert usd_to_reach(trace, 0.81, "roc_auc") is None
    assert usd_to_reach(trace, 0.8, "log_loss") == 1


def test_test_scores_are_those_of_the_same_trial_at_the_same_units() -> None:
    trace = improvements_of(
        [report(1, 0.7, units=1), report(2, 0.8, units=3), report(3, 0.9, "b")],
        "roc_auc",
        limit_seconds=9,
        usd_per_second=1,
    )
    tested = with_tests(trace, {("a", 1): 0.1, ("a", 3): 0.3, ("b", 1): 0.2})
    assert [one.test for one in tested] == [0.1, 0.3, 0.2]
    assert [(one.trial, one.units) for one in trainings_of(trace)] == [("a", (1, 3)), ("b", (1,))]


def test_quartiles_go_from_the_worse_to_the_better() -> None:
    assert quartiles([0.1, 0.2, 0.3, 0.4, 0.5], "maximize") == Quartiles(worse=0.2, median=0.3, better=0.4)
    assert quartiles([0.1, 0.2, 0.3, 0.4, 0.5], "minimize") == Quartiles(worse=0.4, median=0.3, better=0.2)
    assert quartiles([], "minimize") == Quartiles(worse=None, median=None, better=None)


def test_a_run_that_has_nothing_is_worse_than_any() -> None:
    assert quartiles([0.5, None, 0.7, 0.6, None], "maximize") == Quartiles(worse=None, median=0.5, better=0.6)
    assert quartiles([None, None, 0.7], "maximize").median is None


def test_scores_at_a_price_are_over_seeds_and_test_follows_validation() -> None:
    ours = [one for one in RUNS if one.policy == "ours"]
    assert scores_at(ours, 1.0, "roc_auc", split="validation").median == pytest.approx(0.7)
    assert scores_at(ours, 4.0, "roc_auc", split="validation").median == pytest.approx(0.8)
    assert scores_at(ours, 4.0, "roc_auc", split="test").median == pytest.approx(0.7)


def test_the_dollar_ratio_is_the_share_at_which_one_is_as_good_as_the_other_at_the_end() -> None:
    ours, theirs = ([one for one in RUNS if one.policy == policy] for policy in ("ours", "ray-default"))
    found = reached(ours, theirs, "roc_auc", budget_usd=4.0)
    assert found is not None
    # 0.8 is the median of 0.8, 0.9 and 0.7; ours have it at $0.5, at $3, and never.
    assert found.validation == pytest.approx(0.8)
    assert (found.usd_shares.median, found.num_reached, found.num_runs) == (0.75, 2, 3)
    assert reached(ours, [], "roc_auc", budget_usd=4.0) is None


def test_the_tables_say_it_in_words() -> None:
    lines = list(score_table(RESULTS, budget_usd=4.0))
    assert lines[2] == (
        "| one (roc_auc) | ours | 0.7000 [-, 0.7000] | 0.7000 [0.6500, 0.8000] | 0.8000 [0.7000, 0.8500] "
        "| 0.6000 [-, 0.6000] | 0.6000 [0.5500, 0.7000] | 0.7000 [0.6000, 0.7500] | 4.00000 | 5 | 3 |"
    )
    assert list(dollar_table(RESULTS, budget_usd=4.0))[2:] == [
        "| one | ours | ray-default's 0.8000 | 0.75 [0.75, -] | 2 of 3 |",
        "| one | ray-default | ours's 0.8000 | 1.00 [1.00, -] | 2 of 3 |",
    ]
    assert "ours on one, seed 0: validation 0.9000, test 0.8000 (tree)" in run_line(RUNS[0])
    assert "no score" in run_line(run("ours", 0))


def test_policies_take_turns_and_what_is_done_is_not_done_again() -> None:
    jobs = jobs_of(["one", "two"], ["ours", "ray-default"], num_seeds=2)
    assert jobs[:3] == [
        Job(dataset="one", seed=0, policy="ours"),
        Job(dataset="one", seed=0, policy="ray-default"),
        Job(dataset="one", seed=1, policy="ours"),
    ]
    assert missing_jobs(jobs, RUNS) == jobs[4:]


def test_results_come_back_as_they_were_written(tmp_path: Path) -> None:
    file = tmp_path / "runs.json"
    exact = replace(RUNS[0].trace[0], configuration={"learning_rate": 0.12345678901234567})
    results = replace(RESULTS, runs=[replace(RUNS[0], trace=[exact]), *RUNS[1:]])
    write_results(file, results)
    read = read_results(file)
    assert read.runs[0].trace[0].configuration == exact.configuration
    assert [one.trace[0].test for one in read.runs] == pytest.approx([one.trace[0].test for one in RUNS])
    write_results(tmp_path / "again.json", read)
    assert read_results(tmp_path / "again.json") == read
    assert not list(tmp_path.glob("*.part"))
    file.write_text(json.dumps({"header": {}}))
    with pytest.raises(DataError, match=r"runs\.json is no file of results"):
        read_results(file)


def test_dollars_and_seconds_are_two_words_for_the_same_budget() -> None:
    money = Money(num_workers=2, seconds=600)
    assert money.usd == pytest.approx(2 * 0.05 / 6)
    assert Money.of_usd(money.usd, num_workers=2).seconds == pytest.approx(600)


def test_a_wrong_name_is_answered_with_the_right_ones(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="--policies = 'our' is not known; take some of ours, ray-default"):
        check_policies(["our"])
    with pytest.raises(SpecError, match="--datasets = 'adlut' is no project file, and not one of adult"):
        load_dataset("adlut", tmp_path, tmp_path)
    assert [dataset_name(name) for name in ("adult", "folder/mine.yaml")] == ["adult", "mine"]


def test_rows_in_the_order_of_time_are_split_in_that_order(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": list(range(10))}), tmp_path / "rows.parquet")
    write_split_by_order(tmp_path / "rows.parquet", tmp_path / "split.parquet")
    words = pq.read_table(tmp_path / "split.parquet").column("split").to_pylist()
    assert words == ["train"] * 6 + ["validation"] * 2 + ["test"] * 2
    with pytest.raises(DataError, match=r"holds no readable absent\.parquet"):
        write_split_by_order(tmp_path / "absent.parquet", tmp_path / "split.parquet")


@pytest.mark.parametrize("name", DATASETS)
def test_each_public_table_is_split_as_its_rows_ask(shared_data: Path, tmp_path: Path, name: str) -> None:
    found = load_dataset(name, shared_data, tmp_path)
    total = sum(found.num_rows.values())
    assert found.num_rows["test"] / total == pytest.approx(1 / 3 if name == "adult" else 0.2, abs=0.01)
    assert len(found.test["dense"]) == found.num_rows["test"]
    assert found.training.task == ("regression" if name == "bike_sharing_hourly" else "binary")


def test_a_model_that_is_trained_again_scores_as_the_search_saw_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 4)).astype(np.float32)
    rows = Matrices(features=features, targets=(features[:, 0] + rng.normal(size=300) > 0).astype(np.int64))
    data = TrainingData(task="binary", num_classes=2, train={"ordinal": rows}, validation={"ordinal": rows})
    configuration = {"max_depth": 4, "min_samples_leaf": 3, "feature_share": 0.5, "row_share": 0.8}
    reports = []
    for start, stop in ((0, 1), (1, 3)):
        segment = Segment(
            trial_id="a",
            family="forest",
            configuration=configuration,
            seed=3,
            start_units=start,
            stop_units=stop,
            limit_seconds=60,
            deadline=0,
        )
        done = run_segment(segment, data, CheckpointFolder(tmp_path), metric="roc_auc")
        value = done.curve[-1].value
        reports.append(replace(report(stop, value, units=stop), family="forest", configuration=configuration, seed=3))
    trace = improvements_of(reports, "roc_auc", limit_seconds=9, usd_per_second=1)
    (training,) = trainings_of(trace)
    scores = retrain(training, data, {"ordinal": rows}, "roc_auc")
    assert largest_gap(trace, scores) == 0.0
    assert scores.test == scores.validation
