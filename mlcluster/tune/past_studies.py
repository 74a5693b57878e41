"""A finished study as a later one can learn from it: plain JSON, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlcluster.search import Candidate, PastStudy, PastTrial
from mlcluster.spec import SearchSpace, holds, space_fingerprint
from mlcluster.train import as_loss
from mlcluster.tune.plan import StudyPlan
from mlcluster.tune.result import StudyResult, TrialSummary

FORMAT = "mlcluster.past_study/1"
_MAX_POINTS = 8
"""Of each curve, evenly chosen, the last among them."""


def past_study_to_json(plan: StudyPlan, result: StudyResult, *, name: str) -> dict[str, Any]:
    """What the study found, with the spaces it searched: another study takes from it what was over the same."""
    return {
        "format": FORMAT,
        "name": name,
        "metric": plan.metric,
        "families": {
            family: {"space": space_fingerprint(space), "max_units": plan.fidelities[family].max_units}
            for family, space in plan.spaces.items()
        },
        "trials": [_trial_to_json(trial, plan.metric) for trial in result.trials.values() if trial.curve],
    }


def past_study_from_json(value: Any, spaces: Mapping[str, SearchSpace]) -> PastStudy | None:
    """The study, where it can be of use: families whose space is one of `spaces`, to the last bound.

    None where there is nothing of use, or it is no such file: whatever it holds, it ends no search.
    """
    try:
        if value["format"] != FORMAT:
            return None
        families = {
            family: int(given["max_units"])
            for family, given in value["families"].items()
            if family in spaces and given["space"] == space_fingerprint(spaces[family]) and int(given["max_units"]) > 0
        }
        trials = [_trial_from_json(trial) for trial in value["trials"] if trial["family"] in families]
        name = str(value["name"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None
    kept = tuple(
        trial
        for trial in trials
        if trial.losses and holds(spaces[trial.candidate.family], trial.candidate.configuration)
    )
    return PastStudy(name=name, trials=kept, max_units=families) if kept else None


def _trial_to_json(trial: TrialSummary, metric: str) -> dict[str, Any]:
    step = -(-len(trial.curve) // _MAX_POINTS)
    points = trial.curve[::-1][::step][::-1]
    return {
        "family": trial.family,
        "configuration": dict(trial.configuration),
        "units": [point.units for point in points],
        "losses": [as_loss(metric, point.value) for point in points],
    }


def _trial_from_json(value: Mapping[str, Any]) -> PastTrial:
    units, losses = tuple(map(int, value["units"])), tuple(map(float, value["losses"]))
    if len(units) != len(losses) or min(units, default=1) < 1:
        raise ValueError("units and losses do not belong together")
    return PastTrial(
        candidate=Candidate(family=str(value["family"]), configuration=dict(value["configuration"]), origin="history"),
        units=units,
        losses=losses,
    )
