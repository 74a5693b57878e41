"""`cluster check | size | up | down | watch-spot`: a look at a cluster file, then thin over `ray up` and `ray down`."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from mlcluster.cli.cluster_checking import ClusterReport, check_cluster
from mlcluster.cli.cluster_sizing import SizeQuestion, find_sizes, size_lines
from mlcluster.cli.options import json_option, print_json, project_options
from mlcluster.cluster import Goal, PricedType
from mlcluster.cluster.spot_notice import ADDRESS, NOTICES, Cloud, Metadata, Notice, watch
from mlcluster.errors import ClusterError, SpecError
from mlcluster.spec import ProjectSpec, load_spec, span_seconds

_HEADINGS = ("type", "nodes", "instance", "CPU", "GPU", "bought", "$/hour")
_FILE = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
_CRDS = click.option(
    "--crds",
    type=click.Path(path_type=Path, file_okay=False),
    help="A folder with KubeRay's CustomResourceDefinitions, to hold its resources against.",
)
_DRY_RUN = click.option("--dry-run", is_flag=True, help="Check, and print the command; start nothing.")
_YES = click.option("--yes", "-y", is_flag=True, help="Do not ask.")


@click.group()
def cluster() -> None:
    """Check a cluster file, bring the cluster up, take it down."""


@cluster.command()
@_FILE
@project_options
@_CRDS
@json_option
def check(file: Path, config: Path, overrides: tuple[str, ...], crds: Path | None, as_json: bool) -> int:
    """Say what is wrong with FILE, and what an hour costs; exit code 2 where something is."""
    report = check_cluster(file, spec=_spec(config, overrides), crds=crds)
    if as_json:
        print_json(report.to_json())
    else:
        _print_report(report)
    return 2 if report.has_errors else 0


@cluster.command("watch-spot")
@click.option("--cloud", type=click.Choice(list(NOTICES)), required=True, help="Whose machine this is.")
@click.option("--address", metavar="HOST:PORT", help="Of the cluster; else of the Ray on this machine.")
@click.option("--metadata", default=ADDRESS, show_default=True, metavar="URL", help="Of the metadata service.")
def watch_spot(cloud: Cloud, address: str | None, metadata: str) -> None:
    """Wait for the cloud's notice that this machine is taken away, then drain it, so that its work moves in time.

    Runs on each worker that may be spot, beside its Ray: the cluster files start it.
    """

    def drain(notice: Notice) -> None:
        from mlcluster.cluster.ray_drain import drain_machine

        click.echo(f"spot notice: {notice.text}", err=True)
        drain_machine(message=f"spot notice: {notice.text}", until=notice.until, address=address)

    watch(NOTICES[cloud](Metadata(metadata)), drain, clock=time.time, wait=time.sleep)


class _Span(click.ParamType[float]):
    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return span_seconds(str(value))
        except ValueError as error:
            self.fail(f"{value} {error}", param, ctx)


@cluster.command()
@_FILE
@click.option("--trials", type=click.IntRange(min=1), required=True, help="With which successive halving begins.")
@click.option("--trial", type=_Span(), required=True, help="A whole training on one slot, as in 30m.")
@click.option("--within", type=_Span(), required=True, help="The deadline, as in 4h.")
@click.option("--usd", type=click.FloatRange(min=0, min_open=True), help="The budget.")
@click.option("--halve-by", type=click.IntRange(min=2), default=3, show_default=True, help="The reduction factor.")
@click.option("--gpu", is_flag=True, help="Trials train on a GPU each.")
@json_option
def size(file: Path, as_json: bool, **asked: Any) -> int:
    """Say how many nodes of FILE to ask for in each stage of a study; exit code 2 where no plan does what is asked."""
    question = SizeQuestion(
        num_trials=asked["trials"],
        trial_seconds=asked["trial"],
        goal=Goal(deadline_seconds=asked["within"], budget_usd=asked["usd"]),
        reduction_factor=asked["halve_by"],
        on_gpu=asked["gpu"],
    )
    found = find_sizes(file, question)
    if as_json:
        print_json(found.to_json())
    else:
        click.echo("\n".join(size_lines(found)))
    return 0 if found.elastic.meets_deadline and found.elastic.meets_budget else 2


@cluster.command()
@_FILE
@project_options
@_YES
@_DRY_RUN
def up(file: Path, config: Path, overrides: tuple[str, ...], yes: bool, dry_run: bool) -> int:
    """Bring up the cluster of FILE with `ray up`, once nothing is wrong with it."""
    report = check_cluster(file, spec=_spec(config, overrides))
    for finding in report.findings:
        click.echo(f"{finding.level:<7}  {finding}", err=True)
    if report.forecast is not None:
        click.echo(_hour(report), err=True)
    if not report.is_ready and not dry_run:
        count = sum(finding.level != "warning" for finding in report.findings)
        raise SpecError(f"FILE = {file} has {count} thing{'s' * (count != 1)} to put right first; see above.")
    return _run(_command("up", file, report, ["-y"] if yes else []), dry_run=dry_run)


@cluster.command()
@_FILE
@_YES
@_DRY_RUN
def down(file: Path, yes: bool, dry_run: bool) -> int:
    """End the cluster of FILE with `ray down`, its head included."""
    return _run(_command("down", file, check_cluster(file), ["-y"] if yes else []), dry_run=dry_run)


def _spec(config: Path, overrides: tuple[str, ...]) -> ProjectSpec | None:
    """The project that is to run there; None where there is no project file in the default place."""
    if not config.exists() and not overrides and config == Path("mlcluster.yaml"):
        click.echo(f"note: no {config} here, so what a project asks of the cluster was not looked at", err=True)
        return None
    return load_spec(config, overrides=overrides)


def _command(verb: str, file: Path, report: ClusterReport, options: Sequence[str]) -> list[str]:
    """`ray`, or `kubectl` for KubeRay's; `NAME=value` first where the client must know which autoscaler is used."""
    provider = None if report.plan is None else report.plan.provider
    if provider == "kuberay":  # it asks nothing
        return ["kubectl", {"up": "apply", "down": "delete"}[verb], "-f", str(file)]
    if provider != "local":
        return ["ray", verb, str(file), *options]
    more = ["--no-config-cache"] if verb == "up" else []
    return ["RAY_UP_enable_autoscaler_v2=0", "ray", verb, str(file), *more, *options]


