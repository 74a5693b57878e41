"""Cluster files as Ray and Kubernetes read them, with the line of each key.

These are YAML 1.1 with aliases, where project files are neither (see `spec.yaml_document`): what is checked must be
what Ray will see.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from mlcluster.errors import SpecError
from mlcluster.spec import YamlDocument

KeyPath = tuple[str | int, ...]

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's, where PyYAML was built with it: a file of a megabyte takes a second or so instead of a minute."""


def read_documents(path: Path) -> tuple[YamlDocument, ...]:
    """Every mapping in the file, of which Kubernetes' may hold several; empty ones are left out.

    Raises:
        SpecError: the file cannot be read, is not YAML, holds something else, or gives a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise SpecError(
            f"FILE = {path} cannot be read ({reason}); give a cluster file, as in cluster-configs/."
        ) from error
    try:
        read = zip(yaml.compose_all(text, LOADER), yaml.load_all(text, LOADER), strict=True)
        documents = [(root, value) for root, value in read if value is not None]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path.name}:{mark.line + 1}" if mark else path.name
        problem = getattr(error, "problem", None) or "cannot be parsed"
        raise SpecError(f"{where}: this is not YAML ({problem}); check indentation, colons and quotes.") from error
    if not documents or not all(isinstance(value, Mapping) for _, value in documents):
        raise SpecError(f"{path.name}:1: the file holds no mapping of keys; start from one of cluster-configs/.")
    return tuple(
        YamlDocument(source=path.name, values=value, lines=dict(_lines(root, (), path.name, set())))
        for root, value in documents
    )


def _lines(node: yaml.Node, path: KeyPath, source: str, seen: set[int]) -> Iterator[tuple[KeyPath, int]]:
    if id(node) in seen:  # an alias: its keys stand where they were written first
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        keys: dict[str, int] = {}
        for key_node, value_node in node.value:
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if key in keys:
                raise SpecError(f"{source}:{line}: {key} is given twice (first on line {keys[key]}); remove one.")
            keys[key] = line
            yield (*path, key), line
            yield from _lines(value_node, (*path, key), source, seen)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield (*path, index), item.start_mark.line + 1
            yield from _lines(item, (*path, index), source, seen)
