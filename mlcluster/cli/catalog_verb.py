"""`data ls`, `data show`, `data find`: which tables there are, whose, how fresh, and which of them holds a column."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from mlcluster.cli.cataloguing import SourceStatus
from mlcluster.cli.options import json_option, load_data, print_json, project_options
from mlcluster.data.catalog import span_text

_HEADINGS = ("name", "kind", "rows", "columns", "size", "age", "version", "sha256", "owner", "place")
_IS_RIGHT = (False, False, True, True, True, True, True, False, False, False)
_MAX_CELL = 60
_NOT_FOUND = 2


@click.command()
@project_options
@json_option
def ls(config: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """List the sources: rows, columns, size, age, version, hash and owner. `!` marks what is stale."""
    found = load_data(config, overrides).sources()
    if as_json:
        print_json({"sources": [one.to_json() for one in found]})
        return
    for line in _aligned([_HEADINGS, *(_cells(one) for one in found)]):
        click.echo(line)
    for one in found:
        if one.is_stale and one.record is not None and one.record.fresh_within_seconds is not None:
            click.echo(f"! {one.name} is stale: it may be {span_text(one.record.fresh_within_seconds)} old")
        if one.problem is not None:
            click.echo(f"! {one.problem}")


@click.command()
@click.argument("name")
@project_options
@json_option
def show(name: str, config: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Show one source: columns, owner, freshness, versions seen so far, joins and first rows."""
    found = load_data(config, overrides).source(name)
    if as_json:
        versions = [asdict(version) for version in found.versions]
        rows = list(found.first_rows)
        print_json({**found.to_json(), "versions": versions, "joins": list(found.joins), "first_rows": rows})
        return
    for line in _page(found):
        click.echo(line)


@click.command()
@click.argument("column")
@project_options
@json_option
def find(column: str, config: Path, overrides: tuple[str, ...], as_json: bool) -> int:
    """Name the sources that hold COLUMN, whatever its case; the nearest names where none does (exit code 2)."""
    statuses = load_data(config, overrides).sources()
    holders = [
        {"source": one.name, "column": each.name, "type": each.type}
        for one in statuses
        for each in (one.record.columns if one.record else ())
        if each.name.lower() == column.lower()
    ]
    nearest = [] if holders else _nearest(column, statuses)
    unread = [{"source": one.name, "problem": one.problem} for one in statuses if one.problem is not None]
    if as_json:
        print_json({"column": column, "sources": holders, "nearest": nearest, "unread": unread})
    else:
        for line in _aligned([(one["source"], one["column"], one["type"]) for one in holders]):
            click.echo(line)
        if not holders:
            shown = ", ".join(f"{one['column']} ({one['source']})" for one in nearest)
            click.echo(f"no source holds {column}" + (f"; the nearest are {shown}" if shown else ""))
    for one in unread:
        click.echo(f"mlcluster: {one['problem']}", err=True)
    return 0 if holders else _NOT_FOUND


def _nearest(column: str, statuses: Sequence[SourceStatus]) -> list[dict[str, Any]]:
    holders: dict[str, list[str]] = {}
    for one in statuses:
        for each in one.record.columns if one.record else ():
            holders.setdefault(each.name, []).append(one.name)
    by_lower = {name.lower(): name for name in holders}
    names = [by_lower[near] for near in difflib.get_close_matches(column.lower(), by_lower, n=3, cutoff=0.6)]
    return [{"column": name, "source": source} for name in names for source in holders[name]]


def _cells(one: SourceStatus) -> tuple[str, ...]:
    record = one.record
    owner = one.asked.owner or "-"
    version = str(one.versions[-1].number) if one.versions else "-"
    if record is None:
        return (one.name, "?", "-", "-", "-", "-", version, "-", owner, "cannot be read")
    age = "-" if one.age_seconds is None else span_text(one.age_seconds)
    place = record.place if record.version is None else f"{record.place}@{record.version}"
    return (
        one.name,
        record.kind,
        f"{record.num_rows:,}",
        str(len(record.columns)),
        _size_text(record.size_bytes),
        f"! {age}" if one.is_stale else age,
        version,
        record.sha256[:12],
        owner,
        place,
    )


def _page(one: SourceStatus) -> list[str]:
    record = one.record
    assert record is not None
    age = "unknown" if one.age_seconds is None else f"{span_text(one.age_seconds)} old"
    if record.fresh_within_seconds is not None:
        age += f", {'STALE: ' if one.is_stale else ''}may be {span_text(record.fresh_within_seconds)} old"
    facts = [
        ("place", record.place if record.version is None else f"{record.place} at version {record.version}"),
        ("kind", record.kind),
        ("owner", record.owner),
        ("about", record.description),
        ("rows", f"{record.num_rows:,} ({_size_text(record.size_bytes)}, files: {record.num_files})"),
        ("fresh", age),
        ("sha256", record.sha256),
    ]
    lines = [one.name, *(f"  {label:<8} {value}" for label, value in facts if value is not None), "", "columns"]
    lines += [f"  {line}" for line in _aligned([(column.name, column.type) for column in record.columns])]
    lines += ["", "versions"]
    for earlier, version in zip((None, *one.versions), one.versions, strict=False):
        seen = datetime.fromtimestamp(version.seen_at, UTC).strftime("%Y-%m-%d %H:%M")
        change = "first seen" if earlier is None else version.change_from(earlier)
        lines.append(f"  {version.number:>3}  {seen} UTC  {version.sha256[:12]}  {version.num_rows:,} rows  {change}")
    if one.joins:
        lines += ["", "joins", *(f"  {text}" for text in one.joins)]
    lines += ["", "first rows", *(f"  {_row_text(row)}" for row in one.first_rows)]
    return lines


def _row_text(row: dict[str, Any]) -> str:
    text = ", ".join(f"{name}={value}" for name, value in row.items())
    return text if len(text) <= 200 else text[:199] + "…"


def _size_text(size: int) -> str:
    for unit, bytes_ in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= bytes_:
            return f"{size / bytes_:.1f} {unit}"
    return f"{size} B"


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    if not rows:
        return []
    short = [tuple(cell if len(cell) <= _MAX_CELL else cell[: _MAX_CELL - 1] + "…" for cell in row) for row in rows]
    widths = [max(len(row[index]) for row in short) for index in range(len(short[0]))]
    is_right = _IS_RIGHT if len(widths) == len(_IS_RIGHT) else (False,) * len(widths)
    return [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, is_right, strict=True)
        ).rstrip()
        for row in short
    ]
