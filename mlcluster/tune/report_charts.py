"""The charts of the report: which numbers go where, and what each says in words."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from mlcluster.tune.report import StudyReport
from mlcluster.tune.report_accounts import ForecastCheck, ForecastPoint
from mlcluster.tune.report_pareto import ParetoPoint
from mlcluster.tune.report_svg import NUM_COLOURS, Axis, Plot, padded, tick_text
from mlcluster.tune.report_text import count_text, score_text, seconds_text, short, usd_text, usd_tick

MOST_SPOTS = 24
"""Points of one chart that a keyboard stops at; the others are in the table under it."""
_MANY = 150


def colours_of(report: StudyReport) -> dict[str, str]:
    """A style a family, the same in all charts."""
    names = list(dict.fromkeys(account.family for account in report.families))
    return {name: f"c{number % NUM_COLOURS}" for number, name in enumerate(names)}


def legend(colours: Mapping[str, str], *more: tuple[str, str, str]) -> str:
    """Families, then (style, shape, text) of what else is drawn."""
    families = [(style, "", name) for name, style in colours.items()]
    items = "".join(
        f'<li><i class="key {shape} {style}"></i>{escape(short(text))}</li>'
        for style, shape, text in (*families, *more)
    )
    return f'<ul class="legend">{items}</ul>'


def dots(marks: Sequence[str], *, style: str = "") -> str:
    """Many points, drawn the fainter the more there are."""
    density = "" if len(marks) > _MANY else "few"
    return f'<g class="dots {style or density}">{"".join(marks)}</g>'


def score_chart(report: StudyReport) -> tuple[str, int]:
    """Score against dollars, and how many trials lie beyond its edge."""
    story, colours = report.story, colours_of(report)
    values = [point.value for point in report.points]
    low, high = _without_stragglers(values, [one.value for one in story.improvements], report.is_more_better)
    most = max(story.usd, 1e-9)
    plot = Plot(
        x=Axis(low=0.0, high=most, title="dollars of the whole search so far", text=tick_text(0.0, most, unit="$")),
        y=Axis(low=low, high=high, title=f"validation {short(report.metric)}", text=tick_text(low, high)),
    )
    marks = [
        plot.dot(
            colours[point.family],
            point.usd,
            point.value,
            title=f"{point.trial_id} {short(point.family)}: {score_text(point.value)} at {usd_text(point.usd)}",
        )
        for point in report.points
    ]
    steps = [(one.usd, one.value) for one in story.improvements]
    steps.append((story.usd, steps[-1][1]))
    label = (
        f"Score against dollars: from {score_text(steps[0][1])} at {usd_text(steps[0][0])} to a best "
        f"{short(report.metric)} of {score_text(steps[-1][1])} at {usd_text(steps[-2][0])}, of {usd_text(story.usd)}."
    )
    drawn = _area(plot, steps) + dots(marks) + plot.stairs("step", steps) + _improvement_spots(report, plot)
    num_beyond = sum(value < low or value > high for value in values)
    return plot.svg(drawn, label=label), num_beyond


def _area(plot: Plot, steps: Sequence[tuple[float, float]]) -> str:
    drawn = []
    for (x1, y1), (x2, _) in itertools.pairwise(steps):
        left, right = 100 * plot.x.share(x1), 100 * plot.x.share(x2)
        height = 100 * plot.y.share(y1)
        drawn.append(
            f'<rect class="area" x="{left:.2f}%" y="{100 - height:.2f}%" width="{right - left:.2f}%" '
            f'height="{height:.2f}%"/>'
        )
    return "".join(drawn)


def _improvement_spots(report: StudyReport, plot: Plot) -> str:
    steps = report.story.improvements
    families = {trial.trial_id: trial.family for trial in report.story.trials}
    spots = [
        plot.spot(
            "mark",
            one.usd,
            one.value,
            title=f"{one.trial_id} {_tag(families[one.trial_id])} {score_text(one.value)} at {usd_text(one.usd)}",
            radius=5.5 if one is steps[-1] else 4.5,
        )
        for one in steps[-MOST_SPOTS:]
    ]
    spots[-1] = spots[-1].replace('class="spot"', 'class="spot shown"')
    return "".join(spots)


def pareto_chart(report: StudyReport) -> str:
    """Error against dollars; the area of a point grows with the third thing that is compared."""
    points, colours = report.pareto.points, colours_of(report)
    errors = [point.error for point in points]
    low, high = _without_stragglers(errors, [point.error for point in report.pareto.front], is_more_better=False)
    dollars = [point.usd for point in points if point.usd > 0] or [1e-6]
    plot = Plot(
        x=Axis(
            low=min(dollars) / 1.2, high=max(dollars) * 1.2, title="dollars of the trial", text=usd_tick, is_log=True
        ),
        y=Axis(low=low, high=high, title=error_name(report), text=tick_text(low, high)),
    )
    most = max(point.third for point in points) or 1.0

    def radius(point: ParetoPoint) -> float:
        return 3.0 + 6.0 * float(np.sqrt(point.third / most))

    behind = [
        plot.dot(colours[one.family], one.usd, one.error, title=pareto_title(report, one), radius=radius(one))
        for one in points
        if not one.is_on_front
    ]
    front = [
        plot.spot(colours[one.family], one.usd, one.error, title=pareto_title(report, one), radius=radius(one))
        if number < MOST_SPOTS
        else plot.dot(colours[one.family], one.usd, one.error, title=pareto_title(report, one), radius=radius(one))
        for number, one in enumerate(report.pareto.front)
    ]
    label = f"Error against dollars of {count_text(len(points), 'trial')}: {len(front)} are on the Pareto front."
    stairs = plot.stairs("edge", _envelope(points))
    return plot.svg(dots(behind, style="faint") + stairs + "".join(reversed(front)), label=label)


def _envelope(points: Sequence[ParetoPoint]) -> list[tuple[float, float]]:
    """The least error that each sum of dollars has bought, cheapest first."""
    corners: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda one: (one.usd, one.error)):
        if not corners or point.error < corners[-1][1]:
            corners.append((point.usd, point.error))
    return [*corners, (max(point.usd for point in points), corners[-1][1])]


def pareto_title(report: StudyReport, point: ParetoPoint) -> str:
    """A trial's three numbers in a line."""
    name = f"{point.trial_id} {_tag(point.family)}"
    return f"{name} {score_text(point.value)}, {usd_text(point.usd)}, {third_text(report, point)}"


