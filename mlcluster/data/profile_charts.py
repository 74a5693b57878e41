"""The larger pictures of a profile's page: what tells the target, and what moves over time."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

_WIDTH, _HEIGHT = 264, 54
_OPACITIES = (1.0, 0.68, 0.42, 0.22)

CHART_STYLE = """
.bars { display: grid; grid-template-columns: minmax(0, max-content) 1fr max-content; gap: 6px 14px;
  align-items: center; padding: 16px 18px; border: 1px solid var(--line); border-radius: 12px;
  background: var(--card); font-size: 13px; }
.bars .name { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; text-align: right; }
.bars .track { position: relative; height: 12px; border-radius: 4px; background: var(--line); overflow: hidden; }
.bars .track i { position: absolute; inset: 0 auto 0 0; border-radius: 4px; background: var(--bar); }
.bars .track u { position: absolute; inset: 0 auto 0 0; background: var(--soft); opacity: .45; }
.bars .faint { opacity: .55; }
.bars .value { color: var(--soft); font-variant-numeric: tabular-nums; }
.moves svg { height: 54px; } .moves svg.thin { height: 18px; margin-top: 4px; }
.moves .band { fill: var(--bar); opacity: .2; } .moves polyline { fill: none; stroke: var(--bar); stroke-width: 2;
  vector-effect: non-scaling-stroke; }
.moves .gap { stroke: var(--warn); } .moves .drifts { color: var(--warn); font-weight: 600; }
.moves .key { display: flex; flex-wrap: wrap; gap: 2px 10px; font-size: 12px; color: var(--soft); margin-top: 6px; }
.moves .key i { display: inline-block; width: 9px; height: 9px; margin-right: 4px; border-radius: 2px;
  background: var(--bar); }
.note { margin: 8px 0 0; color: var(--soft); font-size: 13px; }
"""


def association_section(profile: Mapping[str, Any]) -> str:
    """A bar a feature, the longest first; what chance alone may reach is shaded."""
    association = profile["association"]
    if association is None or not association["values"]:
        return ""
    chance = association["chance"]
    rows = "".join(
        _bar(name, value, chance)
        for name, value in sorted(association["values"].items(), key=lambda each: (-each[1], each[0]))
    )
    note = (
        f"{association['measure']}, in {association['num_rows']:,} train rows: 0 says nothing, 1 all. A column that "
        f"has nothing to do with the target stays below {chance:.3f}, the shaded part, 19 times of 20."
    )
    return f'<h2>What tells the target</h2><div class="bars">{rows}</div><p class="note">{escape(note)}</p>\n'


def _bar(name: str, value: float, chance: float) -> str:
    faint = " faint" if value < chance else ""
    return (
        f'<span class="name{faint}" title="{escape(name)}">{escape(name)}</span>'
        f'<span class="track"><i style="width:{100 * value:.1f}%"></i><u style="width:{100 * chance:.1f}%"></u></span>'
        f'<span class="value">{value:.3f}</span>'
    )


def drift_section(profile: Mapping[str, Any]) -> str:
    """Small pictures of every column over the slices of time, those that moved most first."""
    drift = profile["drift"]
    if drift is None:
        return ""
    slices = drift["slices"]
    ends = f'<div class="ends"><span>{escape(slices[0]["start"])}</span><span>{escape(slices[-1]["stop"])}</span></div>'
    cards = "".join(_drift_card(column, ends) for column in drift["columns"])
    note = (
        f"{len(slices)} slices of {drift['time']} with about {slices[0]['num_rows']:,} rows each. Of numbers the "
        "median, and the band from 10 to 90 %; of others the shares of the most frequent levels; below, the "
        "share that is missing. PSI is against the first slice, less what chance gives; from 0.1 on a column drifts."
    )
    return f'<h2>Over time</h2><div class="columns moves">{cards}</div><p class="note">{escape(note)}</p>\n'


def _drift_card(column: Mapping[str, Any], ends: str) -> str:
    told = f"PSI {column['psi']:.2f}" if column["psi"] else "no more than by chance"
    if column["is_drift"]:
        told = f'<span class="drifts">{told}</span> · {escape(column["moved"])}'
    slices = column["slices"]
    is_number = any(part["quantiles"] for part in slices)
    picture = _band(column["name"], slices) if is_number else _stack(column)
    missing = [part["missing_share"] for part in slices]
    line = _line("share missing", missing, 0.0, max(missing)) if any(missing) else ""
    return f"<article><h3>{escape(column['name'])}</h3><p>{told}</p>{picture}{line}{ends}</article>"


def _band(name: str, slices: list[Mapping[str, Any]]) -> str:
    """The median as a line within the band from the 10 % to the 90 % quantile; slices without values leave a gap."""
    held = [(place, part["quantiles"]) for place, part in enumerate(slices) if part["quantiles"]]
    low = min(quantiles[0] for _, quantiles in held)
    span = max(quantiles[2] for _, quantiles in held) - low or 1.0
    step = _WIDTH / max(1, len(slices) - 1)

    def points(quantile: int) -> list[str]:
        return [
            f"{place * step:.1f},{_HEIGHT - 4 - (each[quantile] - low) / span * (_HEIGHT - 8):.1f}"
            for place, each in held
        ]

    band = " ".join([*points(0), *reversed(points(2))])
    return (
        f"{_svg(f'{name} over time')}"
        f'<polygon class="band" points="{band}"/><polyline points="{" ".join(points(1))}"/></svg>'
    )


def _line(label: str, values: list[float], low: float, high: float) -> str:
    step = _WIDTH / max(1, len(values) - 1)
    span = high - low or 1.0
    points = " ".join(
        f"{place * step:.1f},{_HEIGHT - 4 - (value - low) / span * (_HEIGHT - 8):.1f}"
        for place, value in enumerate(values)
    )
    title = f"{label}: {', '.join(f'{value:.1%}' for value in values)}"
    return f'{_svg(title, "thin")}<title>{escape(title)}</title><polyline class="gap" points="{points}"/></svg>'


def _stack(column: Mapping[str, Any]) -> str:
    """A bar a slice: the shares of the levels on each other, the most frequent at the bottom, the rest left blank."""
    slices, levels = column["slices"], column["levels"]
    step = _WIDTH / len(slices)
    rectangles = []
    for place, part in enumerate(slices):
        top = float(_HEIGHT)
        for level, (name, share) in enumerate(zip(levels, part["shares"] or (), strict=False)):
            top -= share * _HEIGHT
            rectangles.append(
                f'<rect x="{place * step + 1:.1f}" y="{top:.1f}" width="{step - 2:.1f}" height="{share * _HEIGHT:.1f}" '
                f'style="opacity:{_OPACITIES[level]}"><title>{escape(name)}: {share:.1%}</title></rect>'
            )
    key = "".join(
        f'<span><i style="opacity:{_OPACITIES[level]}"></i>{escape(name)}</span>' for level, name in enumerate(levels)
    )
    label = f"{column['name']} over time"
    return f'{_svg(label)}{"".join(rectangles)}</svg><div class="key">{key}</div>'


def _svg(label: str, style: str = "") -> str:
    return (
        f'<svg class="{style}" viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label)}">'
    )
