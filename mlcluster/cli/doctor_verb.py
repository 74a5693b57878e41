"""`doctor`: is this machine, and this project, fit for a run?"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import click

from mlcluster.cli.options import json_option, load_project, port_option, print_json, project_options
from mlcluster.cli.ray_local import is_port_free
from mlcluster.errors import MlclusterError

_PACKAGES = ("ray", "torch", "optuna", "pyarrow", "mlflow", "onnx", "onnxruntime", "scikit-learn")
_MIN_FREE_GIB = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    is_fine: bool
    found: str
    fix: str = ""


@click.command()
@project_options
@port_option
@json_option
def doctor(config: Path, overrides: tuple[str, ...], port: int, as_json: bool) -> int:
    """Check Python, packages, memory, disk, port and the project file; exit code 2 where one is wrong."""
    checks = [*_machine_checks(), *_project_checks(config, overrides, port)]
    if as_json:
        print_json({"is_fine": all(check.is_fine for check in checks), "checks": [asdict(check) for check in checks]})
    else:
        for check in checks:
            mark = "ok   " if check.is_fine else "WRONG"
            click.echo(f"{mark} {check.name:<13} {check.found}" + ("" if check.is_fine else f"; {check.fix}"))
    return 0 if all(check.is_fine for check in checks) else 2


def _machine_checks() -> Iterator[Check]:
    version = sys.version_info
    yield Check(
        name="python",
        is_fine=version >= (3, 11),
        found=f"{version.major}.{version.minor}.{version.micro}",
        fix="install Python 3.11 or newer",
    )
    for package in _PACKAGES:
        try:
            yield Check(name=package, is_fine=True, found=importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            yield Check(name=package, is_fine=False, found="missing", fix="install mlcluster again with pip")
    yield Check(name="cpus", is_fine=True, found=str(len(os.sched_getaffinity(0))))
    free_gib = shutil.disk_usage(Path.cwd()).free / 2**30
    yield Check(
        name="disk",
        is_fine=free_gib >= _MIN_FREE_GIB,
        found=f"{free_gib:.1f} GiB free",
        fix=f"free at least {_MIN_FREE_GIB:g} GiB",
    )


def _port_check(port: int, served_url: str | None) -> Check:
    """A port in use is fine where it is this project's own endpoint that answers there."""
    if is_port_free("127.0.0.1", port):
        return Check(name="port", is_fine=True, found=f"{port} is free")
    is_ours = served_url is not None and urlsplit(served_url).port == port
    return Check(
        name="port",
        is_fine=is_ours,
        found=f"{port} is in use" + (" by this project's endpoint" if is_ours else ""),
        fix="end the process that listens there, or use --port",
    )


def _project_checks(config: Path, overrides: tuple[str, ...], port: int) -> Iterator[Check]:
    if not config.exists():
        yield _port_check(port, None)
        yield Check(name="project", is_fine=True, found=f"no {config} here; `mlcluster init` makes one")
        return
    try:
        project = load_project(config, overrides)
        endpoint = project.endpoint()
        plan = project.plan()
    except MlclusterError as error:
        yield _port_check(port, None)
        found = str(error).replace("\n", " | ").rstrip(".")
        yield Check(name="project", is_fine=False, found=found, fix="edit the file")
        return
    yield _port_check(port, None if endpoint is None else endpoint["url"])
    yield Check(
        name="project",
        is_fine=True,
        found=f"{plan.profile.num_rows} rows, {plan.profile.task}, about ${plan.forecast.expected_usd:.4f} a run",
    )
