"""Kubernetes resources against the schemas of their CustomResourceDefinitions, without a Kubernetes.

A definition's schema is OpenAPI 3 in Kubernetes' own dialect ("structural schema"): a key that it does not name is
dropped by the API server without a word, so here it is an error; a quantity or port may be a number or text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from mlcluster.cluster.documents import LOADER, KeyPath
from mlcluster.cluster.findings import Finding, key_value, unknown_key, value_at
from mlcluster.errors import SpecError
from mlcluster.spec import YamlDocument

Schemas = Mapping[tuple[str, str], Any]
"""(apiVersion, kind) -> JSON schema."""
_TOP = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}


def read_schemas(folder: Path) -> Schemas:
    """The schemas of all CustomResourceDefinitions in the YAML files of a folder.

    Raises:
        SpecError: it is no folder, or there is none in it.
    """
    found: dict[tuple[str, str], Any] = {}
    for path in sorted(folder.glob("*.y*ml")):
        for values in _mappings(path):
            if values.get("kind") == "CustomResourceDefinition":
                found.update(_versions(values["spec"]))
    if not found:
        raise SpecError(f"--crds = {folder} holds no CustomResourceDefinition; give KubeRay's config/crd/bases.")
    return found


def _mappings(path: Path) -> list[Mapping[str, Any]]:
    """As `read_documents`, without lines: a definition is a megabyte, and nothing is told about its keys."""
    try:
        loaded = list(yaml.load_all(path.read_text(encoding="utf-8"), LOADER))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SpecError(f"--crds = {path} cannot be read as YAML; give KubeRay's config/crd/bases.") from error
    return [values for values in loaded if isinstance(values, Mapping)]


def _versions(spec: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], Any]]:
    for version in spec["versions"]:
        schema = _closed(version["schema"]["openAPIV3Schema"])
        schema["properties"] = {**schema.get("properties", {}), **_TOP}
        yield (f"{spec['group']}/{version['name']}", spec["names"]["kind"]), schema


def _closed(schema: Any) -> Any:
    """The schema as JSON schema: closed to unknown keys where it names some, open to text for int-or-string."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string", "number"]}
    closed = {key: _closed(value) if key != "properties" else _each(value) for key, value in schema.items()}
    is_open = "additionalProperties" in schema or schema.get("x-kubernetes-preserve-unknown-fields")
    if "properties" in schema and not is_open:
        closed["additionalProperties"] = False
    return closed


def _each(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _closed(schema) for name, schema in properties.items()}


def crd_findings(document: YamlDocument, schemas: Schemas) -> list[Finding]:
    """An error for each breach; none for resources that no definition is of, as those of Kubernetes itself."""
    schema = schemas.get((str(document.values.get("apiVersion")), str(document.values.get("kind"))))
    if schema is None:
        return []
    errors = jsonschema.Draft7Validator(schema).iter_errors(dict(document.values))
    return [
        _explain(error, document) for error in sorted(errors, key=lambda error: list(map(str, error.absolute_path)))
    ]


def _explain(error: Any, document: YamlDocument) -> Finding:
    path: KeyPath = tuple(error.absolute_path)
    if error.validator == "additionalProperties":
        unknown, _, near = unknown_key(error)
        return Finding(
            level="error",
            where=document.where((*path, unknown)),
            problem=f"{key_value((*path, unknown), None)} is no key of {document.values['kind']}, and would be dropped",
            fix=f"did you mean {near}" if near else "remove it",
        )
    value = value_at(document.values, path)
    shown = None if isinstance(value, Mapping | list) else value
    return Finding(
        level="error",
        where=document.where(path),
        problem=f"{key_value(path, shown)} is not what the definition takes ({error.message[:200]})",
        fix="see `kubectl explain`",
    )
