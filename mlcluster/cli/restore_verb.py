"""`restore`: serves again what was served on this cluster before its head was lost; the cluster files call it."""

from __future__ import annotations

import os

import click

from mlcluster.cli.ray_local import LocalRay
from mlcluster.cli.workspace import workspaces_home

FAILED = 1


@click.command()
@click.option("--address", metavar="HOST:PORT", help="Of the cluster; else RAY_ADDRESS, or the Ray on this machine.")
@click.option("--wait", default=600.0, show_default=True, metavar="SECONDS", help="For workers to join, and the model.")
def restore(address: str | None, wait: float) -> int:
    """Serve again what each project of this head had deployed when its Ray ended.

    Does nothing for a project that has deployed nothing, or has ended it with `mlcluster down`. Exit code 1 where a
    model could not be served again; it says why.
    """
    from mlcluster.cli.served_record import read_served, restored

    os.environ["RAY_ADDRESS"] = address or os.environ.get("RAY_ADDRESS", "auto")
    home = workspaces_home()
    assert home is not None, "RAY_ADDRESS is set"
    records = list(read_served(home))
    if not records:
        click.echo("nothing was served here", err=True)
        return 0
    LocalRay(home).connect(num_cpus=1)
    return FAILED if restored(records, wait_seconds=wait, say=lambda text: click.echo(text, err=True)) else 0
