"""`data`: what there is to learn from, what it is like, the same encoded, and the labels that it lacks."""

from __future__ import annotations

from pathlib import Path

import click

from mlcluster.cli.augment_verb import augment
from mlcluster.cli.catalog_verb import find, ls, show
from mlcluster.cli.data_label import label
from mlcluster.cli.options import json_option, load_data, print_json, project_options
from mlcluster.cli.row_text import rows_line
from mlcluster.cli.run_options import RunOptions
from mlcluster.data import ALL_ENCODINGS, Encoding
from mlcluster.errors import SpecError


@click.group()
def data() -> None:
    """Look at the data, and label it."""


data.add_command(label)


for command in (ls, show, find, augment):
    data.add_command(command)


@data.command()
@project_options
@json_option
@click.option("--html", "html", type=click.Path(path_type=Path, dir_okay=False), help="Write a page to this file.")
def profile(config: Path, overrides: tuple[str, ...], as_json: bool, html: Path | None) -> None:
    """Columns, splits, findings, and a suggested `expect:` block."""
    found = load_data(config, overrides).profile()
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
    shards = load_data(config, overrides, options=options).prepare(out, encoding=encoding)
    manifest = shards.manifest
    if as_json:
        print_json({"folder": str(out), **manifest})
        return
    for finding in manifest["findings"]:
        click.echo(f"{finding['severity']}: {finding['message']}", err=True)
    click.echo(rows_line(manifest["rows"]))
    click.echo(f"{shards.transform.num_outputs} columns, {len(manifest['shards'])} shards in {out}")


@data.command()
@project_options
@json_option
@click.argument("source", required=False)
@click.option(
    "--quarantine", type=click.Path(path_type=Path, dir_okay=False), help="Write the bad rows with their reasons here."
)
def check(config: Path, overrides: tuple[str, ...], as_json: bool, source: str | None, quarantine: Path | None) -> None:
    """Hold the data, or SOURCE in its place, against `expect:`; exit code 2 where a rule is broken."""
    found = load_data(config, overrides).check(source)
    if quarantine is not None:
        import pyarrow.parquet as pq

        pq.write_table(found.quarantine(), quarantine)
    if as_json:
        print_json(found.to_json())
    for note in found.notes:
        click.echo(f"{note.severity}: {note.message}", err=True)
    for rule in () if as_json else found.broken:
        rows = f" in {rule.num_rows} rows ({', '.join(map(str, rule.first_rows))}" if rule.num_rows else ""
        more = ", ..." if rule.num_rows > len(rule.first_rows) else ""
        shown = f"{rows}{more}; first value {rule.example})" if rows else ""
        click.echo(f"{rule.column} = {rule.expected}: {rule.problem}{shown}")
    if not as_json:
        bad = len(found.bad_rows)
        click.echo(f"{found.num_rows} rows: {found.num_rows - bad} good, {bad} bad; {len(found.broken)} rules broken")
    if not found.passed:
        raise click.exceptions.Exit(2)
