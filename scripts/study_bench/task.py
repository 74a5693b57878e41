"""What a policy is given: a table, money, and a folder to work in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlcluster.spec import PricesSpec
from study_bench.datasets import Dataset

CPU_USD_PER_HOUR = PricesSpec().cpu_hour


@dataclass(frozen=True, kw_only=True, slots=True)
class Money:
    """Workers for so long, which is so many dollars."""

    num_workers: int
    seconds: float

    @classmethod
    def of_usd(cls, usd: float, *, num_workers: int) -> Money:
        """As long as that lasts."""
        return cls(num_workers=num_workers, seconds=usd / (num_workers * CPU_USD_PER_HOUR / 3600))

    @property
    def usd_per_second(self) -> float:
        """Of all workers, idle or busy."""
        return self.num_workers * CPU_USD_PER_HOUR / 3600

    @property
    def usd(self) -> float:
        return self.seconds * self.usd_per_second


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchTask:
    """One search, on the Ray to which this process is connected."""

    dataset: Dataset
    seed: int
    money: Money
    folder: Path
    """Empty, and the search's own."""
