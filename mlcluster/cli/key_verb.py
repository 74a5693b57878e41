"""`key`: makes the keys that a project signs and answers with."""

from __future__ import annotations

from pathlib import Path

import click

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
