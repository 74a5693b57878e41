"""Nets that are trained together are what they would be alone; and whether that is worth it is known before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from mlcluster.data.schema import TaskKind
from mlcluster.spec import Configuration
from mlcluster.train import (
    FAMILIES,
    CheckpointFolder,
    DataSize,
    Learner,
    LearnerBatch,
    Segment,
    Span,
    TrialReport,
    best_grouping,
    is_cheaper_together,
    load_learner,
    run_segment,
    run_segments,
)
from mlcluster.train.dense import DenseLearner
from mlcluster.train.dense_cost import nominal_seconds, nominal_seconds_together
from tests.train.small_data import TASKS, small_data
from tests.train.test_session import TickingClock

TOLERANCE = 2e-5
"""Of scores, in classes' probabilities or standard deviations: float32, summed in another order."""
SIZE = DataSize(rows=10_000, columns=20, outputs=2)
METRIC = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "r2"}

each_task = pytest.mark.parametrize("task", TASKS)


def net(**changes: float) -> Configuration:
    defaults = {"num_layers": 2, "width": 24, "dropout": 0.2, "batch_size": 64, "learning_rate": 5e-3}
    return {**defaults, "weight_decay": 1e-3, **changes}


def learners_of(configurations: list[Configuration], task: TaskKind = "binary", *, seed: int = 7) -> list[Learner]:
    family = FAMILIES["mlp"]
    return [
        family.build(configuration, small_data(task), seed + place)
        for place, configuration in enumerate(configurations)
    ]


def batch_of(learners: list[Learner]) -> LearnerBatch:
    together = FAMILIES["mlp"].together
    assert together is not None
    return together.build(learners)


def train_together(learners: list[Learner], units: int) -> None:
    batch = batch_of(learners)
    for _ in range(units):
        batch.advance()
    batch.release()


def assert_alike(left: list[Learner], right: list[Learner], task: TaskKind) -> None:
    features = small_data(task).validation["dense"].features
    for one, other in zip(left, right, strict=True):
        assert one.units == other.units
        assert distance(one.scores(features), other.scores(features), task) < TOLERANCE


def distance(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64], task: TaskKind) -> float:
    scale = float(np.std(small_data(task).train["dense"].targets)) if task == "regression" else 1.0
    return float(np.abs(one - other).max()) / scale


MIXTURES: dict[str, list[Configuration]] = {
    "twins": [net(), net()],
    "rates": [net(learning_rate=rate, weight_decay=decay) for rate, decay in ((1e-4, 1e-1), (3e-2, 1e-6), (1e-2, 0.0))],
    "widths": [net(width=width) for width in (16, 17, 40, 64)],
    "depths": [net(num_layers=depth, dropout=0.0) for depth in (1, 3, 2, 1)],
    "dropouts": [net(dropout=share) for share in (0.5, 0.0, 0.1)],
    "batch sizes": [net(batch_size=size) for size in (64, 200, 1024, 100)],
    "all at once": [
        net(num_layers=1 + index % 3, width=16 + 9 * index, dropout=0.1 * (index % 4), batch_size=64 + 30 * index)
        for index in range(7)
    ],
    "one": [net()],
}


@each_task
@pytest.mark.parametrize("mixture", MIXTURES)
def test_each_net_of_a_batch_is_what_it_would_be_alone(mixture: str, task: TaskKind) -> None:
    alone, together = learners_of(MIXTURES[mixture], task), learners_of(MIXTURES[mixture], task)
    for learner in alone:
        learner.advance(3)
    train_together(together, 3)
    assert_alike(together, alone, task)


@each_task
def test_linear_models_are_trained_together_as_well(task: TaskKind) -> None:
    configurations = [{"learning_rate": 1e-2, "weight_decay": 1e-3, "batch_size": size} for size in (64, 64, 100)]
    alone, together = (
        [FAMILIES["linear"].build(c, small_data(task), seed) for seed, c in enumerate(configurations)] for _ in range(2)
    )
    for learner in alone:
        learner.advance(3)
    train_together(together, 3)
    assert_alike(together, alone, task)


@each_task
def test_scores_of_a_batch_in_training_are_those_of_its_released_learners(task: TaskKind) -> None:
    learners = learners_of(MIXTURES["all at once"], task)
    features = small_data(task).validation["dense"].features
    batch = batch_of(learners)
    batch.advance()
    scores = batch.scores(features)
    batch.release()
    for learner, of_batch in zip(learners, scores, strict=True):
        assert of_batch.shape == learner.scores(features).shape
        assert distance(of_batch, learner.scores(features), task) < TOLERANCE