def _run(command: Sequence[str], *, dry_run: bool) -> int:
    click.echo(shlex.join(command), err=True)
    if dry_run:
        return 0
    settings = dict(word.split("=", 1) for word in command if word.startswith("RAY_"))
    words = list(command[len(settings) :])
    if words[0] == "ray":
        words[0] = str(Path(sys.executable).with_name("ray"))
    elif shutil.which(words[0]) is None:
        raise ClusterError(f"{words[0]} = no such command here; install it, or run the line above where it is.")
    done = subprocess.run(words, check=False, env={**os.environ, **settings})  # noqa: S603 - our own words, no shell
    return done.returncode


def _print_report(report: ClusterReport) -> None:
    if report.plan is not None:
        plan = report.plan
        idle = "" if plan.idle_minutes is None else f"; an idle worker goes back after {plan.idle_minutes:g} minutes"
        click.echo(f"{plan.name}: {', '.join(filter(None, (plan.provider, plan.region)))}{idle}")
        for line in _aligned([_HEADINGS, *(_cells(one) for one in report.types)]):
            click.echo(line)
        click.echo(_hour(report) if report.forecast else "an hour: not known, for a type has no price")
    for finding in report.findings:
        click.echo(f"{finding.level:<7}  {finding}")
    if not report.findings:
        click.echo("nothing is wrong")


def _hour(report: ClusterReport) -> str:
    assert report.forecast is not None
    hour = report.forecast
    return (
        f"an hour: ${hour.min_usd:.2f} at least, ${hour.typical_usd:.2f} at half size, ${hour.max_usd:.2f} at most, "
        f"without disks and traffic; {hour.max_watts / 1000:.2f} kW at most (estimated)"
    )


def _cells(one: PricedType) -> tuple[str, ...]:
    node, offer = one.node, one.resources
    nodes = str(node.min_nodes) if node.min_nodes == node.max_nodes else f"{node.min_nodes}..{node.max_nodes}"
    bought = "" if node.instance_type is None else "spot" if node.is_spot else "on demand"
    price = "" if one.usd_per_hour is None else f"{one.usd_per_hour:.4f}"
    counts = (f"{offer[key]:g}" if key in offer else ("" if not offer else "0") for key in ("CPU", "GPU"))
    return (node.name, nodes, node.instance_type or "", *counts, bought, price)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
