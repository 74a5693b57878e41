"""`data`: what there is to learn from, and what it is like, before anything is learned from it."""

from __future__ import annotations

from pathlib import Path

import click

from mlcluster.cli.catalog_verb import find, ls, show
from mlcluster.cli.options import json_option, load_project, print_json, project_options


@click.group()
def data() -> None:
    """Look at the data."""


for command in (ls, show, find):
    data.add_command(command)


@data.command()
@project_options
@json_option
@click.option("--html", "html", type=click.Path(path_type=Path, dir_okay=False), help="Write a page to this file.")
def profile(config: Path, overrides: tuple[str, ...], as_json: bool, html: Path | None) -> None:
    """Columns, splits, findings, and a suggested `expect:` block."""
    found = load_project(config, overrides).profile()
    if html is not None:
        html.write_text(found.to_html(), encoding="utf-8")
        click.echo(f"wrote {html}", err=True)
    if as_json:
        print_json(found.to_json())
    else:
        click.echo(found.summary())
