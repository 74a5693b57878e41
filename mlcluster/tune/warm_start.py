"""What a study tries first: what did well in earlier ones.

Two sources, in turn: past studies over the same spaces, and the portfolio for the built-in families that ships with the
package, learnt in the same way on public data (`scripts/learn_portfolio.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib import resources
from itertools import chain, zip_longest
from typing import Any

from mlcluster.search import PORTFOLIO_SIZE, Candidate, PastStudy, learn_portfolio
from mlcluster.spec import SearchSpace, WarmStart, holds

_PORTFOLIO_FILE = "portfolio.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class FirstTrials:
    """The configurations, best first, and where they are from, in words."""

    candidates: tuple[Candidate, ...] = ()
    sources: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; `from_json` gives an equal value."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> FirstTrials:
        """See `to_json`."""
        return cls(candidates=tuple(Candidate(**one) for one in value["candidates"]), sources=tuple(value["sources"]))


def first_trials(
    spaces: Mapping[str, SearchSpace], *, task: str, mode: WarmStart, past: Sequence[PastStudy], seed: int
) -> FirstTrials:
    """Up to eight; none where `mode` is `none`, or nothing is known of these spaces."""
    learnt = learn_portfolio(past, spaces, seed=seed) if mode in ("auto", "history") else ()
    learnt = tuple(replace(one, origin="history") for one in learnt)
    shipped = shipped_portfolio(task, spaces) if mode in ("auto", "portfolio") else ()
    in_turn = [one for one in chain.from_iterable(zip_longest(learnt, shipped)) if one is not None]
    chosen: list[Candidate] = []
    for one in in_turn:
        is_new = all((one.family, one.configuration) != (other.family, other.configuration) for other in chosen)
        if is_new and len(chosen) < PORTFOLIO_SIZE:
            chosen.append(one)
    sources = [study.name for study in past] if learnt else []
    sources += ["the portfolio that ships with mlcluster"] if shipped else []
    return FirstTrials(candidates=tuple(chosen), sources=tuple(sources))


def shipped_portfolio(task: str, spaces: Mapping[str, SearchSpace]) -> tuple[Candidate, ...]:
    """Of a kind of task (one portfolio for all classification), what lies within these spaces, best first."""
    kind = "regression" if task == "regression" else "classification"
    return tuple(
        Candidate(family=one["family"], configuration=one["configuration"], origin="portfolio")
        for one in _shipped().get(kind, [])
        if one["family"] in spaces and holds(spaces[one["family"]], one["configuration"])
    )


@cache
def _shipped() -> Mapping[str, Any]:
    file = resources.files("mlcluster.tune").joinpath(_PORTFOLIO_FILE)
    return dict(json.loads(file.read_text())["portfolios"])
