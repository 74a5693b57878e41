"""The sections of the report's page: each a sentence that says what is to be seen, a picture, and its table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from mlcluster.tune.report import StudyReport
from mlcluster.tune.report_accounts import FamilyAccount, LastPoints, RungAccount
from mlcluster.tune.report_charts import (
    colours_of,
    error_name,
    forecast_chart,
    legend,
    pareto_chart,
    score_chart,
    third_text,
)
from mlcluster.tune.report_importance import FamilyImportance
from mlcluster.tune.report_svg import stacked_bar, strip
from mlcluster.tune.report_text import (
    configuration_text,
    count_text,
    gain_text,
    safe,
    score_text,
    seconds_text,
    share_text,
    short,
    usd_text,
)

_FATES = (("promoted", "promoted"), ("complete", "complete"), ("paused", "paused"), ("failed", "failed"))


def score_section(report: StudyReport) -> str:
    """The step curve of the best score, with each trial's point."""
    if not report.story.improvements:
        return _section("Score against dollars", _failures(report), "", wide=True)
    chart, num_beyond = score_chart(report)
    beyond = f" {count_text(num_beyond, 'trial')} far from the best lie on the edge." if num_beyond else ""
    text = f"The line is the best score so far; each point is the best of one trial, when it came.{beyond}"
    key = legend(colours_of(report), ("step-key", "dash", "best so far"))
    rows = [
        (safe(one.trial_id), score_text(one.value), usd_text(one.usd), seconds_text(one.seconds))
        for one in report.story.improvements
    ]
    table = _table("How the best score came about", ("trial", "score#", "dollars so far#", "time so far#"), rows)
    return _section("Score against dollars", text, f"{key}{chart}", table, wide=True)


def _failures(report: StudyReport) -> str:
    notes = [one.note for trial in report.story.trials for one in trial.segments if one.note is not None]
    shown = "; ".join(safe(note) for note in dict.fromkeys(notes[:50]))
    return f"No trial has given a score that can be used{f': {shown}' if shown else ''}."


def price_section(report: StudyReport) -> str:
    """What the last points cost."""
    title, last = "What the last points cost", report.last_points
    if last is None:
        return _section(title, "One score has no last points yet: there must be an improvement to put a price on.", "")
    gain = gain_text(last.gain, safe(report.metric), is_more_better=report.is_more_better)
    share = share_text(last.usd / report.story.usd) if report.story.usd > 0 else "0 %"
    after = (
        f" The {usd_text(last.usd_after)} after that brought nothing more." if last.usd_after > 0.005 * last.usd else ""
    )
    picture = (
        f'<p class="big">The last <em>{gain}</em> cost <em>{usd_text(last.usd)}</em></p>{_price_bar(report, last)}'
    )
    text = (
        f"From {score_text(last.since.value)} to {score_text(report.story.improvements[-1].value)} took {share} of "
        f"what the search has spent.{after}"
    )
    return _section(title, text, f'<div class="price">{picture}</div>', _price_table(last), wide=True)


def _price_bar(report: StudyReport, last: LastPoints) -> str:
    names = {0.5: "to half of the gain", 0.9: "to nine tenths", 1.0: "to all of it"}
    reached = [one for one in last.milestones if one.gain_share in names]
    parts, before = [], 0.0
    for number, one in enumerate(reached):
        parts.append((f"gain{number}", one.usd - before, f"{names[one.gain_share]}: {usd_text(one.usd - before)}"))
        before = one.usd
    parts.append(("gain3", last.usd_after, f"after the best score: {usd_text(last.usd_after)}"))
    items = "".join(
        f'<li><i class="key square {style}"></i>{escape(title)}</li>' for style, usd, title in parts if usd > 0
    )
    label = f"Dollars by share of the gain: {'; '.join(title for _, _, title in parts)}."
    return f'{stacked_bar(parts, label=label, whole=report.story.usd)}<ul class="legend ends">{items}</ul>'


