"""The larger pictures of a profile's page: what tells the target, and what moves over time."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

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
