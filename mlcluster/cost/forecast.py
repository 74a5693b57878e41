"""What a run will cost, said before anything is spent."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class StageForecast:
    """One stage: what it is expected to take, and what is reserved for it at worst."""

    stage: str
    expected_seconds: float
    worst_case_seconds: float
    usd_per_second: float
    note: str = ""

    @property
    def expected_usd(self) -> float:
        return self.expected_seconds * self.usd_per_second

    @property
    def worst_case_usd(self) -> float:
        return self.worst_case_seconds * self.usd_per_second


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """All stages of a run, in order."""

    stages: tuple[StageForecast, ...]
    cap_usd: float

    @property
    def expected_usd(self) -> float:
        return sum(stage.expected_usd for stage in self.stages)

    @property
    def worst_case_usd(self) -> float:
        """Never above the cap: the search takes what the other stages leave of it."""
        return sum(stage.worst_case_usd for stage in self.stages)

    def stage(self, name: str) -> StageForecast:
        return next(stage for stage in self.stages if stage.stage == name)