def _tag(family: str) -> str:
    """A family's name where there is room for few letters."""
    name = short(family)
    return name if len(name) <= 14 else f"{name[:13]}…"


def third_text(report: StudyReport, point: ParetoPoint) -> str:
    """Its latency, or its seconds of training."""
    return f"{point.third:.2f} ms" if report.pareto.third_axis == "p99_ms" else seconds_text(point.third)


def error_name(report: StudyReport) -> str:
    """What less of is better."""
    metric = short(report.metric)
    return f"error (1 - {metric})" if report.is_more_better else f"error ({metric})"


def forecast_chart(report: StudyReport) -> str:
    """Actual seconds against expected ones, both on a logarithmic scale, with each segment's worst case."""
    check, colours = report.forecast, colours_of(report)
    low, high = _range_of_seconds(check)
    seconds = Axis(low=low, high=high, title="expected seconds of a segment", text=seconds_text, is_log=True)
    plot = Plot(x=seconds, y=Axis(low=low, high=high, title="seconds that it took", text=seconds_text, is_log=True))
    marks = [
        plot.dot(colours[one.family], one.expected_seconds, one.actual_seconds, title=_forecast_title(one), radius=3)
        for one in check.points
    ]
    label = (
        f"Forecast against actual seconds of {count_text(len(marks), 'segment')}, on the diagonal where it was right; "
        "dashes mark the worst case of each."
    )
    diagonal = plot.line("even", (low, low), (high, high))
    return plot.svg(_worst_cases(plot, check.points) + diagonal + dots(marks), label=label)


def _range_of_seconds(check: ForecastCheck) -> tuple[float, float]:
    found = [one.expected_seconds for one in check.points] + [one.actual_seconds for one in check.points]
    found += [one.worst_case_seconds for one in check.points if one.worst_case_seconds]
    return min(found) / 1.3, max(found) * 1.3


def _worst_cases(plot: Plot, points: Sequence[ForecastPoint]) -> str:
    """One dash a place: with hundreds of segments most fall on one another."""
    places = {
        (plot.across(one.expected_seconds), plot.up(one.worst_case_seconds))
        for one in points
        if one.worst_case_seconds is not None
    }
    dashes = "".join(
        f'<rect x="{x}" y="{y}" width="7" height="1.5" transform="translate(-3.5)"/>' for x, y in sorted(places)
    )
    return f'<g class="worst" aria-hidden="true">{dashes}</g>'


def _forecast_title(point: ForecastPoint) -> str:
    worst = "" if point.worst_case_seconds is None else f", at worst {seconds_text(point.worst_case_seconds)}"
    return (
        f"{point.trial_id} {short(point.family)}: expected {seconds_text(point.expected_seconds)}{worst}, "
        f"took {seconds_text(point.actual_seconds)}"
    )


def _without_stragglers(values: Sequence[float], kept: Sequence[float], is_more_better: bool) -> tuple[float, float]:
    """A range for the best nine tenths of `values` and for all that is `kept`: one bad trial must not flatten it."""
    worst = float(np.quantile(values, 0.1 if is_more_better else 0.9))
    shown = [*kept, worst, min(values) if not is_more_better else max(values)]
    return padded(min(shown), max(shown))
