"""What a run leaves in MLflow: parameters, metrics by step, dollars, plots, trials, the model version."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

from mlcluster.cli.data_stage import Baseline
from mlcluster.cli.run_context import RunContext
from mlcluster.cli.verify_stage import Verified
from mlcluster.cli.warm_start import HISTORY_ARTIFACT, TASK_TAG
from mlcluster.data import DatasetSnapshot, SourceRecord
from mlcluster.spec import spec_to_yaml
from mlcluster.tracking import DatasetRecord, MetricPoint, RunRecord
from mlcluster.train import METRICS
from mlcluster.tune import ForecastCheck, StudyReport, StudyResult, TrialSummary

_MAX_TAG = 5000
"""Characters of a tag; MLflow takes no more. Some sixty sources."""


def run_record(
    context: RunContext,
    snapshot: DatasetSnapshot,
    result: StudyResult,
    verified: Verified,
    baseline: Baseline,
    report: StudyReport,
) -> RunRecord:
    """The parent run, with a child a trial; `report` is that of its study."""
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
        metrics=(*_run_metrics(context, result, verified, baseline), *_forecast_metrics(report)),
        tags={
            "mlcluster.fingerprint": context.spec.fingerprint,
            "mlcluster.snapshot": snapshot.digest,
            TASK_TAG: snapshot.schema.target.task,
            "mlcluster.code": verified.bundle.card.code_version,
            "mlcluster.passed": str(verified.verdict.passed).lower(),
            "mlcluster.selection": verified.winner.reason[:500],
        },
        artifacts=_artifacts(context, result, verified, report),
        dataset=_dataset_record(context, snapshot),
        sources=source_records(snapshot),
        children=tuple(_trial_record(one, result.metric) for one in result.trials.values()),
        is_failed=not verified.verdict.passed,
    )


def version_tags(context: RunContext, snapshot: DatasetSnapshot, verified: Verified) -> dict[str, str]:
    """What leads from a model version to everything it came from."""
    card = verified.bundle.card
    sources = json.dumps({source.name: source.digest for source in source_records(snapshot)})
    return {
        **({"mlcluster.sources": sources} if len(sources) <= _MAX_TAG else {}),
        "mlcluster.trial": card.trial_id,
        "mlcluster.family": card.family,
        "mlcluster.configuration": json.dumps(card.configuration),
        "mlcluster.snapshot": card.snapshot_digest,
        "mlcluster.source": context.spec.data.source,
        "mlcluster.code": card.code_version,
        "mlcluster.run": context.run.run_id,
        "mlcluster.usd": f"{card.spent_usd:.6f}",
        "mlcluster.trial_usd": f"{verified.winner.trial.usd:.9f}",
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


def _forecast_metrics(report: StudyReport) -> tuple[MetricPoint, ...]:
    """How far the seconds of segments were from their forecasts; what cannot be said is left out."""
    check = report.forecast
    values = {
        "forecast_median_abs_log_error": check.median_abs_log_error,
        "forecast_under_worst_case_share": check.under_worst_case_share,
        "forecast_num_segments": float(len(check.points)),
    }
    at = _moment(report.story.seconds)
    said = ((name, value) for name, value in values.items() if value is not None)
    return tuple(MetricPoint(name=name, value=value, step=0, at=at) for name, value in said)


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


def source_records(snapshot: DatasetSnapshot) -> tuple[DatasetRecord, ...]:
    """Each source of the snapshot as a data set of its own; older snapshots have none written down."""
    sources = [SourceRecord.from_json(value) for value in snapshot.manifest.get("sources", ())]
    return tuple(
        DatasetRecord(
            name=source.name,
            digest=source.sha256,
            source=source.place if source.version is None else f"{source.place}@{source.version}",
            schema={
                "mlflow_colspec": [
                    {"type": _mlflow_type(column.type), "name": column.name, "required": False}
                    for column in source.columns
                ]
            },
            profile={"num_rows": source.num_rows, "size_bytes": source.size_bytes, "sha256": source.sha256},
            kind=source.kind,
            context="source",
        )
        for source in sources
    )


def _mlflow_type(arrow_type: str) -> str:
    """MLflow's word for an Arrow type; text for those that it has none for."""
    for beginning, name in (("timestamp", "datetime"), ("date", "datetime"), ("int", "long"), ("uint", "long")):
        if arrow_type.startswith(beginning):
            return name
    return {"double": "double", "float": "float", "halffloat": "float", "bool": "boolean"}.get(arrow_type, "string")


def _mlflow_schema(snapshot: DatasetSnapshot) -> Mapping[str, Any]:
    """In the form in which MLflow's pages show the columns of a data set."""
    types = {"number": "double", "category": "string", "boolean": "boolean", "image": "binary"}
    columns = [
        {"type": types[column.kind], "name": column.name, "required": not column.has_missing}
        for column in snapshot.schema.features
    ]
    return {"mlflow_colspec": columns}


def _data_files(context: RunContext) -> dict[str, bytes]:
    """What was learned from, for people and for programs."""
    page = context.run.profile_page
    files = {
        "data/profile.html": page,
        "data/profile.json": page.with_suffix(".json"),
        "data/time_gap.json": context.run.time_gap,
    }
    return {name: path.read_bytes() for name, path in files.items() if path.is_file()}


def _artifacts(context: RunContext, result: StudyResult, verified: Verified, report: StudyReport) -> dict[str, bytes]:
    past_study, audit = context.run.study / HISTORY_ARTIFACT, context.run.label_audit
    return {
        **({"label_audit.json": audit.read_bytes()} if audit.exists() else {}),
        **({HISTORY_ARTIFACT: past_study.read_bytes()} if past_study.exists() else {}),
        "mlcluster.yaml": spec_to_yaml(context.spec).encode(),
        "verdict.json": json.dumps(verified.verdict.to_json(), indent=1).encode(),
        "verdict.txt": verified.verdict.summary().encode(),
        "plots/score_against_dollars.png": _score_plot(result),
        "plots/cost_by_family.png": _cost_plot(result),
        "plots/forecast_against_actual.png": _forecast_plot(report.forecast),
        "report.html": context.run.report.read_bytes(),
        **_data_files(context),
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


def _forecast_plot(check: ForecastCheck) -> bytes:
    """Actual seconds of each segment against the expected ones, with the worst case that was paid for."""
    figure, axes = _new_figure()
    expected = [one.expected_seconds for one in check.points]
    actual = [one.actual_seconds for one in check.points]
    worst = [(one.expected_seconds, one.worst_case_seconds) for one in check.points if one.worst_case_seconds]
    if expected:
        axes.set_xscale("log")
        axes.set_yscale("log")
        ends = [min(*expected, *actual), max(*expected, *actual)]
        axes.plot(ends, ends, color="grey", linewidth=1, label="as forecast")
    if worst:
        axes.scatter(*zip(*worst, strict=True), marker="_", s=24, color="tab:orange", label="worst case")
    axes.scatter(expected, actual, s=12, alpha=0.6, label="a segment")
    axes.set_xlabel("expected seconds")
    axes.set_ylabel("seconds that it took")
    error = "unknown" if check.median_abs_log_error is None else f"{check.median_abs_log_error:.2f}"
    axes.set_title(f"{len(check.points)} segments, median |ln actual / expected| {error}")
    axes.legend(loc="best")
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
