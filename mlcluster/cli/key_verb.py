"""`key`: makes the keys that a project signs and answers with, and those that open its cluster."""

from __future__ import annotations

from pathlib import Path

import click

from mlcluster.cluster.keys import TOKEN_FILE, write_tls, write_token
from mlcluster.registry.signature import write_key_pair


@click.group()
def key() -> None:
    """Make keys."""


@key.command()
@click.argument("file", type=click.Path(path_type=Path))
def signing(file: Path) -> None:
    """Make FILE, a private Ed25519 key that signs models, and FILE.pub, the key that checks them."""
    private, public = write_key_pair(file)
    click.echo(f"{private}  signs; keep it out of version control. Set: serve.signing_key")
    click.echo(f"{public}  checks; give it to whoever serves. Set: serve.trusted_keys")


@key.command()
@click.argument("file", type=click.Path(path_type=Path), default=TOKEN_FILE)
def token(file: Path) -> None:
    """Make FILE (by default where Ray looks, ~/.ray/auth_token), the token of a cluster."""
    path = write_token(file.expanduser())
    click.echo(f"{path}  opens the cluster to whoever has it; cluster-configs/local.yaml carries it to each machine")


@key.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.argument("addresses", nargs=-1, required=True, metavar="ADDRESS...")
def tls(folder: Path, addresses: tuple[str, ...]) -> None:
    """Make certificates in FOLDER for TLS between machines of these ADDRESSES, the head's first."""
    for path in write_tls(folder.expanduser(), addresses):
        click.echo(str(path))
    click.echo("Set: the line ~/.ray/tls under file_mounts of the cluster file")
