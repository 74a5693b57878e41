"""A segment: from a checkpoint to a number of units, inside its limit."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcluster.spec import default_configuration
from mlcluster.train import FAMILIES, CheckpointFolder, Segment, TrialReport, load_learner, run_segment
from mlcluster.train.session import SOFT_SHARE
from tests.train.small_data import data_of


def segment_of(family: str, *, start: int = 0, stop: int, limit_seconds: float = 1e6) -> Segment:
    return Segment(
        trial_id="t0001",
        family=family,
        configuration=default_configuration(FAMILIES[family].space),
        seed=5,
        start_units=start,
        stop_units=stop,
        limit_seconds=limit_seconds,
        deadline=0.0,
    )


def run(segment: Segment, folder: Path, **options: Callable[[], float]) -> TrialReport:
    data = data_of(FAMILIES[segment.family], "binary")
    return run_segment(segment, data, CheckpointFolder(folder), metric="roc_auc", **options)


class TickingClock:
    """Each look at it takes `tick` seconds."""

    def __init__(self, tick: float) -> None:
        self._now, self._tick = 0.0, tick

    def __call__(self) -> float:
        self._now += self._tick
        return self._now


@pytest.mark.parametrize("family", FAMILIES)
def test_segments_in_a_row_end_where_one_long_segment_ends(family: str, tmp_path: Path) -> None:
    whole = run(segment_of(family, stop=4), tmp_path / "whole")
    first = run(segment_of(family, stop=1), tmp_path / "parts")
    second = run(segment_of(family, start=1, stop=4), tmp_path / "parts")
    assert (second.units, second.loss) == (whole.units, whole.loss)
    both, data = (tmp_path / "whole", tmp_path / "parts"), data_of(FAMILIES[family], "binary")
    features = data.validation[FAMILIES[family].encoding].features
    after = segment_of(family, start=4, stop=5)
    scores = [load_learner(after, data, CheckpointFolder(folder)).scores(features).tobytes() for folder in both]
    assert scores[0] == scores[1]
    if not FAMILIES[family].grows_anew:
        points = [[(point.units, point.value) for point in report.curve] for report in (whole, first, second)]
        assert points[0] == points[1] + points[2]
        assert [units for units, _ in points[0]] == [1, 2, 3, 4]


def test_a_report_is_the_last_point_of_its_curve_as_a_loss(tmp_path: Path) -> None:
    report = run(segment_of("linear", stop=3), tmp_path)
    assert report.loss == -report.curve[-1].value or report.loss == pytest.approx(1 - report.curve[-1].value)
    assert report.checkpoint == "t0001-3.state"
    assert (tmp_path / report.checkpoint).is_file()
    assert [point.seconds for point in report.curve] == sorted(point.seconds for point in report.curve)


@settings(max_examples=15, deadline=None)
@given(tick=st.floats(0.05, 3.0), limit=st.floats(1.0, 60.0))
def test_no_unit_is_begun_that_is_not_expected_to_end_within_the_limit(
    tick: float, limit: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    segment = segment_of("linear", stop=27, limit_seconds=limit)
    report = run(segment, tmp_path_factory.mktemp("limit"), clock=TickingClock(tick))
    assert 1 <= report.units <= 27
    assert report.curve[-1].units == report.units
    if report.units > 1:
        assert report.curve[-1].seconds <= SOFT_SHARE * limit + 2 * tick
    if report.units < 27:
        assert report.curve[-1].seconds + 3 * tick > SOFT_SHARE * limit - 2 * tick, "it could have gone on"


def test_a_limit_that_is_too_short_still_gives_one_unit_and_its_checkpoint(tmp_path: Path) -> None:
    report = run(segment_of("linear", stop=5, limit_seconds=1.0), tmp_path, clock=TickingClock(10.0))
    assert report.units == 1
    resumed = run(segment_of("linear", start=1, stop=5), tmp_path)
    assert resumed.units == 5


def test_a_checkpoint_is_its_owners_alone(tmp_path: Path) -> None:
    report = run(segment_of("linear", stop=1), tmp_path / "checkpoints")
    assert (tmp_path / "checkpoints").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "checkpoints" / report.checkpoint).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [report.checkpoint]


def test_a_checkpoint_is_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.write("t0001-1.state", b"old")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        folder.write("t0001-1.state", b"new, but the disk is full")
    assert folder.read("t0001-1.state") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["t0001-1.state"]


def test_deleting_a_checkpoint_that_is_gone_is_fine(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.write("t0001-1.state", b"state")
    folder.delete("t0001-1.state")
    folder.delete("t0001-1.state")
    assert not list(tmp_path.iterdir())


def test_trials_do_not_share_checkpoints(tmp_path: Path) -> None:
    first = segment_of("linear", stop=1)
    run(first, tmp_path)
    run(replace(first, trial_id="t0002", seed=6), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t0001-1.state", "t0002-1.state"]
