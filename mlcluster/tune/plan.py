"""What a study will do, decided before anything is spent: pure and printable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mlcluster.errors import SpecError
from mlcluster.search import Fidelity, HyperbandSettings, rung_levels
from mlcluster.spec import Configuration, SearchSpace, default_configuration
from mlcluster.train import FAMILIES, DataSize, Encoding, SpansCost, Together

SEARCH_SHARE = 0.85
"""Share of the study's time after which no new trial starts; the rest is for promotions that are due."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyBudget:
    """What the search may use: seconds of wall clock, and slots (workers) at a price each second in all."""

    seconds: float
    num_slots: int
    usd_per_second: float
    """Of all slots together, idle or busy."""
    max_trials: int | None = None
    """Ends the study after that many, for tests and comparisons; money ends it otherwise."""
    max_together: int = 1
    """How many trials a worker may train as one, where that is cheaper. What it needs is memory for so many."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyPlan:
    """A study before it runs. `spaces` and `fidelities` are by family."""

    study_id: str
    metric: str
    seed: int
    spaces: Mapping[str, SearchSpace]
    fidelities: Mapping[str, Fidelity]
    settings: HyperbandSettings
    budget: StudyBudget
    grown_anew: frozenset[str] = frozenset()
    """Families whose segments begin from nothing each time, whatever was trained before."""
    together: Mapping[str, SpansCost] = field(default_factory=dict)
    """By family that can train several trials as one: the nominal seconds of that."""


def plan_study(
    study_id: str,
    families: Sequence[str],
    sizes: Mapping[Encoding, DataSize],
    *,
    metric: str,
    seed: int,
    budget: StudyBudget,
) -> StudyPlan:
    """A study over built-in families on data of these sizes.

    Raises:
        SpecError: the budget's seconds cannot hold the first rung of any family.
    """
    spaces = {name: FAMILIES[name].space for name in families}
    fidelities = {name: _fidelity(name, sizes[FAMILIES[name].encoding]) for name in families}
    full_costs = [
        fidelity.nominal_seconds(default_configuration(spaces[name]), fidelity.max_units)
        for name, fidelity in fidelities.items()
    ]
    # One full training may take a sixth of the study: above that, hardly any trial would get to the top.
    affordable = budget.seconds / 6
    settings = HyperbandSettings(rungs_seconds=rung_levels([min(cost, affordable) for cost in full_costs]))
    return StudyPlan(
        study_id=study_id,
        metric=metric,
        seed=seed,
        spaces=spaces,
        fidelities=fidelities,
        settings=settings,
        budget=budget,
        grown_anew=frozenset(name for name in families if FAMILIES[name].grows_anew),
        together=_together(families, sizes),
    )


def _together(families: Sequence[str], sizes: Mapping[Encoding, DataSize]) -> dict[str, SpansCost]:
    def cost_of(together: Together, size: DataSize) -> SpansCost:
        return lambda spans: together.nominal_seconds(spans, size)

    return {
        name: cost_of(together, sizes[FAMILIES[name].encoding])
        for name in families
        if (together := FAMILIES[name].together) is not None
    }


def _fidelity(name: str, size: DataSize) -> Fidelity:
    family = FAMILIES[name]

    def nominal_seconds(configuration: Configuration, units: int) -> float:
        return family.nominal_seconds(configuration, size, units)

    return Fidelity(max_units=family.max_units, nominal_seconds=nominal_seconds)


def cheapest_first_segment_seconds(plan: StudyPlan) -> float:
    """Nominal seconds of one unit of the cheapest default configuration."""
    return min(
        fidelity.nominal_seconds(default_configuration(plan.spaces[name]), 1)
        for name, fidelity in plan.fidelities.items()
    )


def check_room_for_one_trial(plan: StudyPlan, *, worst_case_seconds: float, key: str = "tune.budget") -> None:
    """Refuses a budget in which not even one trial can start; `key` is what made it so small.

    Raises:
        SpecError: it names what is there and what is needed.
    """
    if plan.budget.seconds >= worst_case_seconds:
        return
    usd = worst_case_seconds * plan.budget.usd_per_second
    raise SpecError(
        f"{key} leaves {max(0.0, plan.budget.seconds):.0f} s for the search, too little for one trial; "
        f"one trial may need {worst_case_seconds:.0f} s (${usd:.4f}), so raise tune.budget.usd or tune.budget.minutes."
    )
