"""`config`: the project file with every default filled in."""

from __future__ import annotations

from pathlib import Path

import click

from mlcluster.cli.options import json_option, load_project, print_json, project_options
from mlcluster.spec import spec_to_yaml


@click.command()
@project_options
@json_option
def config(config: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Print the resolved project file: every key in its mapping form, all defaults filled in."""
    spec = load_project(config, overrides).spec
    if as_json:
        print_json({**spec.model_dump(mode="json"), "fingerprint": spec.fingerprint})
    else:
        click.echo(spec_to_yaml(spec), nl=False)
