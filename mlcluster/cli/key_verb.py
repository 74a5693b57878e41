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
@click.argument("name", required=False)
@click.option("--file", type=click.Path(path_type=Path), default="api-keys.json", show_default=True)
@click.option("--per-second", type=click.IntRange(1), help="Requests that the key has within a second.")
@click.option("--per-day", type=click.IntRange(1), help="Requests that the key has within 24 hours.")
@click.option("--revoke", is_flag=True, help="Take the key of NAME away.")
def api(name: str | None, file: Path, per_second: int | None, per_day: int | None, revoke: bool) -> None:
    """Make a key of the endpoint for NAME, kept as a hash in a file; without NAME, list those there are."""
    from mlcluster.serve.front.api_keys import ApiKeys

    keys = ApiKeys.read(file) if file.exists() or revoke else ApiKeys()
    if name is None:
        for one in keys:
            limits = (f"{one.per_second}/s" if one.per_second else "", f"{one.per_day}/day" if one.per_day else "")
            click.echo(" ".join(filter(None, (one.name, *limits))))
        return
    if revoke:
        keys.without(name).write(file)
        click.echo(f"{name} is refused from the next `mlcluster deploy` on", err=True)
        return
    keys, secret = keys.with_new(name, per_second=per_second, per_day=per_day)
    keys.write(file)
    click.echo(secret)
    click.echo(
        f"shown once: {file} has its hash alone. Set: serve.api_keys; it counts from the next `mlcluster deploy` on. "
        'Clients send "authorization: Bearer KEY"',
        err=True,
    )


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
