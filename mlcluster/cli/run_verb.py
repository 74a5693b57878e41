"""`run`, `tune`, `verify`, `deploy`: the verbs that spend. Each does what is missing before it, and stops behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from mlcluster.cli.explaining import WHOLE_STUDY, explain
from mlcluster.cli.options import json_option, load_project, port_option, print_json, project_options, run_options
from mlcluster.cli.plan_verb import print_plan
from mlcluster.cli.project import Project
from mlcluster.cli.replaying import replay
from mlcluster.cli.run_options import DEFAULT_PORT, RunOptions
from mlcluster.errors import GateFailed

BUDGET_SPENT = 4

explain_option = click.option(
    "--explain",
    is_flag=False,
    flag_value=WHOLE_STUDY,
    metavar="[TRIAL]",
    help="Tell the story of a trial, or of the study, from its journal; start nothing.",
)
replay_option = click.option(
    "--replay", is_flag=True, help="Play the journal to the policy, and say whether it decides the same; start nothing."
)


@click.command()
@project_options
@run_options
@port_option
@json_option
def run(**given: Any) -> int:
    """Data, search, verification, registry and endpoint: the whole line."""
    return _spend(Project.run, given)


@click.command()
@project_options
@run_options
@explain_option
@replay_option
@json_option
def tune(**given: Any) -> int:
    """Search for the best configuration that the money can buy."""
    if given["replay"]:
        return replay(load_project(given["config"], given["overrides"]), as_json=given["as_json"])
    if given["explain"] is None:
        return _spend(Project.tune, given)
    explain(load_project(given["config"], given["overrides"]), given["explain"], as_json=given["as_json"])
    return 0


@click.command()
@project_options
@run_options
@json_option
def verify(**given: Any) -> int:
    """Hold the winner against the requirements, and register it with the evidence."""
    return _spend(Project.verify, given)


@click.command()
@project_options
@run_options
@port_option
@json_option
def deploy(**given: Any) -> int:
    """Serve the verified winner over HTTP."""
    return _spend(Project.deploy, given)


def _spend(verb: Callable[[Project], dict[str, Any]], given: dict[str, Any]) -> int:
    options = RunOptions(
        seed=given["seed"], port=given.get("port", DEFAULT_PORT), fresh=given["fresh"], name=given["name"]
    )
    config: Path = given["config"]
    project = load_project(config, given["overrides"], options=options)
    if given["dry_run"]:
        print_plan(project, as_json=given["as_json"])
        return 0
    try:
        summary = verb(project)
    except GateFailed as error:
        failed: dict[str, Any] | None = getattr(error, "summary", None)
        if failed is None:
            raise
        # Said before the result: in the log of a job, too, the result is the last line.
        click.echo(f"mlcluster: {error}", err=True)
        _print(failed, as_json=given["as_json"])
        return error.exit_code
    if summary["budget_spent"]:
        click.echo(
            "mlcluster: tune.budget was spent before each family was tried and one trial trained in full; "
            "the result can be used, and a larger budget may find a better one.",
            err=True,
        )
    _print(summary, as_json=given["as_json"])
    return BUDGET_SPENT if summary["budget_spent"] else 0


def _print(summary: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(summary)
        return
    metric = summary["metric"]
    scores = ", ".join(
        f"{split} {summary[split][metric]:.4f}" for split in ("validation", "test") if metric in summary[split]
    )
    baseline = summary["baseline"]["validation"][metric]
    click.echo(f"model     {summary['family']} (trial {summary['trial']} of {summary['trials']})")
    click.echo(f"{metric:<9} {scores} (constant baseline {baseline:.4f})")
    click.echo(
        f"dollars   {summary['spent_usd']:.4f} spent of {summary['cap_usd']:g} "
        f"(forecast {summary['forecast_usd']:.4f}), {summary['seconds']:.0f} s"
    )
    if summary["model_version"] is not None:
        click.echo(f"version   {summary['project']} {summary['model_version']} (MLflow run {summary['run_id']})")
    if summary["endpoint"] is not None:
        click.echo(f"endpoint  {summary['endpoint']}  (docs at {summary['endpoint']}/docs, end it: mlcluster down)")
