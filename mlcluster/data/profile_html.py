"""A data profile as one page: no script, no other file, light and dark."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from mlcluster.data.profile_charts import CHART_STYLE, association_section, drift_section
from mlcluster.data.profile_text import distinct_text, expect_text, number_text

_WIDTH, _HEIGHT = 264, 72

_STYLE = """
:root { color-scheme: light dark; --ground: #f7f7f5; --card: #ffffff; --ink: #1d1f23; --soft: #6b7078;
  --line: #e3e3df; --bar: #4269b5; --warn: #a85b00; --warn-ground: #fdf3e3; }
@media (prefers-color-scheme: dark) { :root { --ground: #15171a; --card: #1d2024; --ink: #e8e8e6; --soft: #9aa0a8;
  --line: #30343a; --bar: #7fa3e6; --warn: #f0b35a; --warn-ground: #2d2517; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 40px 24px 64px; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { margin: 0; font-size: 26px; font-weight: 650; overflow-wrap: anywhere; }
h2 { margin: 36px 0 12px; font-size: 17px; font-weight: 650; }
.facts { display: flex; flex-wrap: wrap; gap: 8px 32px; margin: 14px 0 0; color: var(--soft); }
.facts b { color: var(--ink); font-weight: 600; font-variant-numeric: tabular-nums; }
.findings { margin: 0; padding: 0; list-style: none; display: grid; gap: 6px; }
.findings li { padding: 8px 14px; border-radius: 8px; background: var(--card); border: 1px solid var(--line);
  overflow-wrap: anywhere; }
.findings .warning { background: var(--warn-ground); border-color: transparent; }
.findings em { margin-right: 10px; color: var(--soft); font-style: normal; font-size: 13px; }
.findings .warning em { color: var(--warn); font-weight: 600; }
.columns { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 14px; }
article { padding: 16px 18px; border: 1px solid var(--line); border-radius: 12px; background: var(--card);
  min-width: 0; }
article h3 { margin: 0; font-size: 15px; font-weight: 600; overflow-wrap: anywhere; }
article p { margin: 2px 0 10px; color: var(--soft); font-size: 13px; }
.target { border-color: var(--bar); }
svg { display: block; width: 100%; height: 72px; }
svg rect { fill: var(--bar); } svg line { stroke: var(--line); }
pre { margin: 0; padding: 16px 18px; border: 1px solid var(--line); border-radius: 12px; background: var(--card);
  font-size: 13px; overflow-x: auto; }
.ends { display: flex; justify-content: space-between; gap: 8px; margin-top: 6px; color: var(--soft); font-size: 12px;
  font-variant-numeric: tabular-nums; }
.levels { display: grid; gap: 4px; font-size: 13px; }
.levels div { position: relative; display: flex; justify-content: space-between; gap: 12px; padding: 1px 8px; }
.levels i { position: absolute; inset: 0 auto 0 0; border-radius: 4px; background: var(--bar); opacity: .18; }
.levels span { position: relative; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.levels span + span { color: var(--soft); flex: none; font-variant-numeric: tabular-nums; }
"""


def render_html(profile: Mapping[str, Any]) -> str:
    """The profile in its JSON form as a page of HTML; all that comes from the data is escaped."""
    facts = [
        ("rows", f"{profile['num_rows']:,}"),
        ("columns", str(len(profile["columns"]))),
        ("task", profile["task"]),
        ("target", next(column["name"] for column in profile["columns"] if column["role"] == "target")),
        *((f"{name} rows", f"{count:,}") for name, count in profile["num_split_rows"].items()),
    ]
    shown = "".join(f"<span>{escape(label)} <b>{escape(value)}</b></span>" for label, value in facts)
    order = {"target": 0, "feature": 1}
    sources = f"<h2>Sources</h2>{_sources(profile)}\n" if profile["sources"] else ""
    columns = sorted(profile["columns"], key=lambda column: order.get(column["role"], 2))
    title = escape(profile["source"])
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}{CHART_STYLE}</style></head><body>\n"
        f'<h1>{title}</h1><div class="facts">{shown}</div>\n'
        f"<h2>Findings</h2>{_findings(profile['findings'])}\n"
        f"{sources}"
        f"{association_section(profile)}"
        f"{drift_section(profile)}"
        f'<h2>Columns</h2><div class="columns">{"".join(map(_card, columns))}</div>\n'
        f"{_suggested(profile)}</body></html>\n"
    )


def _suggested(profile: Mapping[str, Any]) -> str:
    text = expect_text(profile)
    return f"<h2>To expect, under data:</h2><pre>{escape(text)}</pre>\n" if text else ""


def _findings(findings: list[Mapping[str, Any]]) -> str:
    if not findings:
        return '<ul class="findings"><li>Nothing stands out.</li></ul>'
    items = "".join(
        f'<li class="{escape(finding["severity"])}"><em>{escape(finding["kind"].replace("_", " "))}</em>'
        f"{escape(finding['message'])}</li>"
        for finding in findings
    )
    return f'<ul class="findings">{items}</ul>'


def _sources(profile: Mapping[str, Any]) -> str:
    """A line for each source, and one for each join with what it has come to."""
    items = [
        f"<li><em>{escape(source['kind'])}</em>{escape(source['name'])}: {source['num_rows']:,} rows, "
        f"{len(source['columns'])} columns, {escape(source['owner'] or 'no owner')}, "
        f"{escape(source['place'])}, SHA-256 {escape(source['sha256'][:12])}</li>"
        for source in profile["sources"]
    ]
    items += [
        f"<li><em>join</em>{escape(join['source'])} on {escape(', '.join(join['on']))}: "
        f"{join['match_rate']:.1%} matched, "
        f"{join['unmatched_left']:,} rows without a match, {join['unmatched_right']:,} not found, "
        f"at most {join['largest_fan_out']:,} a row, {join['rows_in']:,} rows in, {join['rows_out']:,} out</li>"
        for join in profile["joins"]
    ]
    return f'<ul class="findings">{"".join(items)}</ul>'


def _card(column: Mapping[str, Any]) -> str:
    facts = [column["role"], column["kind"], f"{distinct_text(column)} distinct"]
    if column["missing_share"]:
        facts.append(f"{column['missing_share']:.1%} missing")
    if column["association"] is not None:
        facts.append(f"tells {column['association']:.2f}")
    is_level = column["kind"] in ("category", "boolean", "image")
    picture = _levels(column["bars"]) if is_level else _histogram(column)
    return (
        f'<article class="{escape(column["role"])}"><h3>{escape(column["name"])}</h3>'
        f"<p>{escape(' · '.join(facts))}</p>{picture}</article>"
    )


def _levels(bars: list[Mapping[str, Any]]) -> str:
    most = max((bar["count"] for bar in bars), default=1) or 1
    rows = "".join(
        f'<div><i style="width:{100 * bar["count"] / most:.1f}%"></i>'
        f"<span>{escape(bar['label'])}</span><span>{bar['count']:,}</span></div>"
        for bar in bars[:8]
    )
    return f'<div class="levels">{rows}</div>'


def _histogram(column: Mapping[str, Any]) -> str:
    bars = column["bars"]
    if not bars:
        return ""
    most = max(bar["count"] for bar in bars) or 1
    step = _WIDTH / len(bars)
    rectangles = []
    for index, bar in enumerate(bars):
        height = max((_HEIGHT - 2) * bar["count"] / most, 1.0 if bar["count"] else 0.0)
        rectangles.append(
            f'<rect x="{index * step + 0.5:.1f}" y="{_HEIGHT - height:.1f}" width="{max(step - 1, 0.5):.1f}" '
            f'height="{height:.1f}" rx="1"><title>{escape(bar["label"])}: {bar["count"]:,}</title></rect>'
        )
    ends = "".join(f"<span>{escape(number_text(column[key]))}</span>" for key in ("minimum", "median", "maximum"))
    label = escape(f"distribution of {column['name']}")
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{label}">'
        f'<line x1="0" x2="{_WIDTH}" y1="{_HEIGHT}" y2="{_HEIGHT}"/>{"".join(rectangles)}</svg>'
        f'<div class="ends">{ends}</div>'
    )
