"""The story of a study or of one trial, as a person reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from mlcluster.search import Action
from mlcluster.tune import Ending, SegmentEnd, SegmentStory, Selection, StudyStory, TrialStory

_ORIGINS = {
    "default": "the default of its family",
    "random": "an even draw from the space",
    "tpe": "Optuna's TPE, from what its family had shown",
}
_MOST_PRUNED = 5
_THEN = {
    Action.PAUSE: "paused",
    Action.CONTINUE: "went on",
    Action.COMPLETE: "complete",
    Action.STOP: "given up",
}


def trial_text(trial: TrialStory, story: StudyStory) -> str:
    """One trial from its proposal to its end, segment by segment."""
    lines = [
        f"{trial.trial_id}  {trial.family}, {_standing(trial, story)}",
        f"proposed  {_ORIGINS.get(trial.origin, f'by {trial.origin}')}: {trial.reason}",
        *(f"          {name} = {_value(value)}" for name, value in trial.configuration.items()),
    ]
    for number, segment in enumerate(trial.segments, start=1):
        lines += ["", *_segment_lines(number, segment, story.metric)]
    return "\n".join([*lines, "", f"at the end  {_end(trial, story)}"])


def study_text(story: StudyStory, selection: Selection | None) -> str:
    """The best trial and the one that ships, how the best score came about, and a line a trial, best first."""
    states = ", ".join(f"{count} {state}" for state, count in Counter(one.state for one in story.trials).items())
    lines = [
        f"study {story.study_id}, seed {story.seed}: {_count(len(story.trials), 'trial')}"
        f"{f' ({states})' if states else ''} for ${story.usd:.4f} in {story.seconds:.0f} s{_ending(story)}"
    ]
    ranked = story.ranked()
    if ranked:
        best = ranked[0]
        lines += [
            f"best      {best.trial_id} {best.family}, {_score(best.value, story.metric)} with {best.units} units for "
            f"${best.usd:.6f}; proposed by {_ORIGINS.get(best.origin, best.origin)}",
            f"          {_configuration(best.configuration)}",
        ]
        if selection is not None:
            lines.append(f"ships     {selection.trial_id}: {selection.reason}")
        lines += ["", "how it came about"]
        lines += [
            f"  {one.seconds:>7.1f} s  ${one.usd:<9.6f}  {one.value:.4f}  {one.trial_id}" for one in story.improvements
        ]
    else:
        lines.append("no trial has given a score that can be used")
    pruned = [trial for trial in story.trials if trial.over_limit is not None]
    if pruned:
        lines += ["", f"given up for what their models need: {_count(len(pruned), 'trial')}"]
        lines += [f"  {trial.trial_id} {trial.family:<9} {trial.over_limit}" for trial in pruned[:_MOST_PRUNED]]
        lines += [f"  and {len(pruned) - _MOST_PRUNED} more, below"] * (len(pruned) > _MOST_PRUNED)
    return "\n".join([*lines, "", *_table(story)])


def _table(story: StudyStory) -> Iterator[str]:
    unranked = [trial for trial in story.trials if trial.rank is None]
    yield (
        f"{'rank':>4}  {'trial':<6} {'family':<9} {'origin':<8} {'score':>8} {'units':>6} {'rung':>4} {'seconds':>8} "
        f"{'dollars':>10}  state: its last decision"
    )
    for trial in [*story.ranked(), *unranked]:
        rank = "-" if trial.rank is None else str(trial.rank)
        score = "-" if trial.value is None else f"{trial.value:.4f}"
        yield (
            f"{rank:>4}  {trial.trial_id:<6} {trial.family:<9} {trial.origin:<8} {score:>8} {trial.units:>6} "
            f"{trial.rung:>4} {trial.seconds:>8.2f} ${trial.usd:>9.6f}  {trial.state}{_last_word(trial)}"
        )


def _last_word(trial: TrialStory) -> str:
    last = trial.segments[-1]
    if last.end in (SegmentEnd.LOST, SegmentEnd.FAILED, SegmentEnd.INTERRUPTED):
        return f": {_one_line(last.note)}"
    return f": {last.decision.reason}" if last.decision is not None else ""


def _segment_lines(number: int, segment: SegmentStory, metric: str | None) -> Iterator[str]:
    worst = "" if segment.worst_case_seconds is None else f", at worst {segment.worst_case_seconds:.2f} s"
    yield (
        f"segment {number}  rung {segment.rung}, {segment.start_units} to {segment.stop_units} units, "
        f"{segment.started_at:.1f} s into the study, on a {segment.worker} worker"
    )
    if number > 1:
        yield f"  why       {segment.reason}"
    if segment.worker_reason:
        yield f"  where     {segment.worker_reason}"
    if segment.together:
        yield f"  with      {', '.join(segment.together)}: trained as one; the worker was held for all"
    yield f"  forecast  {segment.expected_seconds:.2f} s{worst}; it may take {segment.limit_seconds:.2f} s"
    yield f"  took      {_took(segment)}"
    if segment.units is not None:
        cut = f" of {segment.stop_units}, cut by its limit" if segment.end is SegmentEnd.CUT else ""
        yield f"  came to   {_score(segment.value, metric)} with {segment.units} units{cut}"
    if segment.measured is not None:
        yield f"  serves    in {segment.measured.p99_ms:.3g} ms at p99, with {segment.measured.model_mb:.3g} MB"
    if segment.note is not None and segment.end is not SegmentEnd.OVER_LIMIT:
        yield f"  {segment.end:<9} {_one_line(segment.note)}"
    if segment.decision is not None:
        yield f"  then      {_THEN[segment.decision.action]}: {segment.decision.reason}"


def _took(segment: SegmentStory) -> str:
    if segment.held_seconds is None:
        return "it is running"
    trained = "" if segment.seconds is None else f"{segment.seconds:.2f} s of training, "
    dollars = "booked as lost" if segment.usd is None else f"${segment.usd:.6f}"
    return f"{trained}{segment.held_seconds:.2f} s of a worker, {dollars}"


def _standing(trial: TrialStory, story: StudyStory) -> str:
    if trial.rank is None:
        return f"{trial.state}, without a score"
    return f"rank {trial.rank} of {len(story.ranked())} with {_score(trial.value, story.metric)}"


def _end(trial: TrialStory, story: StudyStory) -> str:
    best = ", the best of the study" if trial.rank == 1 else ""
    return (
        f"{trial.state} at rung {trial.rung}: {_standing(trial, story)}{best}; "
        f"{_count(len(trial.segments), 'segment')}, {trial.seconds:.2f} s of training, ${trial.usd:.6f}"
    )


def _ending(story: StudyStory) -> str:
    drivers = f", gone on with {_count(story.num_drivers - 1, 'time')}" if story.num_drivers > 1 else ""
    match story.ending:
        case Ending.DONE:
            return drivers
        case Ending.BUDGET:
            return f"{drivers}, ended by its budget"
    return f"{drivers}, not ended yet"


def _score(value: float | None, metric: str | None) -> str:
    return f"{metric or 'score'} {'none' if value is None else f'{value:.4f}'}"


def _configuration(configuration: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in configuration.items())


def _value(value: object) -> str:
    """Short and on one line, whatever a configuration holds."""
    text = f"{value:.4g}" if isinstance(value, float) else repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 100 else text[:97] + "..."


def _one_line(text: str | None) -> str:
    """An error may be long, and hold line breaks."""
    line = " ".join((text or "").split())
    return line if len(line) <= 300 else line[:297] + "..."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
