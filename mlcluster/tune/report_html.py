"""The report of a study as one page: no script, no other file, nothing from the internet; light, dark and narrow."""

from __future__ import annotations

from collections.abc import Callable

from mlcluster.tune.report import StudyReport
from mlcluster.tune.report_sections import (
    families_section,
    forecast_section,
    importance_section,
    pareto_section,
    price_section,
    rungs_section,
    score_section,
    trials_section,
)
from mlcluster.tune.report_style import STYLE
from mlcluster.tune.report_svg import stacked_bar
from mlcluster.tune.report_text import (
    configuration_text,
    count_text,
    safe,
    score_text,
    seconds_text,
    share_text,
    short,
    usd_text,
)
from mlcluster.tune.result import Ending

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""A browser that is asked to load anything else, or to run a script, refuses."""
_FOOTER = (
    "<footer>Dollars are of worker time; scores are of the validation split. Made by mlcluster from the study's "
    "journal: <code>mlcluster tune --explain TRIAL</code> tells the story of one trial.</footer>"
)
_SECTIONS: tuple[Callable[[StudyReport], str], ...] = (
    score_section,
    price_section,
    families_section,
    rungs_section,
    pareto_section,
    forecast_section,
    importance_section,
    trials_section,
)


def render_report(report: StudyReport) -> str:
    """The page; all that comes from a study is escaped and of bounded length."""
    sections = _SECTIONS if report.story.trials else ()
    title = f"{_headline(report)} · study {short(report.story.study_id)}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><link rel="icon" href="data:,">'
        f"<title>{safe(title)}</title><style>{STYLE}</style></head><body>\n"
        f"{_header(report)}\n<main>\n{''.join(section(report) for section in sections)}</main>\n{_FOOTER}"
        "</body></html>\n"
    )


def _headline(report: StudyReport) -> str:
    if report.winner is None:
        return "no usable result" if report.story.trials else "no trial yet"
    return f"{short(report.winner.family)}, {short(report.metric)} {score_text(report.winner.value)}"


def _header(report: StudyReport) -> str:
    story = report.story
    return (
        f'<header><div><p class="eyebrow">study {safe(story.study_id)} · seed {story.seed}</p>'
        f"<h1>{safe(_headline(report))}</h1>{_lead(report)}</div>{_tiles(report)}</header>{_warning(report)}"
    )


def _lead(report: StudyReport) -> str:
    winner = report.winner
    if winner is None:
        return f'<p class="lead">{safe(report.reason)}</p>'
    return (
        f'<p class="lead">Trial <b>{safe(winner.trial_id)}</b> wins: {safe(report.reason)}. '
        f"{safe(configuration_text(winner.configuration))}.</p>"
    )


def _tiles(report: StudyReport) -> str:
    story = report.story
    cap_share = story.usd / report.cap_usd if report.cap_usd > 0 else 0.0
    of_cap = f"{share_text(cap_share)} of the cap of {usd_text(report.cap_usd)}"
    trials_usd = max(0.0, story.usd - report.idle_usd - report.lost_usd)
    parts = [
        ("trials", trials_usd, f"trials: {usd_text(trials_usd)}"),
        ("idle", report.idle_usd, f"idle: {usd_text(report.idle_usd)}"),
        ("lost", report.lost_usd, f"lost: {usd_text(report.lost_usd)}"),
    ]
    money = f"{usd_text(story.usd)} of the cap of {usd_text(report.cap_usd)}"
    lost = f", lost {usd_text(report.lost_usd)}" if report.lost_usd else ""
    if report.lost_with_workers_usd:
        lost += f"; of the trials\u2019 dollars, {usd_text(report.lost_with_workers_usd)} were lost with workers"
    bar = stacked_bar(parts, label=money, whole=report.cap_usd)
    own = "-" if report.winner is None else usd_text(report.winner.usd)
    states = ", ".join(f"{count} {safe(state)}" for state, count in report.states.items())
    return (
        '<dl class="tiles">'
        f"{_tile('Dollars', usd_text(story.usd), of_cap, bar)}"
        f"{_tile('Of these, idle', usd_text(report.idle_usd), f'workers between segments{lost}')}"
        f"{_tile('The winner alone', own, 'its own training')}"
        f"{_tile('Time', seconds_text(story.seconds), _drivers(report))}"
        f"{_tile('Trials', f'{len(story.trials):,}', states or 'none yet')}</dl>"
    )


def _tile(name: str, value: str, note: str, more: str = "") -> str:
    return f'<div class="tile"><dt>{name}</dt><dd>{value}<small>{note}</small></dd>{more}</div>'


def _drivers(report: StudyReport) -> str:
    times = report.story.num_drivers - 1
    return f"gone on with {count_text(times, 'time')}" if times > 0 else "in one go"


def _warning(report: StudyReport) -> str:
    match report.story.ending:
        case None:
            text = "This study has not ended yet: the report is of what there is so far."
        case Ending.BUDGET:
            text = "The budget ended this study before each family was tried and one trial trained in full."
        case _:
            return ""
    return f'<p class="warning">{text}</p><br>'
