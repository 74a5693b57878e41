"""`cost`: forecast against actual, by stage and by trial."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from mlcluster.cli.node_accounts import node_accounts, node_lines
from mlcluster.cli.options import json_option, load_project, print_json, project_options
from mlcluster.cli.project import Project
from mlcluster.cli.tune_stage import read_study
from mlcluster.cli.workspace import RunFolder
from mlcluster.cost import Bill, read_bills, read_ledger

NOTHING = Bill(usd=0.0, seconds=0.0, shares={}, idle_usd=0.0, lost_usd=0.0, lost_with_workers_usd=0.0)


@click.command()
@project_options
@json_option
def cost(config: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Show what the newest run was forecast to cost, and what it has cost."""
    found = run_cost(load_project(config, overrides))
    if as_json:
        print_json(found)
        return
    click.echo(f"run {found['run']}, cap ${found['cap_usd']:g}")
    click.echo(f"{'stage':<8} {'forecast':>10} {'actual':>10} {'lost':>9} {'seconds':>8}")
    for stage in found["stages"]:
        forecast = "-" if stage["forecast_usd"] is None else f"{stage['forecast_usd']:.4f}$"
        lost, seconds = f"{stage['lost_usd']:.4f}$", f"{stage['seconds']:.1f}"
        click.echo(f"{stage['stage']:<8} {forecast:>10} {stage['usd']:>9.4f}$ {lost:>9} {seconds:>8}")
    click.echo(f"{'total':<8} {found['forecast_usd']:>9.4f}$ {found['spent_usd']:>9.4f}$ {found['lost_usd']:>8.4f}$")
    if found["trials"]:
        click.echo(f"\n{'trial':<7} {'family':<9} {'forecast':>10} {'actual':>10} {'seconds':>8} {'units':>6}  score")
    for trial in found["trials"]:
        score = "-" if trial["value"] is None else f"{trial['value']:.4f}"
        click.echo(
            f"{trial['id']:<7} {trial['family']:<9} {trial['forecast_usd']:>9.6f}$ {trial['usd']:>9.6f}$ "
            f"{trial['seconds']:>8.2f} {trial['units']:>6}  {score}"
        )
    if found["trials"]:
        click.echo(f"{'idle':<28} {found['idle_usd']:>9.6f}$   workers between trials, starting and ending")
    if found["trials"] and found["lost_with_workers_usd"]:
        note = "to no avail, among the trials' above: lost workers, trainings that raised"
        click.echo(f"{'lost with workers':<28} {found['lost_with_workers_usd']:>9.6f}$   {note}")
    if found["nodes"] is not None:
        click.echo("\n" + "\n".join(node_lines(found["nodes"], cap_usd=found["cap_usd"])))


def run_cost(project: Project) -> dict[str, Any]:
    """Plain JSON; the stages sum up to `spent_usd`; the trials, `idle_usd` and what was lost to the search.

    Lost is what dead drivers have cost and no trial bears; `lost_with_workers_usd` is among the trials' dollars.
    `nodes` is the bill of a cluster's nodes, and whose it was; None where the run was on no cluster.
    """
    run = project.workspace.latest_run()
    state = run.state()
    forecast: dict[str, float] = state.get("forecast", {})
    entries = list(read_ledger(run.ledger_path()))
    caps_usd = [float(entry.details["cap_usd"]) for entry in entries if entry.operation == "open"]
    bills = read_bills(entries)
    names = [*forecast, *(name for name in bills if name not in forecast)]
    stages = [{"stage": name, "forecast_usd": forecast.get(name), **_stage(bills.get(name, NOTHING))} for name in names]
    search = bills.get("tune", NOTHING)
    trials = _trials(run, search.shares) if state.get("tune") == "done" else []
    return {
        "run": run.run_id,
        "cap_usd": caps_usd[-1] if caps_usd else project.spec.tune.budget.usd,
        "forecast_usd": sum(forecast.values()),
        "spent_usd": sum(bill.usd for bill in bills.values()),
        "lost_usd": sum(bill.lost_usd for bill in bills.values()),
        "lost_with_workers_usd": search.lost_with_workers_usd,
        "idle_usd": search.idle_usd,
        "stages": stages,
        "trials": trials,
        "nodes": node_accounts(run),
    }


def _stage(bill: Bill) -> dict[str, float]:
    return {"usd": bill.usd, "lost_usd": bill.lost_usd, "seconds": bill.seconds}


def _trials(run: RunFolder, shares: Mapping[str, float]) -> list[dict[str, Any]]:
    """What each trial has cost in this attempt: nothing, where an earlier one has paid for the search."""
    result = read_study(run)
    return [
        {
            "id": trial.trial_id,
            "family": trial.family,
            "forecast_usd": trial.forecast_usd,
            "usd": shares.get(trial.trial_id, 0.0),
            "seconds": trial.seconds,
            "units": trial.units,
            "value": trial.value,
        }
        for trial in result.trials.values()
    ]
