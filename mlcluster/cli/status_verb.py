"""`status`: what there is of this project, and whether it answers."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import click

from mlcluster.cli.options import json_option, load_project, print_json, project_options
from mlcluster.cli.project import Project


@click.command()
@project_options
@json_option
def status(config: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Show the newest run, the endpoint and whether it answers."""
    found = project_status(load_project(config, overrides))
    if as_json:
        print_json(found)
        return
    run, endpoint = found["run"], found["endpoint"]
    if run is None:
        click.echo("run       none yet; start with `mlcluster run`")
    else:
        click.echo(f"run       {run['id']} ({', '.join(run['done']) or 'nothing'} done)")
        if run["version"] is not None:
            click.echo(f"version   {found['project']} {run['version']}")
    if endpoint is None:
        click.echo("endpoint  none")
    else:
        answers = "answers" if endpoint["is_ready"] else "does not answer"
        click.echo(f"endpoint  {endpoint['url']} {answers} (version {endpoint['version']})")
        for other in endpoint.get("also", ()):
            names = "".join(f" @{alias}" for alias in other["aliases"])
            click.echo(f"beside    {other['name']} version {other['version']}{names}")


def project_status(project: Project) -> dict[str, Any]:
    """Plain JSON."""
    runs = project.workspace.runs()
    endpoint = project.endpoint()
    run = None
    if runs:
        state = runs[-1].state()
        run = {
            "id": runs[-1].run_id,
            "done": [stage for stage in ("data", "tune") if state.get(stage) == "done"]
            + (["verify"] if state.get("version") else []),
            "is_finished": bool(state.get("is_finished")),
            "version": state.get("version"),
        }
    return {
        "project": project.spec.project,
        "run": run,
        "endpoint": None if endpoint is None else {**endpoint, "is_ready": is_ready(endpoint["url"])},
    }


def is_ready(url: str) -> bool:
    """Whether the endpoint says that its model is ready."""
    try:
        with urllib.request.urlopen(f"{url}/v2/health/ready", timeout=10) as answer:  # noqa: S310 - our own http URL
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
