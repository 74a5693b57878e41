"""From a file to a `ProjectSpec`, or to one error that lists every bad key with its line and its fix."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mlcluster.errors import SpecError
from mlcluster.spec.project import ProjectSpec
from mlcluster.spec.yaml_document import KeyPath, YamlDocument, read_yaml


def load_spec(path: Path, *, overrides: Sequence[str] = ()) -> ProjectSpec:
    """The project file at `path`, with `key.path=value` overrides applied.

    Raises:
        SpecError: anything in it is wrong; each bad key is one line with the file, the line, the key,
            its value and the fix.
    """
    document = read_yaml(path)
    for assignment in overrides:
        document = document.with_override(assignment)
    return parse_spec(document)


def parse_spec(document: YamlDocument) -> ProjectSpec:
    """The spec in a document that was already read; see `load_spec`."""
    try:
        return ProjectSpec.model_validate(dict(document.values))
    except ValidationError as error:
        lines = dict.fromkeys(_explain(detail, document) for detail in error.errors(include_url=False))
        raise SpecError("\n".join(lines)) from error


def spec_to_yaml(spec: ProjectSpec) -> str:
    """The resolved file: every key in its mapping form, all defaults filled in."""
    return yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _explain(detail: ErrorDetails, document: YamlDocument) -> str:
    path = _written_path(detail["loc"], document)
    key = ".".join(str(part) for part in path) or "the file"
    where = document.where(path)
    given = detail["input"]
    match detail["type"]:
        case "extra_forbidden":
            return f"{where}: {key} = {_short(given)} is not a key; {_nearest_key(path)}."
        case "missing":
            return f"{where}: {key} is required and missing; add `{path[-1]}: ...`{_under(path)}."
        case "value_error":
            return f"{where}: {key} = {_short(given)} {detail['ctx']['error']}."
        case "literal_error":
            return f"{where}: {key} = {_short(given)} is not allowed; {_nearest_choice(given, detail)}."
        case "string_pattern_mismatch":
            return (
                f"{where}: {key} = {_short(given)} is no usable name; "
                "use letters, digits, - and _, starting with a letter."
            )
        case _:
            return f"{where}: {key} = {_short(given)} is wrong ({_lower(detail['msg'])}); correct the value."


def _written_path(loc: Sequence[str | int], document: YamlDocument) -> KeyPath:
    """`loc` without the union branches that pydantic adds to it."""
    path: list[str | int] = []
    for part in loc:
        candidate = (*path, part)
        is_written = candidate in document.lines or part in _fields_at(tuple(path))
        if isinstance(part, int) or is_written or not path or _fields_at(tuple(path)):
            path.append(part)
    return tuple(path)


def _fields_at(path: KeyPath) -> tuple[str, ...]:
    """The keys that may be written under `path`; empty where it is no section."""
    model: Any = ProjectSpec
    for part in path:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part) if _is_section(model) else None
        if field is None:
            return ()
        model = _section_in(field.annotation)
    return tuple(model.model_fields) if _is_section(model) else ()


def _is_section(model: Any) -> bool:
    return isinstance(model, type) and issubclass(model, BaseModel)


def _section_in(annotation: Any) -> Any:
    if _is_section(annotation):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _section_in(arg)) is not None), None)


def _nearest_key(path: KeyPath) -> str:
    known = _fields_at(path[:-1])
    close = difflib.get_close_matches(str(path[-1]), known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]}"
    return f"remove it, or use one of {', '.join(known)}" if known else "remove it"


def _nearest_choice(given: Any, detail: ErrorDetails) -> str:
    choices = [word.strip(" '") for word in detail["ctx"]["expected"].replace(" or ", ", ").split(",")]
    close = difflib.get_close_matches(str(given), choices, n=1, cutoff=0.6)
    return f"did you mean {close[0]}" if close else f"use one of {', '.join(choices)}"


def _under(path: KeyPath) -> str:
    return f" under {'.'.join(str(part) for part in path[:-1])}" if len(path) > 1 else ""


def _short(value: Any) -> str:
    text = repr(value) if not isinstance(value, str) else value
    return text if len(text) <= 60 else text[:57] + "..."


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]
