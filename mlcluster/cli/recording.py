"""What a run leaves in MLflow: parameters, metrics by step, dollars, plots, trials, the model version."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

from mlcluster.cli.data_stage import Baseline
from mlcluster.cli.run_context import RunContext
from mlcluster.cli.verify_stage import Verified
from mlcluster.data import DatasetSnapshot
from mlcluster.spec import spec_to_yaml
from mlcluster.tracking import DatasetRecord, MetricPoint, RunRecord
from mlcluster.train import METRICS
from mlcluster.tune import StudyResult, TrialSummary


def run_record(
    context: RunContext, snapshot: DatasetSnapshot, result: StudyResult, verified: Verified, baseline: Baseline
) -> RunRecord:
    """The parent run, with a child a trial."""
    trial = verified.winner.trial
    return RunRecord(
        name=context.run.run_id,
        params={
            "family": trial.family,
            **{f"{trial.family}.{name}": value for name, value in trial.configuration.items()},
            "metric": result.metric,
            "seed": context.seed,
            "budget_usd": context.spec.tune.budget.usd,
            "budget_minutes": context.spec.tune.budget.minutes,
            "models": ", ".join(context.spec.models),
            "winner": trial.trial_id,
        },
        metrics=_run_metrics(context, result, verified, baseline),
        tags={
            "mlcluster.fingerprint": context.spec.fingerprint,
            "mlcluster.snapshot": snapshot.digest,
            "mlcluster.code": verified.bundle.card.code_version,
            "mlcluster.passed": str(verified.verdict.passed).lower(),
            "mlcluster.selection": verified.winner.reason[:500],
        },
        artifacts=_artifacts(context, result, verified),
        dataset=_dataset_record(context, snapshot),
        children=tuple(_trial_record(one, result.metric) for one in result.trials.values()),
        is_failed=not verified.verdict.passed,
    )


def version_tags(context: RunContext, verified: Verified) -> dict[str, str]:
    """What leads from a model version to everything it came from."""
    card = verified.bundle.card
    return {
        "mlcluster.trial": card.trial_id,
        "mlcluster.family": card.family,
        "mlcluster.configuration": json.dumps(card.configuration),
        "mlcluster.snapshot": card.snapshot_digest,
        "mlcluster.source": context.spec.data.source,
        "mlcluster.code": card.code_version,
        "mlcluster.run": context.run.run_id,
        "mlcluster.usd": f"{card.spent_usd:.6f}",
        "mlcluster.trial_usd": f"{verified.winner.trial.usd:.6f}",
        "mlcluster.bundle": verified.bundle.digest,
        "mlcluster.passed": str(verified.verdict.passed).lower(),
    }


def _run_metrics(
    context: RunContext, result: StudyResult, verified: Verified, baseline: Baseline
) -> tuple[MetricPoint, ...]:
    last = max((one.seconds for one in result.improvements), default=0.0)
    points = [
        MetricPoint(name=f"best_{result.metric}", value=one.value, step=round(one.seconds), at=_moment(one.seconds))
        for one in result.improvements
    ]
    # MLflow's axis is a whole number: millionths of a dollar, so that score against dollars can be read off there.
    points += [
        MetricPoint(
            name=f"best_{result.metric}_by_microdollar",
            value=one.value,
            step=round(one.usd * 1e6),
            at=_moment(one.seconds),
        )
        for one in result.improvements
    ]
    final: dict[str, float] = {
        **{f"validation_{name}": value for name, value in verified.validation.items()},
        **{f"test_{name}": value for name, value in verified.test.items()},
        f"baseline_validation_{result.metric}": baseline.validation,
        f"baseline_test_{result.metric}": baseline.test,
        "study_usd": result.usd,
        "study_lost_usd": result.lost_usd,
        "study_seconds": result.seconds,
        "num_trials": float(len(result.trials)),
        "spent_usd": context.ledger.spent_usd,
    }
    points += [MetricPoint(name=name, value=value, step=0, at=_moment(last)) for name, value in final.items()]
    return tuple(points)


def _moment(seconds: float) -> float:
    """MLflow's second axis is a time of day; the study's own clock is what matters, so it starts at one second."""
    return 1.0 + seconds


def _trial_record(trial: TrialSummary, metric: str) -> RunRecord:
    points = [MetricPoint(name=metric, value=p.value, step=p.units, at=_moment(p.seconds)) for p in trial.curve]
    points.append(MetricPoint(name="usd", value=trial.usd, step=0, at=_moment(trial.seconds)))
    points.append(MetricPoint(name="seconds", value=trial.seconds, step=0, at=_moment(trial.seconds)))
    return RunRecord(
        name=f"{trial.trial_id} {trial.family}",
        params={"family": trial.family, "origin": trial.origin, "seed": trial.seed, **trial.configuration},
        metrics=tuple(points),
        tags={"mlcluster.state": trial.state, "mlcluster.rung": str(trial.rung)},
        is_failed=trial.state == "failed",
    )


def _dataset_record(context: RunContext, snapshot: DatasetSnapshot) -> DatasetRecord:
    return DatasetRecord(
        name=f"{context.spec.project}-{snapshot.digest[:12]}",
        digest=snapshot.digest,
        source=context.spec.data.source,
        schema=_mlflow_schema(snapshot),
        profile={f"num_rows_{split}": count for split, count in snapshot.num_rows.items()},
    )


def _mlflow_schema(snapshot: DatasetSnapshot) -> Mapping[str, Any]:
    """In the form in which MLflow's pages show the columns of a data set."""
    types = {"number": "double", "category": "string", "boolean": "boolean"}
    columns = [
        {"type": types[column.kind], "name": column.name, "required": not column.has_missing}
        for column in snapshot.schema.features
    ]
    return {"mlflow_colspec": columns}


