"""The benchmark of labels: its cases are what they say, and its table holds every claim with an interval."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import bench_labels
import numpy as np
import pytest
from label_bench.planted import agreeing_functions, annotators, copied_functions
from label_bench.poison import attacked, linear_table
from label_bench.real import BATCH, FIRST, needed

from mlcluster.data.labels import ABSTAINED


def test_planted_functions_are_as_right_and_as_silent_as_said() -> None:
    truth, codes = agreeing_functions(0, num_rows=20_000)
    given = codes != ABSTAINED
    right = [(codes[given[:, j], j] == truth[given[:, j]]).mean() for j in range(10)]
    assert given.mean() == pytest.approx(0.5, abs=0.01)
    assert 0.54 < min(right) < max(right) < 0.91


def test_copies_copy_and_annotators_answer_five_to_a_row() -> None:
    _, codes = copied_functions(0, num_rows=5000)
    both = (codes[:, :2] != ABSTAINED).all(axis=1)
    assert (codes[both, 0] == codes[both, 1]).mean() > 0.9
    _, votes = annotators(0, 0.3)
    assert (np.bincount(votes.items) == 5).all()
    assert len({*zip(votes.items.tolist(), votes.voters.tolist(), strict=True)}) == len(votes.items)


def test_eight_per_cent_of_the_attacked_rows_are_planted() -> None:
    rng = np.random.default_rng(0)
    (features, answers), is_planted = attacked(rng, linear_table(rng, 2000, 0.1), 0.08)
    assert is_planted.mean() == pytest.approx(0.08, abs=1e-3)
    assert set(np.unique(features[is_planted])) == {0.0, 1.0}
    assert set(answers[is_planted]) == {0.0, 1.0}


def test_labels_needed_are_counted_where_the_goal_is_reached_and_over_all_where_it_is_not() -> None:
    rising = tuple(np.linspace(0.5, 0.9, 9))
    assert needed(rising, 0.7) == FIRST + 4 * BATCH
    assert needed(rising, 0.99) == FIRST + 9 * BATCH


def test_the_intervals_are_students() -> None:
    told = bench_labels.summary([{"gain": value} for value in (1.0, 2.0, 3.0)])
    assert (told["seeds"], told["gain"]["mean"]) == (3, 2.0)
    assert told["gain"]["high"] - 2.0 == pytest.approx(4.3027 / np.sqrt(3), abs=1e-3)  # t of 0.975, 2 degrees


def test_the_command_writes_every_case_with_how_it_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_labels, "NUM_PLANTED_SEEDS", 3)
    out = tmp_path / "labels.json"
    monkeypatch.setattr(sys, "argv", ["bench_labels.py", "--parts", "annotators,screen", "--out", str(out)])
    bench_labels.main()
    written = json.loads(out.read_text())
    assert written["made"]["command"].startswith("scripts/bench_labels.py --parts annotators,screen")
    assert [run["part"] for run in written["runs"]] == ["annotators"] * 2 + ["screen"] * 4
    assert all(run["seeds"] == 3 for run in written["runs"])
    assert "screen, 8 % of labels turned (3 seeds)" in capsys.readouterr().out
