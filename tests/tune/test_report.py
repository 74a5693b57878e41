"""The report: its money adds up, nothing on its front is beaten, and its page holds whatever a study has found."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlcluster.search import Action, Decision, TrialState
from mlcluster.tune import (
    Improvement,
    Measured,
    SegmentEnd,
    SegmentStory,
    Selection,
    StudyReport,
    StudyStory,
    TrialStory,
    render_report,
    report_on,
    tell_study,
)
from mlcluster.tune.report_accounts import check_forecasts, last_points, rung_accounts
from mlcluster.tune.report_importance import MIN_TRIALS, hyperparameter_importance
from mlcluster.tune.report_pareto import non_dominated, pareto_front
from mlcluster.tune.report_text import gain_text, seconds_text, share_text, usd_text
from tests.tune.studies import paced, simulated

VOID = {"meta", "link", "br"}
NASTY = "</style><script>alert(1)</script>\"'&<img src=x onerror=alert(1)>\x00\x1b[31m\u202e"


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


def segment(number: int, *, loss: float | None, **more: Any) -> SegmentStory:
    """A segment of one second at $0.001 that reported `loss`."""
    made = SegmentStory(
        rung=0,
        reason="new",
        started_at=float(number),
        worker="cpu",
        start_units=0,
        stop_units=1,
        expected_seconds=1.0,
        worst_case_seconds=3.0,
        limit_seconds=3.0,
        end=SegmentEnd.REPORTED,
        units=1,
        loss=loss,
        value=None if loss is None else 1.0 - loss,
        seconds=1.0,
        held_seconds=1.0,
        usd=0.001,
        study_usd=0.001 * (number + 1),
        study_seconds=float(number + 1),
        decision=Decision(action=Action.PAUSE, reason="rank 1 of 1"),
        rung_after=0,
    )
    return replace(made, **more)


def trial(number: int, *, loss: float | None, rank: int | None = 1, **more: Any) -> TrialStory:
    made = TrialStory(
        trial_id=f"t{number:04d}",
        family="linear",
        configuration={"rate": 0.1 * number},
        origin="random",
        reason="new",
        segments=(segment(number, loss=loss),),
        state=TrialState.PAUSED if loss is not None else TrialState.FAILED,
        rung=0,
        units=1,
        value=None if loss is None else 1.0 - loss,
        loss=loss,
        rank=rank if loss is not None else None,
    )
    return replace(made, **more)


def study(trials: Sequence[TrialStory] = (), improvements: Sequence[Improvement] = ()) -> StudyStory:
    """Of roc_auc, with the trials ranked as they are given."""
    usd = 0.001 * len(trials)
    return StudyStory(
        study_id="s",
        seed=0,
        metric="roc_auc",
        trials=tuple(trials),
        improvements=tuple(improvements),
        usd=usd,
        seconds=float(len(trials)),
        num_drivers=1,
        ending=None,
    )


def improvement(number: int, value: float) -> Improvement:
    return Improvement(trial_id=f"t{number:04d}", value=value, usd=0.001 * (number + 1), seconds=number + 1.0)


class Page(HTMLParser):
    """Checks that each element is closed where it should be, and notes what there is."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data

    def count(self, tag: str, style: str = "") -> int:
        return sum(name == tag and style in str(attributes.get("class", "")) for name, attributes in self.found)


