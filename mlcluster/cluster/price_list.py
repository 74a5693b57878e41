"""A price list as it is written beside the cluster files, looked up by node type."""

from __future__ import annotations

import datetime
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlcluster.errors import SpecError
from mlcluster.spec import Cloud, PriceListSpec, parse_section, read_yaml

FILE_NAME = "prices.yaml"


@dataclass(frozen=True, kw_only=True, slots=True)
class NodePrice:
    """One type of node, and where its price is from."""

    instance_type: str
    cloud: Cloud
    region: str
    as_of: datetime.date
    source: str
    vcpu: int
    memory_gib: float
    gpus: int
    gpu: str | None
    usd_per_hour: float
    spot_usd_per_hour: float | None
    watts: float
    """Estimated, at full load."""

    def usd_of_hour(self, *, is_spot: bool) -> float:
        """On spot at the price on demand where no other is known."""
        spot = self.spot_usd_per_hour if is_spot else None
        return self.usd_per_hour if spot is None else spot


@dataclass(frozen=True, kw_only=True, slots=True)
class PriceList:
    """Prices by node type; none of them is zero."""

    source: str
    """The file's name."""
    prices: Mapping[str, NodePrice]

    def nearest(self, instance_type: str) -> str | None:
        """The listed type whose name is most like this one's."""
        return next(iter(difflib.get_close_matches(instance_type, self.prices, n=1, cutoff=0.6)), None)


def read_price_list(path: Path) -> PriceList:
    """The prices at `path`.

    Raises:
        SpecError: it cannot be read, or a key is missing, unknown or wrong (a zero, too); a line for each.
    """
    if not path.exists():
        raise SpecError(
            f"{path.name} = no file in {path.parent}; put a price list beside the cluster file, like `mlcluster init`."
        )
    spec = parse_section(read_yaml(path), PriceListSpec)
    prices = {}
    for name, one in spec.types.items():
        source = spec.sources[one.source]
        prices[name] = NodePrice(
            instance_type=name,
            cloud=source.cloud,
            region=source.region,
            as_of=source.as_of,
            source=one.source,
            vcpu=one.vcpu,
            memory_gib=one.memory_gib,
            gpus=one.gpus,
            gpu=one.gpu,
            usd_per_hour=one.usd_per_hour,
            spot_usd_per_hour=one.spot_usd_per_hour,
            watts=one.watts,
        )
    return PriceList(source=path.name, prices=prices)
