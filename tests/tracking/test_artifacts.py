"""Artifacts of earlier runs are found by tag, newest first, in a real store as in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mlcluster.errors import ClusterError
from mlcluster.tracking import MemoryTracker, RunRecord, Tracker

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120), pytest.mark.filterwarnings("default")]


def in_memory(folder: Path) -> Tracker:
    del folder
    return MemoryTracker()


def in_mlflow(folder: Path) -> Tracker:
    from mlcluster.tracking.mlflow_tracker import MlflowTracker

    return MlflowTracker(f"sqlite:///{folder / 'store.db'}", experiment="one", artifact_folder=folder / "artifacts")


def record(name: str, *, kind: str, **artifacts: bytes) -> RunRecord:
    return RunRecord(
        name=name, tags={"mlcluster.kind": kind}, artifacts={f"{key}.json": artifacts[key] for key in artifacts}
    )


@pytest.mark.parametrize("open_tracker", [in_memory, in_mlflow], ids=["memory", "mlflow"])
def test_the_newest_runs_with_the_tag_are_asked_for_theirs(
    open_tracker: Callable[[Path], Tracker], tmp_path: Path
) -> None:
    tracker = open_tracker(tmp_path)
    assert tracker.artifacts("a.json", tags={"mlcluster.kind": "x"}, max_runs=5) == []
    for one in (
        record("first", kind="x", a=b"1"),
        record("second", kind="x", a=b"2", b=b"no"),
        record("of another kind", kind="y", a=b"3"),
        record("without", kind="x", b=b"4"),
        record("last", kind="x", a=b"5"),
    ):
        tracker.finish(tracker.begin(one.name), one)
    assert tracker.artifacts("a.json", tags={"mlcluster.kind": "x"}, max_runs=9) == [b"5", b"2", b"1"]
    assert tracker.artifacts("a.json", tags={"mlcluster.kind": "x"}, max_runs=1) == [b"5"]


def test_runs_of_other_experiments_are_found_and_lost_files_passed_over(tmp_path: Path) -> None:
    from mlcluster.tracking.mlflow_tracker import MlflowTracker

    first, other = (
        MlflowTracker(f"sqlite:///{tmp_path / 'store.db'}", experiment=name, artifact_folder=tmp_path / name)
        for name in ("one", "other")
    )
    for tracker, content in ((first, b"1"), (other, b"2")):
        tracker.finish(tracker.begin("run"), record("run", kind="x", a=content))
    assert other.artifacts("a.json", tags={"mlcluster.kind": "x"}, max_runs=9) == [b"2", b"1"]
    next((tmp_path / "one").rglob("a.json")).unlink()
    assert other.artifacts("a.json", tags={"mlcluster.kind": "x"}, max_runs=9) == [b"2"]


def test_a_store_that_cannot_be_searched_says_so(tmp_path: Path) -> None:
    tracker = in_mlflow(tmp_path)
    (tmp_path / "store.db").write_bytes(b"no database" * 1000)
    with pytest.raises(ClusterError, match="could not be searched"):
        tracker.artifacts("a.json", tags={"mlcluster.kind": "x"}, max_runs=1)
