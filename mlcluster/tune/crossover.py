"""From which size on trainings of a family belong on a GPU: from its estimates and the prices, before a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlcluster.cost import WorkerKind
from mlcluster.spec import IntDomain, Value, default_configuration
from mlcluster.train import FAMILIES, DataSize, Encoding, Family, OnGpu
from mlcluster.tune.placement import Seconds, first_on

AXES = ("width", "batch_size")
"""The first that a family's space has: along it, work for each step grows, and with it what a GPU is good for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Crossover:
    """Where the dollars of one family's trainings are equal on both kinds of worker."""

    family: str
    axis: str
    others: str
    """The values of the other hyperparameters: `default`, or `largest`."""
    first_on_gpu: int | None
    """The smallest value of the axis that is cheaper on a GPU; None where none is."""
    gpu_to_cpu: float
    """Dollars on a GPU for each on a CPU, at the largest value of the axis."""


def crossovers(
    families: Sequence[str], sizes: Mapping[Encoding, DataSize], kinds: Sequence[WorkerKind]
) -> tuple[Crossover, ...]:
    """Of each family that may train on a GPU, for CPU and GPU workers of these prices; two each."""
    found: list[Crossover] = []
    for name in families:
        family = FAMILIES[name]
        if family.on_gpu is None:
            continue
        largest = {axis: domain.at(1.0) for axis, domain in family.space.items()}
        size = sizes[family.encoding]
        for others, values in (("default", default_configuration(family.space)), ("largest", largest)):
            found.append(_crossover(family, family.on_gpu, size, kinds, others=(others, values)))
    return tuple(found)


def _crossover(
    family: Family,
    on_gpu: OnGpu,
    size: DataSize,
    kinds: Sequence[WorkerKind],
    *,
    others: tuple[str, Mapping[str, Value]],
) -> Crossover:
    axis = next(name for name in AXES if name in family.space)
    domain = family.space[axis]
    assert isinstance(domain, IntDomain), f"{axis} is a whole number"

    def seconds_at(value: int) -> Seconds:
        configuration = {**others[1], axis: value}
        return {
            "cpu": family.nominal_seconds(configuration, size, family.max_units),
            "gpu": on_gpu.nominal_seconds(configuration, size, family.max_units),
        }

    largest = seconds_at(domain.high)
    usd = {kind.name: largest[kind.name] * kind.usd_per_second for kind in kinds}
    return Crossover(
        family=family.name,
        axis=axis,
        others=others[0],
        first_on_gpu=first_on("gpu", range(domain.low, domain.high + 1), kinds, seconds_at),
        gpu_to_cpu=usd["gpu"] / usd["cpu"],
    )
