"""Where configurations come from: inside their bounds, by the seed alone, and better for what was seen."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcluster.search import (
    BestFamiliesSource,
    Candidate,
    CandidateSource,
    Observation,
    RandomWithinFamily,
    rank_families,
)
from mlcluster.search.optuna_source import MIN_OBSERVATIONS, TpeWithinFamily
from mlcluster.spec import ChoiceDomain, FloatDomain, IntDomain, SearchSpace

SPACE: SearchSpace = {
    "rate": FloatDomain(low=1e-4, high=1e-1, default=1e-2, log=True),
    "share": FloatDomain(low=0.1, high=1.0, default=0.5),
    "width": IntDomain(low=8, high=256, default=64, log=True),
    "kind": ChoiceDomain(options=("a", "b", 3), default="b"),
}
SPACES = {"left": SPACE, "right": SPACE}


def random_source(seed: int) -> CandidateSource:
    return BestFamiliesSource(RandomWithinFamily(SPACES, seed=seed), tuple(SPACES), seed=seed)


def tpe_source(seed: int) -> CandidateSource:
    inner = TpeWithinFamily(SPACES, fallback=RandomWithinFamily(SPACES, seed=seed), seed=seed)
    return BestFamiliesSource(inner, tuple(SPACES), seed=seed)


def loss_of(candidate: Candidate) -> float:
    """Zero at a planted optimum: rate 1e-3, share 0.8, kind a; the left family is better."""
    configuration = candidate.configuration
    return (
        (math.log10(float(configuration["rate"])) + 3) ** 2
        + 4 * (float(configuration["share"]) - 0.8) ** 2
        + 0.5 * (configuration["kind"] != "a")
        + 0.5 * (candidate.family == "right")
    )


def searched(source: CandidateSource, count: int) -> list[Observation]:
    seen: list[Observation] = []
    for index in range(count):
        candidate = source.propose(index, seen)
        seen.append(Observation(candidate=candidate, rung=0, loss=loss_of(candidate)))
    return seen


def is_inside(space: SearchSpace, candidate: Candidate) -> bool:
    for name, domain in space.items():
        value = candidate.configuration[name]
        if isinstance(domain, ChoiceDomain):
            inside = value in domain.options
        else:
            inside = domain.low <= value <= domain.high and isinstance(value, int) == isinstance(domain, IntDomain)
        if not inside:
            return False
    return set(candidate.configuration) == set(space)


both = pytest.mark.parametrize("make", [random_source, tpe_source], ids=["random", "tpe"])


@both
def test_every_configuration_is_inside_its_bounds_and_of_its_type(make: object) -> None:
    for seed in range(3):
        assert all(is_inside(SPACE, seen.candidate) for seen in searched(make(seed), 25))  # type: ignore[operator]


@both
def test_the_seed_decides(make: object) -> None:
    first, again, other = (searched(make(seed), 20) for seed in (1, 1, 2))  # type: ignore[operator]
    assert first == again
    drawn = [[str(seen.candidate.configuration) for seen in run[len(SPACES) :]] for run in (first, other)]
    assert not set(drawn[0]) & set(drawn[1])


@both
def test_each_family_begins_with_its_default(make: object) -> None:
    first = [seen.candidate for seen in searched(make(0), 2)]  # type: ignore[operator]
    assert [candidate.family for candidate in first] == ["left", "right"]
    assert all(candidate.configuration == {"rate": 1e-2, "share": 0.5, "width": 64, "kind": "b"} for candidate in first)
    assert {candidate.origin for candidate in first} == {"default"}


@given(unit=st.floats(0.0, 1.0), name=st.sampled_from(sorted(SPACE)))
def test_any_point_of_a_domain_is_inside_it(unit: float, name: str) -> None:
    value = SPACE[name].at(unit)
    assert is_inside({name: SPACE[name]}, Candidate(family="left", configuration={name: value}, origin="test"))


def test_each_whole_number_of_a_domain_is_equally_likely() -> None:
    domain = IntDomain(low=1, high=4, default=1)
    counts = Counter(domain.at(unit) for unit in np.linspace(0, 1, 4001))
    assert max(counts.values()) - min(counts.values()) <= 2


def test_tpe_comes_closer_to_a_planted_optimum_than_random_draws() -> None:
    """Median over seeds of the mean loss of draws 20 to 40: what a search spends most of its money on."""
    means = {
        make: [np.mean([seen.loss for seen in searched(make(seed), 40)[20:]]) for seed in range(5)]
        for make in (random_source, tpe_source)
    }
    assert np.median(means[tpe_source]) < 0.75 * np.median(means[random_source])


def test_tpe_learns_from_one_fidelity_at_a_time_the_highest_that_was_seen_often_enough() -> None:
    """At the low rung everything points to a high rate, at the high rung to a low one."""
    source = RandomWithinFamily({"left": SPACE}, seed=5)
    draws = [source.propose_in("left", index, []) for index in range(1, 3 * MIN_OBSERVATIONS)]
    seen: list[Observation] = []
    for rung, sign, count in ((0, -1.0, len(draws)), (1, 1.0, MIN_OBSERVATIONS)):
        for draw in draws[:count]:
            rate = math.log10(float(draw.configuration["rate"]))
            seen.append(Observation(candidate=draw, rung=rung, loss=sign * rate))
    assert mean_log_rate(seen) < -2.6
    assert mean_log_rate(seen[: len(draws)]) > -2.4


def mean_log_rate(seen: Sequence[Observation]) -> float:
    fallback = RandomWithinFamily({"left": SPACE}, seed=1)
    tpe = TpeWithinFamily({"left": SPACE}, fallback=fallback, seed=1)
    proposals = [tpe.propose_in("left", 100 + index, seen) for index in range(20)]
    modelled = [proposal for proposal in proposals if proposal.origin == "tpe"]
    assert 0 < len(modelled) < len(proposals)  # some stay random
    return float(np.mean([math.log10(float(proposal.configuration["rate"])) for proposal in modelled]))


def test_too_few_observations_leave_the_draw_to_chance() -> None:
    seen = searched(random_source(0), MIN_OBSERVATIONS - 1)
    assert {tpe_source(0).propose(index, seen).origin for index in range(50, 60)} == {"random"}


def test_the_better_family_is_drawn_more_often_and_the_worse_one_still() -> None:
    seen = searched(random_source(0), 10)
    drawn = Counter(random_source(3).propose(index, seen).family for index in range(10, 610))
    assert drawn["left"] / 600 == pytest.approx(2 / 3, abs=0.06)


@settings(max_examples=100)
@given(losses=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.floats(0, 1)), max_size=20))
def test_families_are_ranked_where_all_that_were_seen_stand(losses: list[tuple[str, int, float]]) -> None:
    seen = [
        Observation(candidate=Candidate(family=family, configuration={}, origin="test"), rung=rung, loss=loss)
        for family, rung, loss in losses
    ]
    ranked = rank_families("abc", seen)
    assert sorted(ranked) == ["a", "b", "c"]
    families = {family for family, _, _ in losses}
    common = [rung for rung in range(4) if {family for family, at, _ in losses if at == rung} == families]
    if not common or len(families) < 2:
        assert ranked == ["a", "b", "c"]
        return
    there = [(loss, family) for family, rung, loss in losses if rung == max(common)]
    assert (min(there)[0], ranked[0]) in there


def test_a_family_is_not_preferred_for_having_trained_longer() -> None:
    seen = [
        Observation(candidate=Candidate(family=family, configuration={}, origin="test"), rung=rung, loss=loss)
        for family, rung, loss in (("a", 0, 0.5), ("a", 1, 0.3), ("b", 0, 0.4))
    ]
    assert rank_families("ab", seen) == ["b", "a"]
