"""`prices.yaml`: what a node costs, by node type, with where that is known from."""

from __future__ import annotations

import datetime
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from mlcluster.spec.base import Section

Cloud = Literal["aws", "gcp", "azure", "own"]
Text = Annotated[str, Field(min_length=1)]


class PriceSourceSpec(Section):
    """Where prices are from; one cloud, one region, one day."""

    cloud: Cloud
    region: Text
    as_of: datetime.date
    origin: Text
    """In words: which list, which contract."""


class NodePriceSpec(Section):
    """One type of node. A price of zero is none: the type is left out."""

    source: Text
    vcpu: PositiveInt
    memory_gib: PositiveFloat
    gpus: NonNegativeInt = 0
    gpu: Text | None = None
    """Its name, as in t4; of all GPUs of the node."""
    usd_per_hour: PositiveFloat
    """On demand."""
    spot_usd_per_hour: PositiveFloat | None = None
    """Left out: not known, and spot nodes are taken at the price on demand."""
    watts: PositiveFloat
    """Estimated, at full load."""

    @model_validator(mode="after")
    def _check(self) -> NodePriceSpec:
        if (self.gpus > 0) != (self.gpu is not None):
            raise ValueError("needs gpus and gpu together; give both, or neither")
        if self.spot_usd_per_hour is not None and self.spot_usd_per_hour > self.usd_per_hour:
            raise ValueError("costs more on spot than on demand; correct one of the two")
        return self


class PriceListSpec(Section):
    """The whole file."""

    sources: dict[str, PriceSourceSpec]
    types: dict[str, NodePriceSpec]

    @model_validator(mode="after")
    def _check(self) -> PriceListSpec:
        unknown = sorted({price.source for price in self.types.values()} - set(self.sources))
        if unknown:
            raise ValueError(f"has types with the source {unknown[0]}, which sources does not hold; add it there")
        return self
