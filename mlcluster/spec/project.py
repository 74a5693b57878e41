"""The whole project file, and its fingerprint."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated

from pydantic import Field, field_validator

from mlcluster.spec.base import Identifier, Section
from mlcluster.spec.data import DataSpec
from mlcluster.spec.serve import MonitorSpec, ServeSpec
from mlcluster.spec.tune import DEFAULT_FAMILIES, Family, PricesSpec, TuneSpec, Workers
from mlcluster.spec.verify import GateSpec


class ProjectSpec(Section):
    """What was asked for: the contents of `mlcluster.yaml`, with every default filled in."""

    project: Identifier = "project"
    data: DataSpec
    models: Annotated[tuple[Family, ...], Field(min_length=1)] = DEFAULT_FAMILIES
    tune: TuneSpec = TuneSpec()
    workers: Workers = "auto"
    prices: PricesSpec = PricesSpec()
    verify: tuple[GateSpec, ...] = ()
    serve: ServeSpec = ServeSpec()
    monitor: MonitorSpec | None = None
    tracking: Annotated[str, Field(min_length=1)] = "sqlite:///mlflow.db"

    @field_validator("models")
    @classmethod
    def _no_model_twice(cls, models: tuple[Family, ...]) -> tuple[Family, ...]:
        if len(set(models)) < len(models):
            raise ValueError("names a family twice; name each once")
        return models

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits that depend on what is asked, not on the order or the form in which it was written."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def not_acted_on(self) -> tuple[str, ...]:
        """The keys that were given and accepted, but that nothing acts on yet; every run says so."""
        return ("monitor",) if self.monitor is not None else ()
