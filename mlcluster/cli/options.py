"""Options that verbs share, and how they print."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlcluster.cli.run_options import DEFAULT_PORT, RunOptions

if TYPE_CHECKING:
    from mlcluster.cli.data_project import DataProject
    from mlcluster.cli.project import Project

Command = Callable[..., Any]


def project_options(command: Command) -> Command:
    """`--config` and `--set`: which project."""
    command = click.option(
        "--set", "overrides", multiple=True, metavar="KEY.PATH=VALUE", help="Override a key, as in tune.budget.usd=20."
    )(command)
    return click.option(
        "--config",
        "config",
        type=click.Path(path_type=Path),
        default=Path("mlcluster.yaml"),
        show_default=True,
        help="The project file.",
    )(command)


def _run_name(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:  # noqa: ARG001
    if value is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", value):
        raise click.BadParameter(f"{value!r} is no name for a run; use letters, digits, . _ and -.")
    return value


def run_options(command: Command) -> Command:
    """`--seed`, `--name`, `--fresh`, `--dry-run`: how a verb that spends does it."""
    command = click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of everything.")(
        command
    )
    command = click.option(
        "--name", callback=_run_name, help="Of the run: go on with the one of this name, or begin it; for jobs."
    )(command)
    command = click.option(
        "--fresh", is_flag=True, help="Start a new run, where one of the same data and search could be gone on with."
    )(command)
    return click.option("--dry-run", is_flag=True, help="Print the plan and its dollars; start nothing.")(command)


def port_option(command: Command) -> Command:
    """`--port`: where the endpoint listens, on loopback."""
    return click.option(
        "--port", type=click.IntRange(1, 65535), default=DEFAULT_PORT, show_default=True, help="Of the endpoint."
    )(command)


def json_option(command: Command) -> Command:
    """`--json`: for programs."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON object on the last line of stdout.")(command)


def load_project(
    config: Path, overrides: tuple[str, ...], *, options: RunOptions | None = None, quiet: bool = False
) -> Project:
    """The project that the shared options name."""
    from mlcluster.cli.project import Project

    return Project.load(config, overrides=overrides, options=options, quiet=quiet)


def load_data(config: Path, overrides: tuple[str, ...], *, options: RunOptions | None = None) -> DataProject:
    """The data of the project that the shared options name."""
    from mlcluster.cli.data_project import DataProject

    return DataProject.load_data(config, overrides=overrides, options=options)


def print_json(value: Any) -> None:
    """One line on stdout."""
    click.echo(json.dumps(value, default=str))