def page_of(report: StudyReport) -> Page:
    """The page, checked for what must hold of every page."""
    html = render_report(report)
    page = Page(html)
    assert len(html.encode()) < 1_000_000
    assert not re.search(r"(https?:)?//\w", html), "the page points to somewhere else"
    assert page.count("script") == page.count("img") == page.count("iframe") == 0
    for tag, attributes in page.found:
        assert not any(name.startswith("on") for name in attributes), tag
        for name in ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "width", "height"):
            number = str(attributes.get(name, "0")).removesuffix("%")
            assert math.isfinite(float(number)), (tag, attributes)
    ids = [attributes["id"] for _, attributes in page.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert all(attributes.get("aria-label") for tag, attributes in page.found if tag == "svg")
    assert all(attributes["aria-labelledby"] in ids for tag, attributes in page.found if tag == "figure")
    return page


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 1000),
    loss_share=st.sampled_from([0.0, 0.2, 1.0]),
    num_trials=st.integers(1, 40),
    num_slots=st.integers(1, 3),
)
def test_money_adds_up_whatever_happens(
    seed: int, loss_share: float, num_trials: int, num_slots: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(seed)
    result, events = simulated(
        tmp_path_factory.mktemp("study"),
        lambda asked: None if rng.random() < loss_share else paced(asked),
        seed=seed,
        max_trials=num_trials,
        num_slots=num_slots,
    )
    report = report_on(tell_study(events, result), cap_usd=10.0, lost_usd=result.lost_usd)
    story = report.story
    trials_usd = sum(one.usd for one in story.trials)
    assert trials_usd + report.idle_usd + report.lost_usd == pytest.approx(story.usd)
    assert sum(one.usd for one in report.families) == pytest.approx(trials_usd)
    assert sum(one.num_trials for one in report.families) == sum(report.states.values()) == len(story.trials)
    for rung in report.rungs:
        fates = rung.num_promoted + rung.num_paused + rung.num_complete + rung.num_failed
        assert rung.num_stood == fates
    if report.last_points is not None:
        spent = [one.usd for one in report.last_points.milestones]
        assert spent == sorted(spent)
        assert spent[-1] + report.last_points.usd_after == pytest.approx(story.usd)
    page = page_of(report)
    assert usd_text(story.usd) in page.text
    json.dumps(report.to_json(), allow_nan=False)


@given(
    costs=st.integers(1, 4).flatmap(
        lambda width: st.lists(st.lists(st.integers(0, 5), min_size=width, max_size=width), min_size=1, max_size=40)
    )
)
def test_nothing_on_the_front_is_beaten_and_all_else_is(costs: list[list[int]]) -> None:
    table = np.array(costs, dtype=float)
    kept = non_dominated(table)
    assert kept.any()
    for row, is_kept in zip(table, kept, strict=True):
        beaten_by = [one for one in table[kept] if (one <= row).all() and (one < row).any()]
        assert bool(beaten_by) == (not is_kept)


def test_the_front_is_in_latency_where_two_were_measured_and_in_seconds_elsewhere() -> None:
    ranked = [trial(0, loss=0.1), trial(1, loss=0.2), trial(2, loss=0.3)]
    measured = {"t0001": Measured(p99_ms=5.0, model_mb=1.0), "t0002": Measured(p99_ms=9.0, model_mb=1.0)}
    front = pareto_front(ranked, measured)
    assert (front.third_axis, front.num_measured) == ("p99_ms", 2)
    assert [(one.trial_id, one.is_on_front) for one in front.points] == [("t0001", True), ("t0002", False)]
    seconds = pareto_front(ranked, {"t0001": measured["t0001"]})
    assert (seconds.third_axis, seconds.num_measured) == ("seconds", 1)
    assert [one.trial_id for one in seconds.front] == ["t0000"]
    assert pareto_front([], {}).points == ()


def test_the_last_points_have_their_price() -> None:
    steps = [improvement(0, 0.50), improvement(1, 0.86), improvement(4, 0.896), improvement(9, 0.90)]
    found = last_points(study([trial(number, loss=0.1) for number in range(12)], steps))
    assert found is not None
    assert (found.since, found.gain) == (steps[1], pytest.approx(0.04))
    assert found.usd == pytest.approx(0.008)
    assert found.usd_after == pytest.approx(0.002)
    assert [one.trial_id for one in found.milestones] == ["t0001", "t0001", "t0004", "t0009"]
    assert last_points(study([], steps[:1])) is None
    at_once = last_points(study([trial(0, loss=0.1)] * 2, [improvement(0, 0.5), improvement(1, 0.9)]))
    assert at_once is not None
    assert at_once.gain == pytest.approx(0.4)


def test_a_forecast_is_held_against_what_a_segment_took() -> None:
    took = [
        segment(0, loss=0.1, seconds=2.0),
        segment(1, loss=0.1, seconds=0.5),
        segment(2, loss=0.1, seconds=9.0),
        segment(3, loss=0.1, seconds=1.0),
        segment(4, loss=0.1, end=SegmentEnd.CUT),
        segment(5, loss=None, end=SegmentEnd.LOST, seconds=None),
    ]
    check = check_forecasts(study([trial(0, loss=0.1, segments=tuple(took))]))
    assert (len(check.points), check.num_cut) == (4, 1)
    assert check.median_abs_log_error == pytest.approx(math.log(2))
    assert check.under_worst_case_share == 3 / 5
    old = check_forecasts(study([trial(0, loss=0.1, segments=(segment(0, loss=0.1, worst_case_seconds=None),))]))
    assert (old.median_abs_log_error, old.under_worst_case_share) == (0.0, None)


def test_rungs_that_came_for_nothing_are_stood_at() -> None:
    trials = [
        trial(0, loss=0.1, segments=(segment(0, loss=0.1, rung_after=2),), rung=2, state=TrialState.COMPLETE),
        trial(1, loss=0.2, segments=(segment(1, loss=0.2), segment(1, loss=0.1, rung=1, rung_after=1)), rung=1),
        trial(2, loss=0.3),
        trial(3, loss=0.3, segments=(segment(3, loss=0.3, end=SegmentEnd.CUT),)),
        trial(4, loss=None, segments=(segment(4, loss=math.nan),)),
    ]
    found = {
        one.rung: (one.num_stood, one.num_promoted, one.num_paused, one.num_complete)
        for one in rung_accounts(study(trials))
    }
    assert found == {0: (3, 2, 1, 0), 1: (2, 1, 1, 0), 2: (1, 0, 0, 1)}


def drawn(num_trials: int, *, noise: float, seed: int = 0) -> list[TrialStory]:
    """Trials whose loss follows from `rate` and a word, and hardly from `depth`."""
    rng = np.random.default_rng(seed)
    trials = []
    for number in range(num_trials):
        rate, depth, word = float(rng.random()), int(rng.integers(1, 9)), str(rng.choice(["a", "b", "c"]))
        loss = rate + 0.3 * (word == "b") + 0.01 * depth / 9 + noise * float(rng.normal())
        configuration = {"rate": rate, "depth": depth, "word": word, "fixed": 1}
        made = trial(number, loss=loss, configuration=configuration)
        trials.append(made)
    return trials


def test_the_hyperparameter_that_decides_is_the_most_important() -> None:
    found = hyperparameter_importance("linear", drawn(80, noise=0.05), seed=3)
    assert found.caveat is None
    assert list(found.shares)[:2] == ["rate", "word"]
    assert "fixed" not in found.shares
    assert sum(found.shares.values()) == pytest.approx(1.0)
    assert found.shares["depth"] < 0.05
    assert found == hyperparameter_importance("linear", drawn(80, noise=0.05), seed=3)


def test_importance_is_not_made_up() -> None:
    few = hyperparameter_importance("linear", drawn(MIN_TRIALS - 1, noise=0.0), seed=0)
    assert few.caveat == f"too few trials: {MIN_TRIALS - 1} with a score, and {MIN_TRIALS} are needed"
    noisy = hyperparameter_importance("linear", drawn(60, noise=1e6), seed=0)
    assert noisy.caveat is not None
    assert noisy.caveat.startswith("its hyperparameters do not foretell the rank of a trial")
    same = [trial(number, loss=0.1 * number, configuration={"rate": 1}) for number in range(30)]
    assert hyperparameter_importance("linear", same, seed=0).caveat == "its trials all had the same configuration"
    ties = [trial(number, loss=0.1) for number in range(30)]
    assert hyperparameter_importance("linear", ties, seed=0).shares == {}
    assert hyperparameter_importance("linear", [], seed=0).shares == {}


ANY_VALUE = st.one_of(
    st.none(), st.booleans(), st.integers(), st.just(10**400), st.floats(), st.text(max_size=300), st.just(NASTY)
)


@given(values=st.lists(ANY_VALUE, min_size=25, max_size=30))
@settings(max_examples=25, deadline=None)
def test_any_value_of_a_configuration_is_shown_and_counted(values: list[Any]) -> None:
    trials = [
        trial(number, loss=0.01 * number, configuration={"value": value, NASTY: number})
        for number, value in enumerate(values)
    ]
    steps = [improvement(0, 1.0)]
    report = report_on(study(trials, steps), cap_usd=1.0)
    page_of(report)
    json.dumps(report.to_json(), allow_nan=False)


def test_a_page_escapes_all_that_it_did_not_write() -> None:
    trials = [
        trial(
            number, loss=0.01 * number, family=NASTY, origin=NASTY, configuration={NASTY: NASTY * 50}, rank=number + 1
        )
        for number in range(25)
    ]
    told = replace(study(trials, [improvement(0, 1.0)]), study_id=NASTY, metric=NASTY)
    selection = Selection(trial_id="t0003", reason=NASTY)
    page = page_of(report_on(told, cap_usd=1.0, selection=selection))
    assert "<script>alert(1)</script>" in page.text
    assert "\x1b" not in page.text
    assert "\u202e" not in page.text


def test_a_study_of_nothing_one_or_only_failures_has_a_page() -> None:
    nothing = page_of(report_on(study(), cap_usd=1.0))
    assert "no trial yet" in nothing.text
    assert "has not ended yet" in nothing.text
    one = page_of(report_on(study([trial(0, loss=0.25)], [improvement(0, 0.75)]), cap_usd=1.0))
    assert "linear, roc_auc 0.7500" in one.text
    assert "One score has no last points yet" in one.text
    assert "Too few trials: 1 with a score" in one.text
    notes = segment(0, loss=None, end=SegmentEnd.FAILED, note="ValueError: <no>", seconds=None)
    failed = [trial(number, loss=None, segments=(notes,)) for number in range(3)]
    page = page_of(report_on(study(failed), cap_usd=1.0))
    assert "no usable result" in page.text
    assert "ValueError: <no>" in page.text
    assert page.count("svg", "chart") >= 1


def test_scores_and_dollars_of_any_size_are_drawn() -> None:
    for losses in ([0.5] * 30, [1e300, 1e-300, 0.5], [-5.0, 1e6, 3.0]):
        trials = [trial(number, loss=loss, rank=number + 1) for number, loss in enumerate(losses)]
        steps = [Improvement(trial_id="t0000", value=1.0 - losses[0], usd=0.0, seconds=0.0)]
        for metric in ("roc_auc", "log_loss", None):
            page_of(report_on(replace(study(trials, steps), metric=metric, usd=0.0), cap_usd=0.0))


def test_the_chosen_trial_is_the_winner_with_its_reason() -> None:
    told = study([trial(0, loss=0.1, rank=1), trial(1, loss=0.2, rank=2)], [improvement(0, 0.9)])
    chosen = Selection(trial_id="t0001", reason="simpler", measured={"t0001": Measured(p99_ms=1.0, model_mb=2.0)})
    report = report_on(told, cap_usd=1.0, selection=chosen)
    assert report.winner is not None
    assert (report.winner.trial_id, report.reason) == ("t0001", "simpler")
    assert "Trial t0001 wins: simpler." in page_of(report).text
    assert Selection.from_json(json.loads(json.dumps(chosen.to_json()))) == chosen
    stale = report_on(told, cap_usd=1.0, selection=replace(chosen, trial_id="t0009"))
    assert stale.winner is not None
    assert (stale.winner.trial_id, stale.reason) == ("t0000", "the best score")


def test_five_hundred_trials_are_one_small_page_with_all_charts(tmp_path: Path) -> None:
    result, events = simulated(tmp_path, max_trials=500, seconds=1e6, families=("linear", "tree", "forest", "mlp"))
    report = report_on(tell_study(events, result), cap_usd=10.0)
    assert len(report.story.trials) == 500
    page = page_of(report)
    assert page.count("circle", "reach") <= 60, "too many stops for a keyboard"
    for title in (
        "Score against dollars",
        "What the last points cost",
        "What each family cost and reached",
        "Rungs and promotions",
        "Error, dollars and speed",
        "Forecast and truth",
        "Which hyperparameters mattered",
    ):
        assert title in page.text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (usd_text(3.1), "$3.10"),
        (usd_text(1234.5), "$1,234.50"),
        (usd_text(0.0036), "$0.0036"),
        (usd_text(0.0), "$0.00"),
        (seconds_text(0.424), "0.42 s"),
        (seconds_text(13.2), "13 s"),
        (seconds_text(130.0), "2 min 10 s"),
        (seconds_text(3_900.0 * 2), "2 h 10 min"),
        (gain_text(0.004, "roc_auc", is_more_better=True), "0.4 points of roc_auc"),
        (gain_text(0.012, "log_loss", is_more_better=False), "0.012 of log_loss"),
        (share_text(0.004), "< 1 %"),
        (share_text(0.999), "99 %"),
        (share_text(1.0), "100 %"),
    ],
)
def test_numbers_are_written_as_people_write_them(text: str, shown: str) -> None:
    assert text == shown
