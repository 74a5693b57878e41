"""From a file to a `ProjectSpec`, or to one error that lists every bad key with its line and its fix."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mlcluster.errors import DataError, SpecError
from mlcluster.spec.project import ProjectSpec
from mlcluster.spec.yaml_document import KeyPath, YamlDocument, dump_yaml, read_yaml

SectionType = TypeVar("SectionType", bound=BaseModel)
_Root = type[BaseModel]
"""The section that a whole document is."""


def load_spec(path: Path, *, overrides: Sequence[str] = ()) -> ProjectSpec:
    """The project file at `path`, with `key.path=value` overrides applied.

    Raises:
        SpecError: anything in it is wrong; each bad key is one line with the file, the line, the key,
            its value and the fix.
    """
    return parse_spec(load_document(path, overrides=overrides))


def load_document(path: Path, *, overrides: Sequence[str] = ()) -> YamlDocument:
    """The project file as it is written, overrides applied; see `load_spec`."""
    document = read_yaml(path)
    for assignment in overrides:
        document = document.with_override(assignment)
    return document


def parse_spec(document: YamlDocument) -> ProjectSpec:
    """The spec in a document that was already read; see `load_spec`."""
    return parse_section(document, ProjectSpec)


def parse_section(document: YamlDocument, section: type[SectionType]) -> SectionType:
    """A document whose keys are those of `section`.

    Raises:
        SpecError: one line for each bad key, with the file, the line, the key, its value and the fix.
    """
    try:
        return section.model_validate(dict(document.values))
    except ValidationError as error:
        raise SpecError("\n".join(_explain_all(error.errors(include_url=False), document, section))) from error


@contextmanager
def naming_lines(document: YamlDocument) -> Iterator[None]:
    """Puts file and line in front of an error that is raised within, where it begins with a key of the project file."""
    try:
        yield
    except (SpecError, DataError) as error:
        error.args = (_with_place(str(error), document),)
        raise


def _with_place(message: str, document: YamlDocument) -> str:
    match = re.match(r"([a-z_]+(?:\.[\w-]+)*)(?: = (\S+))? ", message)
    if match is None or match[1].split(".")[0] not in ProjectSpec.model_fields:
        return message
    path: KeyPath = tuple(match[1].split("."))
    if match[2] is not None:
        path = _item_path(path, match[2], document)
    return f"{document.where(path)}: {message}"


def _item_path(path: KeyPath, item: str, document: YamlDocument) -> KeyPath:
    """The path of `item` in the list or mapping at `path`; `path` itself where it is not there."""
    value: Any = document.values
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, list) and item in value:
        return (*path, value.index(item))
    return (*path, item) if isinstance(value, dict) and item in value else path


def spec_to_yaml(spec: ProjectSpec) -> str:
    """The resolved file: every key in its mapping form, all defaults filled in."""
    return dump_yaml(spec.model_dump(mode="json"))


def _explain_all(details: Sequence[ErrorDetails], document: YamlDocument, root: _Root) -> list[str]:
    """One line for each bad key; a list that is short only because its items are bad gets none."""
    lines: dict[KeyPath, str] = {}
    for detail in details:
        path = _written_path(detail["loc"], document, root)
        if detail["type"] == "too_short" and any(known[: len(path)] == path for known in lines):
            continue
        lines.setdefault(path, _explain(detail, path, document, root))
    return list(lines.values())


def _explain(detail: ErrorDetails, path: KeyPath, document: YamlDocument, root: _Root) -> str:
    key = ".".join(str(part) for part in path) or "the file"
    where = document.where(path)
    given = detail["input"]
    match detail["type"]:
        case "extra_forbidden":
            return f"{where}: {key} = {_short(given)} is not a key; {_nearest_key(path, root)}."
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
        case "tuple_type":
            return f"{where}: {key} = {_short(given)} is no list; write it like [{_short(given)}]."
        case "model_type":
            return f"{where}: {key} = {_short(given)} holds no keys; use {', '.join(_fields_at(path, root))}."
        case "string_type":
            return f"{where}: {key} = {_short(given)} is no text; write it in quotes."
        case _:
            return f"{where}: {key} = {_short(given)} is wrong ({_lower(detail['msg'])}); correct the value."


def _written_path(loc: Sequence[str | int], document: YamlDocument, root: _Root) -> KeyPath:
    """`loc` without the union branches that pydantic adds to it."""
    path: list[str | int] = []
    for part in loc:
        candidate = (*path, part)
        is_written = candidate in document.lines or part in _fields_at(tuple(path), root)
        if isinstance(part, int) or is_written or not path or _fields_at(tuple(path), root):
            path.append(part)
    return tuple(path)


def _fields_at(path: KeyPath, root: _Root) -> tuple[str, ...]:
    """The keys that may be written under `path`; empty where it is no section."""
    annotation: Any = root
    for part in path:
        if get_origin(annotation) in (dict, tuple):  # a value under a name of the user's own, or an item of a list
            annotation = get_args(annotation)[0 if get_origin(annotation) is tuple else 1]
            continue
        field = section.model_fields.get(str(part)) if (section := _section_in(annotation)) is not None else None
        annotation = field.annotation if field is not None else None
    if get_origin(annotation) in (dict, tuple):
        return ()
    section = _section_in(annotation)
    return tuple(section.model_fields) if section is not None else ()


def _is_section(model: Any) -> bool:
    return isinstance(model, type) and issubclass(model, BaseModel)


def _section_in(annotation: Any) -> Any:
    if _is_section(annotation):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _section_in(arg)) is not None), None)


def _nearest_key(path: KeyPath, root: _Root) -> str:
    known = _fields_at(path[:-1], root)
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
    text = re.sub(r"://[^/\s]*@", "://", text)  # of a refused password, too, nothing is shown
    text = re.sub(r"([?&][a-z_]*(?:password|secret)[a-z_]*=)[^&\s]+", r"\1...", text, flags=re.IGNORECASE)
    return text if len(text) <= 60 else text[:57] + "..."


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]
