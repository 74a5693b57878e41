"""A data profile as a table for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlcluster.spec import dump_yaml

_HEADINGS = ("column", "role", "kind", "missing", "distinct", "tells", "min / median / max, or most frequent")
_MAX_CELL = 60


def render_text(profile: Mapping[str, Any]) -> str:
    """The profile in its JSON form as aligned lines, with the findings below."""
    splits = ", ".join(f"{name} {count:,}" for name, count in profile["num_split_rows"].items())
    task = profile["task"] + (f" ({len(profile['classes'])} classes)" if profile["classes"] else "")
    lines = [
        f"{profile['source']}: {profile['num_rows']:,} rows, {len(profile['columns'])} columns, {task}",
        f"splits: {splits}",
        *(_source_line(source) for source in profile["sources"]),
        "",
        *_aligned([_HEADINGS, *(_cells(column) for column in profile["columns"])]),
        *_association_line(profile),
        *_drift_line(profile),
        "",
    ]
    lines.append(f"{len(profile['findings'])} findings:" if profile["findings"] else "No findings.")
    for finding in profile["findings"]:
        mark = "!" if finding["severity"] == "warning" else "·"
        lines.append(f"  {mark} {finding['message']}")
    suggested = expect_text(profile)
    if suggested:
        lines += ["", "What holds for every row, to be edited and put under data:", "", *suggested.splitlines()]
    return "\n".join(lines)


def expect_text(profile: Mapping[str, Any]) -> str:
    """The suggested `expect:` block, to be put under `data:`; empty where nothing can be suggested."""
    suggested = profile["suggested_expect"]
    return dump_yaml({"expect": suggested}, leaves_inline=True).rstrip() if suggested else ""


def _association_line(profile: Mapping[str, Any]) -> list[str]:
    association = profile["association"]
    if association is None:
        return []
    return ["", f"tells: {association['measure']}, 0 to 1; up to {association['chance']:.2f} may be chance"]


def _drift_line(profile: Mapping[str, Any]) -> list[str]:
    drift = profile["drift"]
    if drift is None:
        return []
    most = drift["columns"][0]
    moved = f"{most['name']} moves most (PSI {most['psi']:.2f})" if most["psi"] else "nothing moves more than by chance"
    return [f"over {drift['time']}, in {len(drift['slices'])} slices: {moved}"]


def _source_line(source: Mapping[str, Any]) -> str:
    owner = f", {source['owner']}" if source["owner"] else ""
    return f"source: {source['name']} ({source['kind']}, {source['num_rows']:,} rows, {source['sha256'][:12]}{owner})"


def number_text(value: float | str | None) -> str:
    """A number in at most about seven characters."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.4g}"


def distinct_text(column: Mapping[str, Any]) -> str:
    """How many distinct values; a number column is counted exactly up to about two thousand."""
    if column["distinct"] is None:
        return "-"
    return f"{column['distinct']:,}" if column["is_distinct_exact"] else "many"


def _cells(column: Mapping[str, Any]) -> tuple[str, ...]:
    missing = f"{column['missing_share']:.1%}" if column["missing_share"] else "-"
    if column["minimum"] is not None and column["kind"] != "boolean":
        values = " / ".join(number_text(column[key]) for key in ("minimum", "median", "maximum"))
    else:
        values = ", ".join(f"{bar['label']} {bar['count']:,}" for bar in column["bars"][:4])
    values = values if len(values) <= _MAX_CELL else values[: _MAX_CELL - 1] + "…"
    told = "-" if column["association"] is None else f"{column['association']:.2f}"
    return (column["name"], column["role"], column["kind"], missing, distinct_text(column), told, values)


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    is_right = (False, False, False, True, True, True, False)
    lines = []
    for row in rows:
        cells = zip(row, widths, is_right, strict=True)
        lines.append(
            "  ".join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in cells).rstrip()
        )
    lines.insert(1, "  ".join("-" * width for width in widths[:-1]) + "  " + "-" * min(widths[-1], _MAX_CELL))
    return lines
