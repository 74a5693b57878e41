"""The models that answer beside an endpoint's own, and which of all of them a request means."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mlcluster.data import TargetColumn
from mlcluster.registry import CHAMPION


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedModel:
    """A version of a model, and the aliases that it had when it was deployed."""

    name: str
    version: str
    aliases: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """Of the Open Inference Protocol."""
        return f"/v2/models/{self.name}/versions/{self.version}"

    @property
    def alias_paths(self) -> tuple[str, ...]:
        return tuple(f"/v2/models/{self.name}@{alias}" for alias in self.aliases)


@dataclass(frozen=True, kw_only=True, slots=True)
class OtherModel:
    """A model beside an endpoint's own."""

    served: ServedModel
    digest: str
    """Of its bundle, which whoever loads it asks for by this."""
    loaded_bytes: int
    """What it takes in memory once it answers, at most."""
    target: TargetColumn
    """What it predicts, by which labels are checked while it is not loaded."""


class ServedModels:
    """Which version a request means; `own` is the endpoint's own model."""

    def __init__(self, own: ServedModel, others: Iterable[OtherModel] = ()) -> None:
        self.own = own
        self.others = {other.served.path: other for other in others}
        self._by_path: dict[str, ServedModel] = {}
        for served in self.all:
            for path in (served.path, *served.alias_paths):
                self._by_path.setdefault(path, served)
        # A name alone is the own model's, or the champion of that name, or the first of it.
        for served in (own, *sorted(self.all, key=lambda served: CHAMPION not in served.aliases)):
            self._by_path.setdefault(f"/v2/models/{served.name}", served)

    def named(self, name: str, version: str | None) -> ServedModel | None:
        """The model of this name, which may bear an alias, and this version; None is what the name means alone."""
        found = self.find(f"/v2/models/{name}" if version is None else f"/v2/models/{name}/versions/{version}")
        return None if found is None or "/" in name else found[0]

    def find(self, path: str) -> tuple[ServedModel, str] | None:
        """The model that a path of the protocol names, and the path without its alias; None where it names none."""
        parts = path.split("/")
        if len(parts) < 4:
            return None
        is_versioned = len(parts) > 4 and parts[4] == "versions"
        found = self._by_path.get("/".join(parts[: 6 if is_versioned else 4]))
        return None if found is None else (found, "/".join((*parts[:3], found.name, *parts[4:])))

    def names_of_others(self) -> dict[str, str]:
        """`NAME`, `NAME@ALIAS` or `NAME/VERSION` of each that is not the own one, and `NAME/VERSION` that it means."""
        return {
            path.removeprefix("/v2/models/").replace("/versions/", "/"): f"{served.name}/{served.version}"
            for path, served in self._by_path.items()
            if served != self.own
        }

    @property
    def all(self) -> tuple[ServedModel, ...]:
        """The own one first."""
        return (self.own, *(other.served for other in self.others.values()))
