"""`submit STAGE`: thin over `ray job submit`; it prints the command that it runs, and ends as the job has ended."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from mlcluster.cli.options import project_options
from mlcluster.cluster.keys import TOKEN_FILE
from mlcluster.errors import SpecError

STAGES = ("pipeline", "profile", "tune", "verify", "deploy")
INTERRUPTED = 130
_JOB_ID = re.compile(r"raysubmit_\w+")
_TOKEN_VARIABLES = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@click.command()
@click.argument("stage", type=click.Choice(STAGES))
@project_options
@click.option("--address", metavar="URL", help="Of the cluster's dashboard; else RAY_API_SERVER_ADDRESS counts.")
@click.option("--dry-run", is_flag=True, help="Print the command; submit nothing.")
@click.argument("more", nargs=-1)
def submit(stage: str, more: tuple[str, ...], config: Path, overrides: tuple[str, ...], **given: Any) -> int:
    """Run STAGE as a job on a Ray cluster, from a copy of this folder; MORE are its options, after a `--`.

    Ends with the exit code of the job. Ctrl-C leaves the job running.
    """
    address: str | None = given["address"]
    script = Path("jobs") / f"{stage}.py"
    if not script.exists():
        raise SpecError(f"{script} = no file here; run this in a project's folder, or make one with `mlcluster init`.")
    job = ["python", str(script), "--config", str(config), *(f"--set={override}" for override in overrides), *more]
    at = ["--address", address] if address else []
    command = ["ray", "job", "submit", *at, "--working-dir", ".", "--", *job]
    click.echo(shlex.join(command), err=True)
    if given["dry_run"]:
        return 0
    _use_token()
    followed = _Followed()
    try:
        code = followed.run(command)
    except KeyboardInterrupt:
        return _left_running(followed.job_id, at)
    if followed.job_id is None:
        return code
    return _end_of(followed.job_id, at, address)


class _Followed:
    """A `ray job submit` whose words are passed on as they come; `job_id` is known once it has said it."""

    def __init__(self) -> None:
        self.job_id: str | None = None

    def run(self, command: Sequence[str]) -> int:
        ray = Path(sys.executable).with_name("ray")
        # Unbuffered: into a pipe, Python would keep the lines of a job back until there are 8 KB of them.
        with (
            subprocess.Popen(  # noqa: S603 - Ray quotes for its shell
                [str(ray), *command[1:]],
                stdout=subprocess.PIPE,
                text=True,
                errors="replace",
                bufsize=1,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            ) as process
        ):
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    if self.job_id is None and (found := _JOB_ID.search(line)):
                        self.job_id = found[0]
                    click.echo(line, nl=False)
            except KeyboardInterrupt:
                process.terminate()  # of itself, where the terminal has not told it
                raise
        return process.returncode


def _use_token() -> None:
    """Where there is a token it is sent, though Ray asks to be told so."""
    if TOKEN_FILE.expanduser().exists() or any(name in os.environ for name in _TOKEN_VARIABLES):
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _left_running(job_id: str | None, at: Sequence[str]) -> int:
    if job_id is None:
        click.echo("interrupted before the job was known; see whether it runs with: ray job list", err=True)
    else:
        follow = shlex.join(["ray", "job", "logs", *at, "--follow", job_id])
        stop = shlex.join(["ray", "job", "stop", *at, job_id])
        click.echo(f"job {job_id} goes on; come back to it with: {follow}\nend it with: {stop}", err=True)
    return INTERRUPTED


def _end_of(job_id: str, at: Sequence[str], address: str | None) -> int:
    from mlcluster.cluster.ray_jobs import exit_code_of

    code = exit_code_of(job_id, address=address)
    return _left_running(job_id, at) if code is None else code
