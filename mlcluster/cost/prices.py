"""What an hour of a machine costs."""

from __future__ import annotations

from dataclasses import dataclass

SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class PriceBook:
    """$ per hour of one CPU and of one GPU; both above zero, for nothing is free."""

    cpu_usd_per_hour: float
    gpu_usd_per_hour: float

    def node_usd_per_second(self, *, num_cpus: float, num_gpus: float = 0.0) -> float:
        """Price of a node, whether its CPUs and GPUs work or idle."""
        usd_per_hour = num_cpus * self.cpu_usd_per_hour + num_gpus * self.gpu_usd_per_hour
        return usd_per_hour / SECONDS_PER_HOUR
