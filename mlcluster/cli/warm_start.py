"""What a run's search tries first, out of the tracking store and the package; kept in the run's folder.

A run that is gone on with begins with the same trials, whatever the store has come to hold meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from mlcluster.cli.run_context import RunContext
from mlcluster.cli.workspace import RunFolder, write_json
from mlcluster.search import PastStudy
from mlcluster.tracking import Tracker
from mlcluster.tune import FirstTrials, StudyPlan, first_trials, past_study_from_json

HISTORY_ARTIFACT = "past_study.json"
TASK_TAG = "mlcluster.task"
_FIRST_FILE = "first.json"
_MAX_STUDIES = 20
"""The newest; each is read by a model of its own."""


def with_first_trials(
    plan: StudyPlan, context: RunContext, *, task: str, tracker: Callable[[], Tracker | None]
) -> StudyPlan:
    """The plan, with what is tried first. `tracker` gives the store, or None where there is none yet."""
    first = read_first_trials(context.run)
    if first is None:
        first = _find(plan, context, task=task, tracker=tracker)
        write_json(context.run.study / _FIRST_FILE, first.to_json())
    if first.candidates:
        context.progress.say(
            f"         first come {len(first.candidates)} configurations from {_listed(first.sources)}"
        )
    return replace(plan, first=first.candidates)


def read_first_trials(run: RunFolder) -> FirstTrials | None:
    """What the run's study tries first; None where that was not looked for yet."""
    file = run.study / _FIRST_FILE
    return FirstTrials.from_json(json.loads(file.read_text())) if file.exists() else None


def _find(plan: StudyPlan, context: RunContext, *, task: str, tracker: Callable[[], Tracker | None]) -> FirstTrials:
    asked = context.spec.tune
    if asked.search != "promise":
        return FirstTrials()
    past = _past_studies(plan, task, tracker()) if asked.warm_start in ("auto", "history") else []
    return first_trials(plan.spaces, task=task, mode=asked.warm_start, past=past, seed=plan.seed)


def _past_studies(plan: StudyPlan, task: str, tracker: Tracker | None) -> list[PastStudy]:
    if tracker is None:
        return []
    files = tracker.artifacts(HISTORY_ARTIFACT, tags={TASK_TAG: task}, max_runs=_MAX_STUDIES)
    studies = (past_study_from_json(_parsed(file), plan.spaces) for file in files)
    return [study for study in studies if study is not None]


def _parsed(file: bytes) -> object:
    try:
        return json.loads(file)
    except ValueError:
        return None


def _listed(sources: tuple[str, ...]) -> str:
    shown = [*sources[:3], f"{len(sources) - 3} more"] if len(sources) > 4 else list(sources)
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))