@each_task
@pytest.mark.parametrize("order", ["alone, then together", "together, then alone", "by turns"])
def test_a_training_goes_on_from_a_checkpoint_in_a_batch_or_out_of_it(order: str, task: TaskKind) -> None:
    configurations, data = MIXTURES["all at once"][:3], small_data(task)
    unbroken = learners_of(configurations, task)
    learners = learners_of(configurations, task)
    for unit in range(4):
        together = {"alone, then together": unit >= 2, "together, then alone": unit < 2}.get(order, unit % 2 == 0)
        if together:
            train_together(learners, 1)
        for one, other in zip(learners, unbroken, strict=True):
            one.advance(unit + 1)
            other.advance(unit + 1)
        states = [learner.state() for learner in learners]
        assert [len(state) for state in states] == [len(learner.state()) for learner in unbroken]
        learners = [
            FAMILIES["mlp"].restore(state, configuration, data, 7 + place)
            for place, (state, configuration) in enumerate(zip(states, configurations, strict=True))
        ]
    assert_alike(learners, unbroken, task)


def test_members_that_have_trained_for_different_times_keep_their_own_epochs_and_steps() -> None:
    alone, together = learners_of(MIXTURES["twins"]), learners_of(MIXTURES["twins"])
    for learners in (alone, together):
        learners[0].advance(3)
    train_together(together, 2)
    alone[0].advance(5)
    alone[1].advance(2)
    assert_alike(together, alone, "binary")


def test_the_seed_decides_every_bit_of_a_batch() -> None:
    bits = []
    for seed in (7, 7, 8):
        learners = learners_of(MIXTURES["all at once"], seed=seed)
        train_together(learners, 2)
        bits.append(
            [learner.scores(small_data("binary").validation["dense"].features).tobytes() for learner in learners]
        )
    assert bits[0] == bits[1]
    assert all(one != other for one, other in zip(bits[0], bits[2], strict=True))
    assert len(set(bits[0])) == len(bits[0])


def test_a_net_that_diverges_does_not_touch_the_others() -> None:
    configurations = [net(dropout=0.0), net(dropout=0.0, learning_rate=1e30), net(dropout=0.0)]
    alone, together = learners_of(configurations), learners_of(configurations)
    train_together(together, 2)
    for learner in (alone[0], alone[2]):
        learner.advance(2)
    assert_alike([together[0], together[2]], [alone[0], alone[2]], "binary")
    assert isinstance(together[1], DenseLearner)
    assert not all(np.isfinite(layer.weight.detach().numpy()).all() for layer in together[1].layers)


def segments_of(configurations: list[Configuration], *, start: int = 0, stops: list[int]) -> list[Segment]:
    return [
        Segment(
            trial_id=f"t{place:04d}",
            family="mlp",
            configuration=configuration,
            seed=11 + place,
            start_units=start,
            stop_units=stop,
            limit_seconds=1e6,
            deadline=0.0,
        )
        for place, (configuration, stop) in enumerate(zip(configurations, stops, strict=True))
    ]


def values_of(report: TrialReport) -> list[float]:
    return [point.value for point in report.curve]


@each_task
def test_each_segment_reports_what_it_would_alone(task: TaskKind, tmp_path: Path) -> None:
    """Members with fewer units leave, and the others go on."""
    data, metric = small_data(task), METRIC[task]
    segments = segments_of(MIXTURES["all at once"][:4], stops=[2, 5, 1, 5])
    alone = [run_segment(segment, data, CheckpointFolder(tmp_path / "alone"), metric=metric) for segment in segments]
    together = run_segments(segments, data, CheckpointFolder(tmp_path / "together"), metric=metric)
    for segment, ours, theirs in zip(segments, together, alone, strict=True):
        assert (ours.trial_id, ours.units, ours.checkpoint) == (theirs.trial_id, theirs.units, theirs.checkpoint)
        assert [point.units for point in ours.curve] == [point.units for point in theirs.curve]
        assert values_of(ours) == pytest.approx(values_of(theirs), abs=2e-3)
        assert ours.loss == pytest.approx(theirs.loss, abs=2e-3)
        after = replace(segment, start_units=segment.stop_units)
        one, other = (load_learner(after, data, CheckpointFolder(tmp_path / name)) for name in ("together", "alone"))
        assert_alike([one], [other], task)


def test_segments_go_on_from_their_checkpoints_whoever_they_were_trained_with(tmp_path: Path) -> None:
    data, folder = small_data("binary"), CheckpointFolder(tmp_path)
    first = segments_of(MIXTURES["depths"], stops=[1, 1, 1, 1])
    run_segments(first[:3], data, folder, metric="roc_auc")
    run_segments(first[3:], data, folder, metric="roc_auc")
    second = segments_of(MIXTURES["depths"], start=1, stops=[3, 2, 4, 3])
    reports = run_segments(second, data, folder, metric="roc_auc")
    assert [report.units for report in reports] == [3, 2, 4, 3]
    for report, learner in zip(reports, learners_of(MIXTURES["depths"], seed=11), strict=True):
        learner.advance(report.units)
        segment = next(segment for segment in second if segment.trial_id == report.trial_id)
        assert_alike([load_learner(replace(segment, start_units=report.units), data, folder)], [learner], "binary")


