"""YAML with a memory: which line each key stood on, and no surprises of YAML 1.1.

YAML 1.1 reads `on` and `no` as booleans, `1:30` as 90 and `1e-3` as a string. Project files are read by the YAML 1.2
core rules instead, and a key given twice is an error rather than a silent overwrite. Aliases (`*name`) are refused:
project files neither inherit nor merge, and a few lines of aliases can stand for a billion values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from mlcluster.errors import SpecError

KeyPath = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """SafeLoader under the YAML 1.2 core schema, without aliases."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.get_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases are not accepted, write the value out", mark)
        return super().compose_node(parent, index)


_Loader.yaml_implicit_resolvers = {}  # its own, without the rules of YAML 1.1

_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+.0123456789"),
)


class _Dumper(yaml.SafeDumper):
    """Quotes what either version of YAML would read as anything but text."""


for _first, _resolvers in _Loader.yaml_implicit_resolvers.items():
    for _tag, _pattern in _resolvers:
        _Dumper.add_implicit_resolver(_tag, _pattern, [_first])
# PyYAML's own constructor would read a leading zero as octal.
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(loader.construct_scalar(node)))  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True, slots=True)
class YamlDocument:
    """A mapping read from text, with the line of each key; `source` names it in messages."""

    source: str
    values: Mapping[str, Any]
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    overridden: frozenset[KeyPath] = frozenset()
    """What was set from outside of the text."""

    def where(self, path: KeyPath) -> str:
        """`file:line` of the key at `path`, or of the nearest enclosing key; `--set` where that was what set it."""
        if any(path[:end] in self.overridden for end in range(1, len(path) + 1)):
            return "--set"
        for end in range(len(path), 0, -1):
            here = path[:end]
            if here in self.lines:
                return f"{self.source}:{self.lines[here]}"
            if any(key[:end] == here for key in self.overridden):  # a section that only the override mentions
                return "--set"
        return f"{self.source}:1"

    def with_override(self, assignment: str) -> YamlDocument:
        """A copy in which one dotted key is set, as in `tune.budget.usd=20`; the value is YAML.

        Raises:
            SpecError: the assignment has no `=`, or goes through a key that is no mapping.
        """
        dotted, equals, text = assignment.partition("=")
        keys = dotted.strip().split(".")
        if not equals or not all(keys):
            raise SpecError(f"--set {assignment} is not key.path=value; write for example --set tune.budget.usd=20.")
        try:
            value = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
        except (yaml.YAMLError, ValueError) as error:
            raise SpecError(f"--set {assignment} holds a value that is not YAML; quote it.") from error
        values = _with_value(dict(self.values), keys, value, assignment)
        return replace(self, values=values, overridden=self.overridden | {tuple(keys)})


def _with_value(values: dict[str, Any], keys: list[str], value: Any, assignment: str) -> dict[str, Any]:
    head, *rest = keys
    if not rest:
        return {**values, head: value}
    inner = values.get(head)
    if inner is None:
        inner = {}
    if not isinstance(inner, dict):
        raise SpecError(f"--set {assignment} goes through {head} = {inner!r}, which is no mapping; set {head} itself.")
    return {**values, head: _with_value(dict(inner), rest, value, assignment)}


def read_yaml(path: Path) -> YamlDocument:
    """The mapping in a YAML file, with line numbers.

    Raises:
        SpecError: the file cannot be read, is not YAML, is no mapping, or gives a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise SpecError(
            f"{path} cannot be read ({reason}); give an existing project file, or make one with `mlcluster init`."
        ) from error
    return parse_yaml(text, source=path.name)


def parse_yaml(text: str, *, source: str) -> YamlDocument:
    """The mapping in `text`; see `read_yaml`."""
    try:
        root = yaml.compose(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}:{mark.line + 1}" if mark else source
        problem = getattr(error, "problem", None) or "cannot be parsed"
        raise SpecError(f"{where}: this is not YAML ({problem}); check indentation, colons and quotes.") from error
    if root is None:
        return YamlDocument(source=source, values={})
    if not isinstance(root, yaml.MappingNode):
        raise SpecError(f"{source}:1: the file holds no mapping of keys; start it with `project: NAME`.")
    lines: dict[KeyPath, int] = {}
    values = _construct(root, (), lines, source)
    return YamlDocument(source=source, values=values, lines=lines)


def dump_yaml(values: Mapping[str, Any], *, leaves_inline: bool = False) -> str:
    """Text that `parse_yaml` reads as the same values, in their order; with `leaves_inline`, a list is one line."""
    style = None if leaves_inline else False
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=style, width=100)


def _construct(node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int], source: str) -> Any:
    if isinstance(node, yaml.MappingNode):
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise SpecError(f"{source}:{line}: a key is a plain word; this one is a collection.")
            key = key_node.value
            if key in result:
                raise SpecError(
                    f"{source}:{line}: {key} is given twice (first on line {lines[(*path, key)]}); remove one."
                )
            lines[(*path, key)] = line
            result[key] = _construct(value_node, (*path, key), lines, source)
        return result
    if isinstance(node, yaml.SequenceNode):
        items = []
        for index, item in enumerate(node.value):
            lines[(*path, index)] = item.start_mark.line + 1
            items.append(_construct(item, (*path, index), lines, source))
        return items
    loader = _Loader("")
    try:
        return loader.construct_object(node)
    except (yaml.YAMLError, ValueError) as error:  # Python reads no whole number of more than 4,300 digits
        raise SpecError(
            f"{source}:{node.start_mark.line + 1}: a value of this kind is not accepted; write plain YAML."
        ) from error
    finally:
        loader.dispose()