def _price_table(last: LastPoints) -> str:
    rows = [
        (share_text(one.gain_share), score_text(one.value), usd_text(one.usd), seconds_text(one.seconds))
        for one in last.milestones
    ]
    return _table("Dollars by share of the gain", ("of the gain#", "score#", "dollars#", "time#"), rows)


def families_section(report: StudyReport) -> str:
    """What each family cost and reached."""
    values = [point.value for point in report.points]
    low, high = (min(values), max(values)) if values else (0.0, 0.0)
    rows = "".join(_family_row(report, account, low, high) for account in report.families)
    ends = f'<div class="ends"><span>{score_text(low)}</span><span>{score_text(high)}</span></div>' if values else ""
    order = "the higher the better" if report.is_more_better else "the lower the better"
    text = f"The bar is a family's share of the dollars; below it, the score of each of its trials, {order}."
    table = _table(
        "Families in numbers",
        ("family", "trials#", "complete#", "failed#", "dollars#", "training#", "best score#", "its trial"),
        [
            (
                safe(one.family),
                str(one.num_trials),
                str(one.num_complete),
                str(one.num_failed),
                usd_text(one.usd),
                seconds_text(one.seconds),
                score_text(one.best_value),
                "-" if one.best_trial_id is None else safe(one.best_trial_id),
            )
            for one in report.families
        ],
    )
    picture = f'<div class="rows families">{rows}</div>{ends}'
    return _section("What each family cost and reached", text, picture, table)


def _family_row(report: StudyReport, account: FamilyAccount, low: float, high: float) -> str:
    colour = colours_of(report)[account.family]
    whole = sum(one.usd for one in report.families)
    name, best = short(account.family), score_text(account.best_value)
    span = high - low
    points = sorted(
        (one for one in report.points if one.family == account.family),
        key=lambda one: one.trial_id == account.best_trial_id,
    )
    marks = [
        ((one.value - low) / span if span > 0 else 0.5, f"{one.trial_id}: {score_text(one.value)}") for one in points
    ]
    bar = stacked_bar(
        [(colour, account.usd, f"{name}: {usd_text(account.usd)}")],
        label=f"{name} cost {usd_text(account.usd)}",
        whole=whole,
    )
    dots = strip(marks, style=colour, label=f"Scores of {count_text(len(marks), 'trial')} of {name}, the best {best}.")
    return (
        f'<div class="row"><p class="name"><span>{escape(name)}</span><span>{usd_text(account.usd)} · '
        f"{count_text(account.num_trials, 'trial')} · best {best}</span></p>{bar}{dots}</div>"
    )


def rungs_section(report: StudyReport) -> str:
    """How many trials stood at each rung, and what became of them."""
    title = "Rungs and promotions"
    if not report.rungs:
        return _section(title, "No trial has reached a rung.", "")
    most = max(rung.num_stood for rung in report.rungs)
    rows = "".join(_rung_row(rung, most) for rung in reversed(report.rungs))
    key = legend({}, *((style, "square", text) for style, text in _FATES if _num_of(report.rungs, style)))
    text = (
        f"Each rung costs a trial more than the one below. {count_text(report.rungs[0].num_stood, 'trial')} stood at "
        f"rung {report.rungs[0].rung}, {report.rungs[-1].num_stood} at rung {report.rungs[-1].rung}; the others wait "
        "where they are, and can still be promoted."
    )
    table = _table(
        "Rungs in numbers",
        ("rung#", "stood#", "promoted#", "complete#", "paused#", "failed#"),
        [
            tuple(
                str(number)
                for number in (
                    one.rung,
                    one.num_stood,
                    one.num_promoted,
                    one.num_complete,
                    one.num_paused,
                    one.num_failed,
                )
            )
            for one in report.rungs
        ],
    )
    return _section(title, text, f'{key}<div class="rows rungs">{rows}</div>', table)