def _artifacts(context: RunContext, result: StudyResult, verified: Verified) -> dict[str, bytes]:
    return {
        "mlcluster.yaml": spec_to_yaml(context.spec).encode(),
        "verdict.json": json.dumps(verified.verdict.to_json(), indent=1).encode(),
        "verdict.txt": verified.verdict.summary().encode(),
        "plots/score_against_dollars.png": _score_plot(result),
        "plots/cost_by_family.png": _cost_plot(result),
        "snapshot/manifest.json": (context.run.snapshot / "manifest.json").read_bytes(),
    }


def _score_plot(result: StudyResult) -> bytes:
    """Best score so far against dollars, up to all that the search has spent."""
    figure, axes = _new_figure()
    usd = [one.usd for one in result.improvements]
    values = [one.value for one in result.improvements]
    axes.step([*usd, result.usd], [*values, *values[-1:]], where="post", linewidth=2, label="best so far")
    axes.scatter(usd, values, s=14)
    axes.set_xlabel("dollars spent by the search, idle time included")
    axes.set_ylabel(f"validation {result.metric}")
    axes.set_title(f"{len(result.trials)} trials, ${result.usd:.4f}")
    axes.legend(loc="best")
    return _png(figure)


def _cost_plot(result: StudyResult) -> bytes:
    """Dollars of the trials of each family, and its best score."""
    figure, axes = _new_figure()
    families: dict[str, list[TrialSummary]] = {}
    for trial in result.trials.values():
        families.setdefault(trial.family, []).append(trial)
    usd = [sum(trial.usd for trial in trials) for trials in families.values()]
    bars = axes.barh(list(families), usd)
    best_is_low = METRICS[result.metric].direction == "minimize"
    labels = []
    for trials in families.values():
        values = [trial.value for trial in trials if trial.value is not None]
        best = (min(values) if best_is_low else max(values)) if values else None
        labels.append(f"{len(trials)} trials" + (f", best {best:.4f}" if best is not None else ""))
    axes.bar_label(bars, labels, padding=3)
    axes.margins(x=0.35)
    axes.set_xlabel("dollars of its trials")
    axes.set_title(f"what each family cost (validation {result.metric})")
    return _png(figure)


def _new_figure() -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.grid(visible=True, alpha=0.3)
    return figure, axes


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
