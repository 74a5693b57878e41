"""`lineage ID`: from a prediction to everything it came from."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mlcluster.cli.options import json_option, load_project, print_json, project_options


@click.command()
@project_options
@json_option
@click.argument("prediction_id")
def lineage(config: Path, overrides: tuple[str, ...], as_json: bool, prediction_id: str) -> None:
    """Trace PREDICTION_ID: model version, trial, configuration, data snapshot, code and dollars."""
    found = load_project(config, overrides).lineage(prediction_id)
    if as_json:
        print_json(found)
        return
    record = found["prediction"]["record"]
    click.echo(f"prediction     {prediction_id}")
    if record is not None:
        click.echo(f"  answered     {record['received_at']} in {record['latency_ms']:.1f} ms")
        click.echo(f"  inputs       {_short(record['inputs'])}")
        click.echo(f"  outputs      {_short(record['outputs'])}")
    else:
        click.echo("  record       none on this machine")
    for row, label in found["prediction"]["feedback"].items():
        click.echo(f"  label        {label} for row {row}, which came later")
    version = found["model_version"]
    click.echo(f"model version  {version['name']} {version['version']} {' '.join(version['aliases'])}".rstrip())
    click.echo(f"trial          {found['trial']['id']} ({found['trial']['family']}) of run {found['run']}")
    click.echo(f"configuration  {_short(found['configuration'])}")
    click.echo(f"data           snapshot {found['data']['snapshot']} of {found['data']['source']}")
    for name, digest in found["data"]["sources"].items():
        click.echo(f"  source       {name}, SHA-256 {digest}")
    click.echo(f"code           {found['code']}")
    click.echo(f"dollars        {found['trial']['usd']:.6f} for the trial, {found['usd']:.4f} for the run until then")
    click.echo(f"MLflow run     {found['mlflow_run_id']}")


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 300 else text[:297] + "..."
