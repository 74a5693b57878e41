"""What is wrong with a cluster file, as records: the table, the JSON and the test read the same words."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mlcluster.cluster.documents import KeyPath
from mlcluster.errors import SpecError
from mlcluster.spec import YamlDocument

Level = Literal["error", "edit", "warning"]
"""`error`: it would not come up, not be safe, or not have a price. `edit`: whoever brings it up has to fill it in.
`warning`: it works, and costs or lets in more than it need."""
PLACEHOLDER = "EDIT-ME"
_MAX_CHARS = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """`where` is `file:line`; `problem` begins with `key = value`, `fix` says what to do."""

    level: Level
    where: str
    problem: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}; {self.fix}."


def key_value(path: KeyPath, value: Any) -> str:
    """`a.b.0 = value`, cut short; without a value where there is none."""
    key = ".".join(map(str, path)) or "the file"
    if value is None:
        return key
    text = " ".join(str(value).split())
    return f"{key} = {text if len(text) <= _MAX_CHARS else text[: _MAX_CHARS - 3] + '...'}"


def unknown_key(breach: Any) -> tuple[str, list[str], str | None]:
    """Of a breach of `additionalProperties` as jsonschema tells it: the key, those that are known, the nearest."""
    known = list(breach.schema["properties"])
    unknown = next(key for key in breach.instance if key not in known)
    near = difflib.get_close_matches(str(unknown), known, n=1, cutoff=0.6)
    return unknown, known, near[0] if near else None


def value_at(values: Any, path: KeyPath) -> Any:
    """What stands at `path`; None where nothing does."""
    for part in path:
        if isinstance(values, Mapping):
            values = values.get(part)
        elif isinstance(values, Sequence) and not isinstance(values, str) and isinstance(part, int):
            values = values[part] if part < len(values) else None
        else:
            return None
    return values


def mapping_at(values: Any, path: KeyPath) -> Mapping[str, Any]:
    """The mapping at `path`; an empty one where there is something else, of which a schema or another check tells."""
    found = value_at(values, path)
    return found if isinstance(found, Mapping) else {}


def list_at(values: Any, path: KeyPath) -> list[Any]:
    """The list at `path`; an empty one where there is something else."""
    found = value_at(values, path)
    return found if isinstance(found, list) else []


def whole_at(document: YamlDocument, path: KeyPath, default: int = 0) -> int:
    """The whole number at `path`; `default` where there is nothing.

    Raises:
        SpecError: there is something else, or less than 0.
    """
    found = value_at(document.values, path)
    if found is None:
        return default
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise SpecError(f"{document.where(path)}: {key_value(path, found)} is no whole number; write one from 0 on.")
    return found


def text_at(document: YamlDocument, path: KeyPath) -> str | None:
    """The text at `path`; None where there is nothing.

    Raises:
        SpecError: there is something else.
    """
    found = value_at(document.values, path)
    if found is not None and not isinstance(found, str):
        raise SpecError(f"{document.where(path)}: {key_value(path, found)} is no text; write a name.")
    return found


def placeholder_findings(document: YamlDocument) -> list[Finding]:
    """Each value that is still the one of the template, with all the lines that it stands on."""
    places: dict[str, list[KeyPath]] = {}
    for path, text in _texts(document.values, ()):
        if PLACEHOLDER in text:
            places.setdefault(text, []).append(path)
    return [_placeholder(document, text, paths) for text, paths in places.items()]


def _placeholder(document: YamlDocument, text: str, paths: Sequence[KeyPath]) -> Finding:
    others = ", ".join(document.where(path).rpartition(":")[2] for path in paths[1:])
    return Finding(
        level="edit",
        where=document.where(paths[0]),
        problem=f"{key_value(paths[0], text)} is the template's" + (f", as on lines {others}" if others else ""),
        fix="put in your own before you bring it up",
    )


def _texts(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(inner, (*path, key))
    elif isinstance(value, Sequence):
        for index, inner in enumerate(value):
            yield from _texts(inner, (*path, index))