def _num_of(rungs: Iterable[RungAccount], fate: str) -> int:
    return sum(int(getattr(rung, f"num_{fate}")) for rung in rungs)


def _rung_row(rung: RungAccount, most: int) -> str:
    parts = [(style, float(_num_of([rung], style)), f"{_num_of([rung], style)} {text}") for style, text in _FATES]
    said = ", ".join(title for _, number, title in parts if number)
    bar = stacked_bar(parts, label=f"rung {rung.rung}: {said}", whole=float(most))
    stood = f"{count_text(rung.num_stood, 'trial')}: {said}"
    return f'<div class="row"><p class="name"><span>rung {rung.rung}</span><span>{stood}</span></p>{bar}</div>'


def pareto_section(report: StudyReport) -> str:
    """The front of error, dollars, and latency or seconds."""
    title, pareto = "Error, dollars and speed", report.pareto
    pruned = _pruned_text(report)
    if not pareto.points:
        return _section(title, f"No trial has given a score that can be used.{pruned}", "")
    third = "latency (99th percentile)" if pareto.third_axis == "p99_ms" else "seconds of training"
    latency = {
        "p99_ms": f"Latency was measured for {count_text(pareto.num_measured, 'trial')}, and these are compared.",
        "seconds": "Latency was not measured for two trials or more, so seconds of training stand in for it.",
    }[pareto.third_axis]
    text = (
        f"<b>{count_text(len(pareto.front), 'trial')}</b> of {len(pareto.points)} are on the Pareto front: no other is "
        f"as good in error, dollars and {third} at once. The larger a point, the more {third}. {latency}{pruned}"
    )
    rows = [
        (
            safe(one.trial_id),
            safe(one.family),
            score_text(one.value),
            f"{one.error:.4g}",
            usd_text(one.usd),
            third_text(report, one),
        )
        for one in pareto.front
    ]
    table = _table(
        "The Pareto front", ("trial", "family", "score#", f"{error_name(report)}#", "dollars#", f"{third}#"), rows
    )
    key = legend(colours_of(report), ("edge-key", "dash", "least error that the dollars bought"))
    return _section(title, text, key + pareto_chart(report), table)


def _pruned_text(report: StudyReport) -> str:
    number = report.num_over_limit
    if not number:
        return ""
    return f" {count_text(number, 'trial')} {'was' if number == 1 else 'were'} given up for a model over tune.limits."


def forecast_section(report: StudyReport) -> str:
    """Expected against actual seconds of each segment."""
    title, check = "Forecast and truth", report.forecast
    if not check.points or check.median_abs_log_error is None:
        return _section(title, "No segment has trained to its units, so that no forecast can be held against it.", "")
    under = check.under_worst_case_share
    worst = (
        "The journal holds no worst cases."
        if under is None
        else f"<b>{share_text(under)}</b> of segments stayed under their worst case."
    )
    cut = f" {count_text(check.num_cut, 'segment')} cut by a limit count as over it." if check.num_cut else ""
    text = (
        f"Half of the {count_text(len(check.points), 'segment')} were within "
        f"<b>{share_text(math.expm1(check.median_abs_log_error))}</b> of the forecast, either way (median "
        f"|ln actual / expected| {check.median_abs_log_error:.2f}). {worst}{cut}"
    )
    key = legend(colours_of(report), ("even-key", "dash", "as forecast"), ("worst", "dash", "worst case of a segment"))
    rows = [
        (
            safe(one.trial_id),
            safe(one.family),
            seconds_text(one.expected_seconds),
            "-" if one.worst_case_seconds is None else seconds_text(one.worst_case_seconds),
            seconds_text(one.actual_seconds),
            f"{one.actual_seconds / one.expected_seconds:.2f} x",
        )
        for one in sorted(check.points, key=lambda one: -one.actual_seconds / one.expected_seconds)[:20]
    ]
    table = _table(
        "The 20 segments that took the most beyond their forecast",
        ("trial", "family", "expected#", "worst case#", "took#", "ratio#"),
        rows,
    )
    return _section(title, text, key + forecast_chart(report), table)


