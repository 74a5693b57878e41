"""The served model as a Serve config names it, for KubeRay's RayService and for `serve deploy`.

applications:
  - name: model
    import_path: mlcluster.serve.ray_service:app
    args: {bundle: /models/income}
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from mlcluster.registry import Bundle, TrustedKeys
from mlcluster.serve.plan import ServePlan
from mlcluster.serve.ray_app import build_without_front
from mlcluster.spec import YamlDocument, parse_section
from mlcluster.spec.base import Section


class ServiceArguments(Section):
    """What stands under `args`; unknown keys are refused."""

    bundle: Annotated[str, Field(min_length=1)]
    """A folder with a bundle, as a run leaves it, on each node that may run the controller."""
    min_replicas: NonNegativeInt = 1
    max_replicas: PositiveInt = 4
    target_ongoing: PositiveFloat = 8
    trusted_keys: tuple[str, ...] = ()
    """Files with public keys: a bundle that none of them has signed is not served."""


def app(given: dict[str, Any]) -> Any:
    """The Serve application of a bundle, read and checked here, before any replica starts; `given` is `args`.

    Raises:
        SpecError: `args` has a key that is missing, unknown or wrong.
        BundleError: the bundle is damaged, or signed by nobody who is trusted.
    """
    document = YamlDocument(source="args", values=given)
    arguments = parse_section(document, ServiceArguments)
    trusted = TrustedKeys.read(map(Path, arguments.trusted_keys), key="trusted_keys")
    bundle = Bundle.read(Path(arguments.bundle), trusted=trusted)
    return build_without_front(
        ServePlan(
            name=bundle.card.name,
            bundle_files=bundle.files(),
            trusted=trusted,
            min_replicas=arguments.min_replicas,
            max_replicas=arguments.max_replicas,
            target_ongoing=arguments.target_ongoing,
        )
    )
