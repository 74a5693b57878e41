"""`data`: what the data is like, before anything is learned from it; the same, encoded; and the labels it lacks."""

from __future__ import annotations

from pathlib import Path

import click

from mlcluster.cli.data_label import label
from mlcluster.cli.options import json_option, load_project, print_json, project_options
from mlcluster.cli.project import RunOptions
from mlcluster.cli.row_text import rows_line
from mlcluster.data import ALL_ENCODINGS, Encoding
from mlcluster.errors import SpecError


@click.group()
def data() -> None:
    """Look at the data, and label it."""


data.add_command(label)


@data.command()
@project_options
@json_option
@click.option("--html", "html", type=click.Path(path_type=Path, dir_okay=False), help="Write a page to this file.")
def profile(config: Path, overrides: tuple[str, ...], as_json: bool, html: Path | None) -> None:
    """Columns, splits, findings, and a suggested `expect:` block."""
    found = load_project(config, overrides).profile()
    if html is not None:
        html.write_text(found.to_html(), encoding="utf-8")
        click.echo(f"wrote {html}", err=True)
    if as_json:
        print_json(found.to_json())
    else:
        click.echo(found.summary())


@data.command()
@project_options
@json_option
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the split.")
@click.option(
    "--encoding",
    type=click.Choice(ALL_ENCODINGS),
    default="mixed",
    show_default=True,
    help="mixed: scaled numbers, flags for small categories, codes for large ones; dense: nets; ordinal: trees.",
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="The folder, which is replaced."
)
def prepare(config: Path, overrides: tuple[str, ...], as_json: bool, seed: int, encoding: Encoding, out: Path) -> None:
    """Split, encode and write the data as Parquet shards, for training code of one's own."""
    if out.exists() and not (out / "manifest.json").is_file() and any(out.iterdir()):
        raise SpecError(f"--out = {out} holds something other than prepared data; name a new folder.")
    options = RunOptions(seed=seed)
    shards = load_project(config, overrides, options=options).prepare(out, encoding=encoding)
    manifest = shards.manifest
    if as_json:
        print_json({"folder": str(out), **manifest})
        return
    for finding in manifest["findings"]:
        click.echo(f"{finding['severity']}: {finding['message']}", err=True)
    click.echo(rows_line(manifest["rows"]))
    click.echo(f"{shards.transform.num_outputs} columns, {len(manifest['shards'])} shards in {out}")
