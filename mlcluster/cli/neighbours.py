"""The models that are to answer beside a project's own, from the names in its file to their bundles."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mlcluster.cli.bundle_keys import BundleKeys
from mlcluster.errors import ClusterError, SpecError
from mlcluster.registry import CHAMPION
from mlcluster.spec import ModelName, ServeSpec

if TYPE_CHECKING:
    from mlcluster.registry.mlflow_registry import MlflowRegistry, ModelVersion
    from mlcluster.serve.plan import Neighbours


@dataclass(kw_only=True, slots=True)
class FoundModels:
    """What the names of `serve.also` mean in a registry."""

    own_aliases: tuple[str, ...]
    versions: list[ModelVersion] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    """Aliases that point nowhere yet, which is no error: the first run of a project has no challenger."""


def find_models(serve: ServeSpec, registry: MlflowRegistry, own: ModelVersion) -> FoundModels:
    """What `serve.also` names; `own` is about to become the champion of its name.

    Raises:
        SpecError: a version is not there.
    """
    found = FoundModels(own_aliases=(CHAMPION, *(alias for alias in own.aliases if alias != CHAMPION)))
    for name in serve.also:
        version = _version(name, registry)
        if version is None:
            found.absent.append(str(name))
            continue
        if version.name == own.name:
            # The one that it was until now.
            version = replace(version, aliases=tuple(alias for alias in version.aliases if alias != CHAMPION))
        if (version.name, version.version) != (own.name, own.version) and version not in found.versions:
            found.versions.append(version)
    return found


def read_neighbours(serve: ServeSpec, registry: MlflowRegistry, keys: BundleKeys, found: FoundModels) -> Neighbours:
    """The bundles of what was found, checked.

    Raises:
        BundleError: one is damaged, or signed by nobody whom the project trusts.
        SpecError: one alone takes more memory than all of them may.
    """
    from mlcluster.serve.plan import Neighbours, OtherBundle

    others = []
    for version in found.versions:
        bundle = registry.bundle(version, trusted=keys.trusted)
        other = OtherBundle.of(bundle, aliases=version.aliases)
        needed_mb = other.model.loaded_bytes / 1e6
        if needed_mb > serve.also_mb:
            raise SpecError(
                f"serve.also_mb = {serve.also_mb:g} is less than the {needed_mb:.0f} MB that {version.name}/"
                f"{version.version} may take; raise it, or leave that model out."
            )
        others.append(other)
    return Neighbours(own_aliases=found.own_aliases, others=tuple(others), max_bytes=int(serve.also_mb * 1e6))


def _version(name: ModelName, registry: MlflowRegistry) -> ModelVersion | None:
    if name.version is None:
        return registry.aliased(name.name, name.alias or CHAMPION)
    try:
        return registry.version(name.name, str(name.version))
    except ClusterError as error:
        raise SpecError(f"serve.also = {name} is not registered ({error})") from error
