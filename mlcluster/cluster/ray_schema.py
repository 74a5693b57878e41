"""Ray's own opinion of a cluster file: its schema, its defaults, its validation. Nothing is started."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import ray
from ray.autoscaler._private.util import prepare_config, validate_config

from mlcluster.cluster.documents import KeyPath
from mlcluster.cluster.findings import Finding, key_value, unknown_key
from mlcluster.spec import YamlDocument

_FIX = "see Ray's reference of cluster files, and the ones in cluster-configs/"


def schema_findings(document: YamlDocument) -> list[Finding]:
    """An error for each breach of Ray's schema; where there is none, for what its own checks then refuse."""
    validator = jsonschema.Draft7Validator(_schema())
    errors = sorted(
        validator.iter_errors(document.values), key=lambda error: [str(part) for part in error.absolute_path]
    )
    return [_explain(error, document) for error in errors] or _refused(document)


def _schema() -> Any:
    return json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text(encoding="utf-8"))


def _explain(error: Any, document: YamlDocument) -> Finding:
    path: KeyPath = tuple(error.absolute_path)
    if error.validator == "additionalProperties" and "properties" in error.schema:
        unknown, known, near = unknown_key(error)
        return Finding(
            level="error",
            where=document.where((*path, unknown)),
            problem=f"{key_value((*path, unknown), None)} is no key that Ray knows",
            fix=f"did you mean {near}" if near else f"remove it, or use one of {', '.join(known)}",
        )
    shown = error.instance if isinstance(error.instance, str | int | float) else None
    return Finding(
        level="error",
        where=document.where(path),
        problem=f"{key_value(path, shown)} is not what Ray takes ({error.message})",
        fix=_FIX,
    )


def _refused(document: YamlDocument) -> list[Finding]:
    try:
        validate_config(prepare_config(copy.deepcopy(dict(document.values))))
    except Exception as error:  # Ray raises whatever it comes across, and all of it is about the file
        reason = " ".join(str(error).split()) or type(error).__name__
        return [Finding(level="error", where=document.where(()), problem=f"Ray refuses the file ({reason})", fix=_FIX)]
    return []
