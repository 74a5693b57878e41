"""`plan`: what a run would do and cost, before anything is spent."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from mlcluster.cli.leasing import lease_lines
from mlcluster.cli.options import json_option, load_project, print_json, project_options
from mlcluster.cli.planning import Plan
from mlcluster.cli.project import Project


@click.command()
@project_options
@json_option
def plan(config: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Say what a run would do, and forecast its dollars."""
    print_plan(load_project(config, overrides), as_json=as_json)


def print_plan(project: Project, *, as_json: bool) -> None:
    """The forecast as a table, or as one JSON object; on stderr, what is not acted on yet."""
    found = project.plan()
    if as_json:
        print_json(plan_to_json(found))
    else:
        _print_table(found)
    for note in project.notes():
        click.echo(f"note: {note}", err=True)
    for finding in found.profile.stale_sources:
        click.echo(f"warning: {finding.message}", err=True)


def _print_table(found: Plan) -> None:
    rows = ", ".join(f"{count} {split}" for split, count in found.profile.num_split_rows.items())
    click.echo(f"data    {found.profile.source}: {found.profile.num_rows} rows ({rows})")
    click.echo(f"task    {found.profile.task}, by {found.metric}")
    click.echo(f"models  {', '.join(found.study.spaces)}")
    for place, line in enumerate(lease_lines(found.lease)):
        click.echo(f"{'' if place else 'workers':<7} {line}")
    click.echo("")
    click.echo(f"{'stage':<8} {'expected':>10} {'at most':>10} {'seconds':>8}")
    for stage in found.forecast.stages:
        click.echo(
            f"{stage.stage:<8} {stage.expected_usd:>9.4f}$ {stage.worst_case_usd:>9.4f}$ "
            f"{stage.expected_seconds:>8.0f}  {stage.note}".rstrip()
        )
    total = sum(stage.expected_seconds for stage in found.forecast.stages)
    forecast = found.forecast
    click.echo(f"{'total':<8} {forecast.expected_usd:>9.4f}$ {forecast.worst_case_usd:>9.4f}$ {total:>8.0f}")
    click.echo(f"cap      {forecast.cap_usd:.4f}$, and {found.study.budget.seconds:.0f} s of search at most")


def plan_to_json(found: Plan) -> dict[str, Any]:
    """Plain JSON."""
    return {
        "task": found.profile.task,
        "metric": found.metric,
        "rows": found.profile.num_split_rows,
        "models": list(found.study.spaces),
        "rungs_seconds": list(found.study.settings.rungs_seconds),
        "workers": found.study.budget.num_slots,
        "worker_kinds": [
            {"name": kind.name, "num_slots": kind.num_slots, "usd_per_second": kind.usd_per_second}
            for kind in found.lease.kinds
        ],
        "crossovers": [asdict(one) for one in found.lease.crossovers],
        "forecast_usd": found.forecast.expected_usd,
        "worst_case_usd": found.forecast.worst_case_usd,
        "cap_usd": found.forecast.cap_usd,
        "stages": [
            {**asdict(stage), "expected_usd": stage.expected_usd, "worst_case_usd": stage.worst_case_usd}
            for stage in found.forecast.stages
        ],
    }
