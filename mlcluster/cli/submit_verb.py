"""`submit STAGE`: thin over `ray job submit`; it prints the command that it runs."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from mlcluster.cli.options import project_options
from mlcluster.errors import SpecError

STAGES = ("pipeline", "profile", "tune", "verify", "deploy")


@click.command()
@click.argument("stage", type=click.Choice(STAGES))
@project_options
@click.option("--address", metavar="URL", help="Of the cluster's dashboard; else RAY_API_SERVER_ADDRESS counts.")
@click.option("--dry-run", is_flag=True, help="Print the command; submit nothing.")
@click.argument("more", nargs=-1)
def submit(stage: str, more: tuple[str, ...], config: Path, overrides: tuple[str, ...], **given: Any) -> int:
    """Run STAGE as a job on a Ray cluster, from a copy of this folder; MORE are its options, after a `--`."""
    address: str | None = given["address"]
    script = Path("jobs") / f"{stage}.py"
    if not script.exists():
        raise SpecError(f"{script} = no file here; run this in a project's folder, or make one with `mlcluster init`.")
    job = ["python", str(script), "--config", str(config), *(f"--set={override}" for override in overrides), *more]
    command = ["ray", "job", "submit", *(["--address", address] if address else []), "--working-dir", "."]
    click.echo(shlex.join([*command, "--", *job]), err=True)
    if given["dry_run"]:
        return 0
    ray = Path(sys.executable).with_name("ray")
    done = subprocess.run([str(ray), *command[1:], "--", *job], check=False)  # noqa: S603 - Ray quotes for its shell
    return done.returncode