def test_one_segment_is_trained_as_ever(tmp_path: Path) -> None:
    data, segments = small_data("binary"), segments_of([net()], stops=[3])
    (together,) = run_segments(segments, data, CheckpointFolder(tmp_path / "a"), metric="roc_auc")
    alone = run_segment(segments[0], data, CheckpointFolder(tmp_path / "b"), metric="roc_auc")
    assert values_of(together) == values_of(alone)
    assert (tmp_path / "a" / "t0000-3.state").read_bytes() == (tmp_path / "b" / "t0000-3.state").read_bytes()


def test_seconds_of_members_add_up_to_those_that_passed(tmp_path: Path) -> None:
    clock = TickingClock(0.5)
    segments = segments_of(MIXTURES["widths"], stops=[2, 4, 4, 1])
    reports = run_segments(segments, small_data("binary"), CheckpointFolder(tmp_path), metric="roc_auc", clock=clock)
    passed = clock() - 0.5 - 0.5  # the first look began it, this one comes after it
    assert sum(report.seconds for report in reports) == pytest.approx(passed)
    assert reports[1].seconds > reports[0].seconds > reports[3].seconds > 0
    for report in reports:
        seconds = [point.seconds for point in report.curve]
        assert seconds == sorted(seconds)
        assert seconds[-1] <= report.seconds


def test_the_tightest_limit_cuts_all_short_after_a_unit_at_least(tmp_path: Path) -> None:
    segments = segments_of(MIXTURES["widths"], stops=[20, 20, 20, 20])
    segments[2] = replace(segments[2], limit_seconds=10.0)
    clock = TickingClock(1.0)
    reports = run_segments(segments, small_data("binary"), CheckpointFolder(tmp_path), metric="roc_auc", clock=clock)
    units = {report.units for report in reports}
    assert len(units) == 1
    assert 1 < units.pop() < 20
    assert sum(report.seconds for report in reports) <= 10.0
    segments = [replace(segment, trial_id=f"u{segment.trial_id}", limit_seconds=0.01) for segment in segments]
    reports = run_segments(segments, small_data("binary"), CheckpointFolder(tmp_path), metric="roc_auc", clock=clock)
    assert {report.units for report in reports} == {1}
    assert all((tmp_path / report.checkpoint).is_file() for report in reports)


def cost(spans: list[Span]) -> float:
    return nominal_seconds_together(spans, SIZE)


def spans_of(count: int, *, units: int = 3, **changes: float) -> list[Span]:
    return [Span(configuration=net(**changes), start_units=0, stop_units=units) for _ in range(count)]


def test_one_alone_costs_what_its_family_says() -> None:
    (span,) = spans_of(1)
    assert cost([replace(span, start_units=1)]) == nominal_seconds(span.configuration, SIZE, 2)


@pytest.mark.parametrize("count", [2, 8, 32])
def test_small_nets_are_expected_to_be_cheaper_together_and_large_ones_alone(count: int) -> None:
    small = spans_of(count, width=16, batch_size=64)
    assert cost(small) < 0.6 * sum(cost([span]) for span in small)
    assert best_grouping(cost, small) == [tuple(range(count))]
    large = spans_of(count, width=512, num_layers=3, batch_size=1024)
    assert best_grouping(cost, large) == [(index,) for index in range(count)]


def test_the_more_small_nets_the_cheaper_each() -> None:
    shares = [cost(spans_of(count, width=32)) / count for count in (1, 2, 4, 8, 16)]
    assert shares == sorted(shares, reverse=True)


def test_a_grouping_puts_like_with_like_and_leaves_no_one_out() -> None:
    spans = [
        *spans_of(3, width=16, batch_size=64, units=2),
        *spans_of(2, width=512, num_layers=3, batch_size=1024, units=1),
        *spans_of(2, width=16, batch_size=64, units=3),
    ]
    groups = best_grouping(cost, spans)
    assert sorted(index for group in groups for index in group) == list(range(7))
    assert {(3,), (4,)} < set(groups)
    assert (0, 1, 2, 5, 6) in groups
    total = sum(cost([spans[index] for index in group]) for group in groups)
    assert total < sum(cost([span]) for span in spans)


def test_joining_needs_a_saving_that_is_more_than_the_estimates_error() -> None:
    one, other = spans_of(1), spans_of(1)
    assert is_cheaper_together(lambda spans: 1.0 if len(spans) == 1 else 1.79, one, other)
    assert not is_cheaper_together(lambda spans: 1.0 if len(spans) == 1 else 1.81, one, other)


def test_members_that_leave_early_and_short_epochs_are_paid_for_only_while_they_train() -> None:
    both = cost([*spans_of(1, units=9, width=16), *spans_of(1, units=1, width=16)])
    assert cost(spans_of(1, units=9, width=16)) * 0.3 < both < cost(spans_of(2, units=9, width=16))
