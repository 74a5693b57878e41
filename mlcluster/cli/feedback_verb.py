"""`feedback [FILE]`: the labels that came for predictions, and how good the live answers are by them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from mlcluster.cli.options import json_option, load_project, print_json, project_options
from mlcluster.monitor import LiveQuality


@click.command()
@project_options
@json_option
@click.argument("file", required=False, type=click.Path(path_type=Path))
def feedback(config: Path, overrides: tuple[str, ...], as_json: bool, file: Path | None) -> None:
    """Show how good the live answers are, by the labels that came for them.

    FILE (.parquet, .csv or .json, with columns prediction_id and label) adds labels first, as POST /feedback does: of
    answers of the project's own model, and of those in serve.also.
    """
    project = load_project(config, overrides)
    num_added = 0 if file is None else project.add_feedback(file)
    report = project.live_quality()
    if as_json:
        print_json({"added": num_added, **asdict(report)})
        return
    if file is not None:
        click.echo(f"{num_added} labels added")
    for version in report.versions:
        _show(version)
    if not report.versions:
        click.echo("nothing has been answered yet")
    if report.num_unknown:
        click.echo(f"{report.num_unknown} labels are of answers that are not on record here")


def _show(version: LiveQuality) -> None:
    counts = f"{version.num_rows} rows answered, {version.num_labelled} with a label"
    click.echo(f"{version.model} version {version.version}: {counts}")
    if version.shortage is not None:
        click.echo(f"  {version.shortage}")
    for name, found in version.measures.items():
        click.echo(f"  {name:<18} {found.value:.4f}  [{found.lower:.4f}, {found.upper:.4f}]")
