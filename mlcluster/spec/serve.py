"""`serve:` and `monitor:`: how the winner answers, and what is watched."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from mlcluster.spec.base import Identifier, Section
from mlcluster.spec.spans import span_seconds


class Replicas(Section):
    """How many copies may answer. Short forms: `0..4`, or one number for both ends."""

    min: NonNegativeInt = 0
    max: PositiveInt = 4

    @model_validator(mode="before")
    @classmethod
    def _from_short_form(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            return {"min": value, "max": value}
        if not isinstance(value, str):
            return value
        match = re.fullmatch(r"\s*(\d+)\s*\.\.\s*(\d+)\s*", value)
        if match is None:
            raise ValueError("is no range of whole numbers; write it like 0..4")
        return {"min": int(match[1]), "max": int(match[2])}

    @model_validator(mode="after")
    def _check(self) -> Replicas:
        if self.min > self.max:
            raise ValueError(f"starts at {self.min} and ends at {self.max}; swap them")
        return self


class ModelName(Section):
    """A version of a registered model. Short forms, as MLflow has them: `NAME@ALIAS`, `NAME/VERSION`, `NAME` for its
    champion, each with or without `models:/` before it."""

    name: Identifier
    version: PositiveInt | None = None
    alias: Identifier | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_short_form(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        match = re.fullmatch(r"(?:models:/)?([^/@]+)(?:/(\d+)|@([^/@]+))?", value.strip())
        if match is None:
            raise ValueError("names no model; write it like income@challenger or income/3")
        name, version, alias = match.groups()
        return {"name": name} | ({"version": int(version)} if version else {}) | ({"alias": alias} if alias else {})

    @model_validator(mode="after")
    def _check(self) -> ModelName:
        if self.version is not None and self.alias is not None:
            raise ValueError("has a version and an alias; give one of them")
        return self

    def __str__(self) -> str:
        return f"{self.name}/{self.version}" if self.version is not None else f"{self.name}@{self.alias or 'champion'}"


class ServeSpec(Section):
    """The endpoint."""

    replicas: Replicas = Replicas()
    target_ongoing: PositiveFloat = 8
    """Requests in flight per replica at which another replica is started."""
    host: str = "127.0.0.1"
    """The address that the endpoint listens on, of this machine or of the cluster's head; others than loopback ask for
    `api_keys`."""
    grpc_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """A port of the same address for the Open Inference Protocol over gRPC, such as 8001; nothing is opened unless it
    is set. It asks for at least one replica: calls of gRPC do not start one."""
    api_keys: str | None = None
    """A file of keys, beside the project file, one of which each prediction must bear; `mlcluster key api` makes it."""
    tls_certificate: str | None = None
    """A file of certificates (PEM), the endpoint's first; with `tls_key` it speaks HTTPS."""
    tls_key: str | None = None
    """The file of the certificate's private key (PEM, no password)."""
    also: tuple[ModelName, ...] = ()
    """Models that answer beside the project's own, from the same MLflow: `income@challenger`, `bikes/3`."""
    also_mb: PositiveFloat = 512
    """MB of memory that these may take in a replica: what does not fit is loaded when it is asked for."""
    timeout_ms: PositiveInt = 60_000
    """For a request from end to end, where it does not say less itself; a start from zero replicas has to fit in."""
    slowest_ms: PositiveFloat = 1000
    """For one row, in the median, when a new version is tried: a slower one does not take over."""
    records_gb: PositiveFloat = 1.0
    """GB of prediction records that are kept; the oldest go."""
    signing_key: str | None = None
    """A file with the private key that signs each registered bundle; beside the project file."""
    trusted_keys: tuple[str, ...] = ()
    """Files with public keys: only bundles that one of them has signed are served or asked."""

    @model_validator(mode="after")
    def _check(self) -> ServeSpec:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("has one of tls_certificate and tls_key; give both, or neither")
        if self.grpc_port is not None and self.replicas.min == 0:
            raise ValueError("has grpc_port, and replicas from 0 on, which gRPC cannot wake; say replicas: 1..4")
        try:
            address = ip_address(self.host)
        except ValueError:
            raise ValueError(f"has host = {self.host}, which is no IP address; give one of the machine's") from None
        if not address.is_loopback and self.api_keys is None:
            raise ValueError(
                f"has host = {self.host}, which others reach, and no api_keys; "
                "make a key with `mlcluster key api NAME`, and name its file"
            )
        return self


def _hours_from_short_form(value: Any) -> Any:
    return {"hours": span_seconds(value.strip()) / 3600} if isinstance(value, str) else value


class Duration(Section):
    """A length of time. Short forms: `30m`, `1h`, `1d`, `2w`."""

    hours: PositiveFloat


class DriftSpec(Section):
    """When the inputs count as moved."""

    psi: PositiveFloat = 0.2
    window: Annotated[Duration, BeforeValidator(_hours_from_short_form)] = Duration(hours=1)


class MonitorSpec(Section):
    """What is watched once the model is live."""

    histograms: bool = True
    """Whether each replica counts what it is asked and answers, feature by feature, over `drift.window`."""
    drift: DriftSpec = Field(default_factory=DriftSpec)
