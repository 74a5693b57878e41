"""`down`: ends what `run` left serving."""

from __future__ import annotations

from pathlib import Path

import click

from mlcluster.cli.options import json_option, load_project, print_json, project_options


@click.command()
@project_options
@json_option
def down(config: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """End the endpoint and the local Ray under it."""
    was_running = load_project(config, overrides).down()
    if as_json:
        print_json({"was_running": was_running})
    else:
        click.echo("ended" if was_running else "nothing was running")