def importance_section(report: StudyReport) -> str:
    """Which hyperparameters mattered, family by family."""
    colours = colours_of(report)
    cards = "".join(_importance_card(one, colours[one.family]) for one in report.importances)
    text = (
        "How much worse a random forest foretells a trial's rank at its first rung, where all have cost the same, once "
        "a hyperparameter is shuffled; as shares. Asked about trials that the forest has not seen."
    )
    return _section("Which hyperparameters mattered", text, f'<div class="small-multiples">{cards}</div>', wide=True)


def _importance_card(found: FamilyImportance, colour: str) -> str:
    name = safe(found.family)
    if found.caveat is not None:
        return f"<div><h3>{name}</h3><p>{safe(found.caveat[:1].upper() + found.caveat[1:])}.</p></div>"
    bars = "".join(
        f'<div class="row"><p class="name"><span>{safe(hyperparameter)}</span><span>{share_text(share)}</span></p>'
        + stacked_bar(
            [(colour, share, f"{short(hyperparameter)}: {share_text(share)}")],
            label=f"{short(hyperparameter)}: {share_text(share)} of the importance",
            whole=1.0,
        )
        + "</div>"
        for hyperparameter, share in found.shares.items()
    )
    explained = f"{count_text(found.num_trials, 'trial')}, R² {found.explained_share or 0.0:.2f}"
    return f'<div><h3>{name}</h3><p>{explained}</p><div class="rows">{bars}</div></div>'


def trials_section(report: StudyReport) -> str:
    """All trials, best first."""
    story = report.story
    trials = [*story.ranked(), *(trial for trial in story.trials if trial.rank is None)]
    rows = [
        (
            "-" if one.rank is None else str(one.rank),
            safe(one.trial_id),
            safe(one.family),
            safe(one.origin),
            score_text(one.value),
            safe(one.state if one.over_limit is None else "over limit"),
            str(one.rung),
            str(one.units),
            usd_text(one.usd),
            seconds_text(one.seconds),
            safe(configuration_text(one.configuration)),
        )
        for one in trials
    ]
    heads = (
        "rank#",
        "trial",
        "family",
        "proposed by",
        "score#",
        "state",
        "rung#",
        "units#",
        "dollars#",
        "training#",
        "configuration~",
    )
    table = _table(f"All {count_text(len(rows), 'trial')}, best first", heads, rows)
    return _section("Trials", "Each with its configuration, where it stands, and what it cost.", "", table, wide=True)


def _section(title: str, text: str, picture: str, *tables: str, wide: bool = False) -> str:
    """`text` is HTML. A figure has the title as its name."""
    name = "".join(letter for letter in title.lower() if letter.isalpha())
    figure = f'<figure aria-labelledby="{name}">{picture}</figure>' if picture else ""
    return (
        f'<section class="{"wide" if wide else "half"}"><h2 id="{name}">{title}</h2><p>{text}</p>{figure}'
        f"{''.join(tables)}</section>\n"
    )


def _table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """`heads` that end in # are above numbers, in ~ above long text; cells are HTML."""
    styles = [{"#": ' class="number"', "~": ' class="long"'}.get(head[-1], "") for head in heads]
    head = "".join(
        f'<th scope="col"{style}>{escape(text.rstrip("#~"))}</th>' for text, style in zip(heads, styles, strict=True)
    )
    body = "".join(
        f"<tr>{''.join(f'<td{style}>{cell}</td>' for cell, style in zip(row, styles, strict=True))}</tr>"
        for row in rows
    )
    return (
        f'<details><summary>{escape(title)}</summary><div class="scroll" tabindex="0" role="region" '
        f'aria-label="{escape(title)}"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></details>'
    )
