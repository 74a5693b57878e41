"""What a study will do, decided before anything is spent: pure and printable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mlcluster.cost import WorkerKind, all_slots_usd_per_second
from mlcluster.errors import SpecError
from mlcluster.search import Candidate, Fidelity, HyperbandSettings, rung_levels
from mlcluster.spec import Configuration, Device, SearchSpace, default_configuration
from mlcluster.train import FAMILIES, DataSize, Encoding, OnGpu, SpansCost, Together
from mlcluster.tune.limits import Limits

UnitsCost = Callable[[Configuration, int], float]
"""Nominal seconds of a configuration's first units."""

SEARCH_SHARE = 0.85
"""Share of the study's time after which no new trial starts; the rest is for promotions that are due."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyBudget:
    """What the search may use: seconds of wall clock, and slots (workers) at a price each second in all.

    `of_kinds` gives slots of several kinds; where nothing is said, they are CPU workers.
    """

    seconds: float
    num_slots: int
    usd_per_second: float
    """Of all slots together, idle or busy, and of what stands beside them."""
    max_trials: int | None = None
    """Ends the study after that many, for tests and comparisons; money ends it otherwise."""
    max_together: int = 1
    """How many trials a worker may train as one, where that is cheaper. What it needs is memory for so many."""
    kinds: tuple[WorkerKind, ...] = ()
    """At equal dollars a piece runs on the first of them that can train it."""

    def __post_init__(self) -> None:
        if not self.kinds:
            usd_per_second = self.usd_per_second / max(1, self.num_slots)
            cpu = WorkerKind(name="cpu", num_slots=self.num_slots, usd_per_second=usd_per_second)
            object.__setattr__(self, "kinds", (cpu,))
        assert sum(kind.num_slots for kind in self.kinds) == self.num_slots, "each slot is of one kind"

    @classmethod
    def of_kinds(
        cls,
        kinds: Sequence[WorkerKind],
        *,
        seconds: float,
        beside_usd_per_second: float = 0.0,
        max_trials: int | None = None,
        max_together: int = 1,
    ) -> StudyBudget:
        """All slots of these kinds, for so long; `beside` is of what is paid for with them, as the head."""
        return cls(
            seconds=seconds,
            num_slots=sum(kind.num_slots for kind in kinds),
            usd_per_second=all_slots_usd_per_second(kinds) + beside_usd_per_second,
            max_trials=max_trials,
            max_together=max_together,
            kinds=tuple(kinds),
        )

    def kind(self, name: Device) -> WorkerKind:
        """The workers that train on that."""
        return next(kind for kind in self.kinds if kind.name == name)

    def slot_usd_per_second(self, name: Device) -> float:
        """Of a worker of that kind; of the average one, where an earlier driver had a kind that is gone."""
        prices = {kind.name: kind.usd_per_second for kind in self.kinds}
        return prices.get(name, self.usd_per_second / max(1, self.num_slots))


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
    first: tuple[Candidate, ...] = ()
    """Tried before all others, the defaults of families that are not among them included."""
    usd_per_point: float | None = None
    """What 0.01 of the metric is worth at most; None where the budget alone ends the study."""
    gpu_costs: Mapping[str, UnitsCost] = field(default_factory=dict)
    """By family that can train on a GPU: the nominal seconds there."""
    limits: Limits = field(default_factory=Limits)
    """A trial whose model needs more is given up."""


def plan_study(
    study_id: str,
    spaces: Mapping[str, SearchSpace],
    sizes: Mapping[Encoding, DataSize],
    *,
    metric: str,
    seed: int,
    budget: StudyBudget,
) -> StudyPlan:
    """A study over built-in families, by name with the space of each, on data of these sizes.

    Raises:
        SpecError: the budget's seconds cannot hold the first rung of any family.
    """
    families = tuple(spaces)
    fidelities = {name: _fidelity(name, sizes[FAMILIES[name].encoding]) for name in families}
    full_costs = full_training_seconds(spaces, fidelities).values()
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
        gpu_costs=_gpu_costs(families, sizes),
    )


def full_training_seconds(spaces: Mapping[str, SearchSpace], fidelities: Mapping[str, Fidelity]) -> dict[str, float]:
    """Nominal seconds of the default configuration trained to its end, by family."""
    return {
        name: fidelity.nominal_seconds(default_configuration(spaces[name]), fidelity.max_units)
        for name, fidelity in fidelities.items()
    }


def _together(families: Sequence[str], sizes: Mapping[Encoding, DataSize]) -> dict[str, SpansCost]:
    def cost_of(together: Together, size: DataSize) -> SpansCost:
        return lambda spans: together.nominal_seconds(spans, size)

    return {
        name: cost_of(together, sizes[FAMILIES[name].encoding])
        for name in families
        if (together := FAMILIES[name].together) is not None
    }


def _gpu_costs(families: Sequence[str], sizes: Mapping[Encoding, DataSize]) -> dict[str, UnitsCost]:
    def cost_of(on_gpu: OnGpu, size: DataSize) -> UnitsCost:
        return lambda configuration, units: on_gpu.nominal_seconds(configuration, size, units)

    return {
        name: cost_of(on_gpu, sizes[FAMILIES[name].encoding])
        for name in families
        if (on_gpu := FAMILIES[name].on_gpu) is not None
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
