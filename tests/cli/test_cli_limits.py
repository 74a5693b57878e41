"""Searches on a real Ray with limits that prune: some of the nets, or every model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.projects import demo_in, run_here, run_process

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180), pytest.mark.filterwarnings("default")]
LIMIT_MB = 0.03


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with demo_in(tmp_path_factory.mktemp("limits")) as folder:
        yield folder


def test_wide_nets_are_pruned_and_a_narrow_one_or_a_line_wins(demo: Path) -> None:
    settings = ("models=[linear, mlp]", f"tune.limits.model_mb={LIMIT_MB}", "tune.budget.minutes=0.5")
    asked = [word for setting in settings for word in ("--set", setting)]
    outcome = run_process(demo, "verify", "--json", *asked)
    assert outcome.code in (0, 3), outcome.stderr  # the gates of the sample are another matter
    run = demo / ".mlcluster" / "runs" / outcome.json["run"]
    trials = json.loads((run / "study" / "result.json").read_text())["trials"]
    pruned = [trial for trial in trials.values() if trial["over_limit"] is not None]
    kept = [trial for trial in trials.values() if trial["value"] is not None]
    assert pruned
    assert {trial["family"] for trial in pruned} == {"mlp"}
    assert all(f"over tune.limits.model_mb = {LIMIT_MB:g}" in trial["over_limit"] for trial in pruned)
    assert all(trial["measured"]["model_mb"] <= LIMIT_MB and trial["measured"]["p99_ms"] > 0 for trial in kept)
    assert outcome.json["trial"] in {trial["trial_id"] for trial in kept}
    told = run_here(demo, "tune", "--explain")
    assert "given up for what their models need" in told.stdout
    report = run_here(demo, "report", "--json").json
    assert report["pareto"]["num_measured"] == len(kept)
    replayed = run_here(demo, "tune", "--replay", "--json", *asked)
    assert replayed.code == 0, replayed.stdout
    assert replayed.json["num_equal"] >= len(trials)


def test_where_no_model_keeps_the_limits_it_is_said_and_nothing_ships(demo: Path) -> None:
    asked = ("--set", "models=[linear, tree]", "--set", "tune.limits.model_mb=0.001")
    words = ("tune", "--json", "--set", "tune.budget.minutes=0.4", *asked)
    for _ in range(2):  # searched, and found done
        outcome = run_process(demo, *words)
        assert outcome.code == 3
        assert "tune.limits are broken by each of " in outcome.stderr.splitlines()[-1]
        assert "over tune.limits.model_mb = 0.001" in outcome.stderr.splitlines()[-1]
