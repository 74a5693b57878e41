"""A study's result as JSON and back: what `tune` leaves for `verify`, in the run's folder."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from mlcluster.train import CurvePoint, Measured
from mlcluster.tune import Ending, Improvement, StudyResult, TrialSummary


def study_to_json(result: StudyResult) -> dict[str, Any]:
    """Plain JSON; `study_from_json` gives an equal result."""
    return asdict(result)


def study_from_json(value: dict[str, Any]) -> StudyResult:
    """See `study_to_json`."""
    trials = {name: TrialSummary(**{**trial, **_records_of(trial)}) for name, trial in value["trials"].items()}
    return StudyResult(
        **{
            **value,
            "ending": Ending(value["ending"]),
            "trials": trials,
            "improvements": tuple(Improvement(**one) for one in value["improvements"]),
        }
    )


def _records_of(trial: dict[str, Any]) -> dict[str, Any]:
    measured = trial.get("measured")
    return {
        "curve": tuple(CurvePoint(**point) for point in trial["curve"]),
        "measured": None if measured is None else Measured(**measured),
    }
