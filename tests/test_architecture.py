"""The shape of the package, from its source: who imports whom, where vendors are, and that importing does nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "mlcluster"
ROOMS = ("spec", "data", "train", "search", "tune", "verify", "registry", "serve", "monitor", "update")
"""In the order in which data flows: a room imports those before it."""
CROSS_CUTTING = {
    "cost": {"spec", "errors"},
    "tracking": {"spec", "errors"},
    "cluster": {"spec", "errors", "cost"},
}
STRANGERS = {("train", "search"), ("search", "train")}
VENDORS = ("ray", "mlflow", "optuna")
TRAINERS = ("torch", "sklearn")
"""What families train with: two seconds and 250 MiB that a replica, which trains nothing, goes without."""


@dataclass(frozen=True)
class Module:
    """A parsed module; `name` is dotted, as in `mlcluster.cost.ledger`."""

    name: str
    tree: ast.Module
    is_package: bool = False

    @property
    def room(self) -> str:
        """`cost` of `mlcluster.cost.ledger`; empty for the package itself."""
        return room_of(self.name)

    @property
    def vendor(self) -> str | None:
        """The vendor whose name the module bears."""
        stem = self.name.rpartition(".")[2]
        return next((vendor for vendor in VENDORS if stem.startswith(f"{vendor}_")), None)

    def imports(self) -> Iterator[tuple[str, int]]:
        """Each imported module in full, with its line. `from a import b` may name `a` or `a.b`: it gives both."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield alias.name, node.lineno
            elif isinstance(node, ast.ImportFrom):
                base = self._base(node)
                yield base, node.lineno
                for alias in node.names:
                    yield f"{base}.{alias.name}", node.lineno

    def _base(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.name.split(".")
        parents = parts[: len(parts) - node.level + self.is_package]
        return ".".join([*parents, *([node.module] if node.module else [])])


def room_of(name: str) -> str:
    parts = name.split(".")
    return parts[1] if parts[0] == "mlcluster" and len(parts) > 1 else ""


def allowed_rooms(room: str) -> set[str]:
    """What a room may import, itself included."""
    if room == "cli":
        return {*ROOMS, *CROSS_CUTTING, "errors", "cli"}
    if room in CROSS_CUTTING:
        return CROSS_CUTTING[room] | {room}
    if room in ROOMS:
        above = set(ROOMS[: ROOMS.index(room) + 1])
        return {other for other in above if (room, other) not in STRANGERS} | set(CROSS_CUTTING) | {"errors"}
    return {"errors"}


def violations(module: Module) -> list[str]:
    """Each broken rule of one module, as `name:line: what`."""
    found = [*_wrong_directions(module), *_wrong_vendors(module)]
    if module.room != "cli":
        found += [
            f"{module.name}:{node.lineno}: print outside cli"
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        ]
    return found


def _wrong_directions(module: Module) -> Iterator[str]:
    known = {*ROOMS, *CROSS_CUTTING, "errors", "cli"}
    for target, line in module.imports():
        room = room_of(target)
        if room not in known or room in allowed_rooms(module.room):
            continue
        # The one way round: the package offers `Project`, which it imports when it is asked for.
        if module.name == "mlcluster" and room == "cli" and not _is_at_top_level(module, line):
            continue
        yield f"{module.name}:{line}: {module.room or 'the package'} imports {target}"


def _is_at_top_level(module: Module, line: int) -> bool:
    return any(isinstance(node, ast.Import | ast.ImportFrom) and node.lineno == line for node in module.tree.body)


def _wrong_vendors(module: Module) -> Iterator[str]:
    may_use_vendor_modules = module.room == "cli" or module.vendor is not None
    for target, line in module.imports():
        top = target.partition(".")[0]
        if top in VENDORS and module.vendor != top:
            yield f"{module.name}:{line}: {top} in a module that does not bear its name"
        if may_use_vendor_modules or top != "mlcluster":
            continue
        if any(part.startswith(f"{vendor}_") for part in target.split(".")[2:3] for vendor in VENDORS):
            yield f"{module.name}:{line}: imports the vendor module {target}"


@cache
def modules() -> tuple[Module, ...]:
    """Every module of the package, parsed once."""
    return tuple(_parse(path) for path in sorted(PACKAGE.rglob("*.py")) if "templates" not in path.parts)


def _parse(path: Path) -> Module:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    is_package = parts[-1] == "__init__"
    name = ".".join(parts[:-1] if is_package else parts)
    return Module(name=name, tree=ast.parse(path.read_text(), filename=str(path)), is_package=is_package)


def synthetic(name: str, source: str, *, is_package: bool = False) -> Module:
    return Module(name=name, tree=ast.parse(source), is_package=is_package)


def test_every_module_keeps_the_rules() -> None:
    assert len(modules()) > 40
    assert [line for module in modules() for line in violations(module)] == []


def test_every_room_of_the_design_is_a_package_and_nothing_else_is() -> None:
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert packages == {*ROOMS, *CROSS_CUTTING, "cli"}


@pytest.mark.parametrize(
    ("name", "source", "complaint"),
    [
        ("mlcluster.data.table", "from mlcluster.serve import Predictor", "data imports mlcluster.serve"),
        ("mlcluster.data.table", "import mlcluster.tune.study", "data imports mlcluster.tune.study"),
        ("mlcluster.data.table", "from mlcluster import tune", "data imports mlcluster.tune"),
        ("mlcluster.data.table", "from ..tune import Study", "data imports mlcluster.tune"),
        ("mlcluster.data.table", "from .. import tune", "data imports mlcluster.tune"),
        ("mlcluster.data.table", "def late():\n    import mlcluster.serve", ":2: data imports mlcluster.serve"),
        ("mlcluster.train.learner", "from mlcluster.search import Candidate", "train imports mlcluster.search"),
        ("mlcluster.search.rungs", "from mlcluster.train import FAMILIES", "search imports mlcluster.train"),
        ("mlcluster.cost.ledger", "from mlcluster.tune import Study", "cost imports mlcluster.tune"),
        ("mlcluster.tracking.log", "from mlcluster.cost import Ledger", "tracking imports mlcluster.cost"),
        ("mlcluster.update.policy", "from mlcluster.cli.main import main", "update imports mlcluster.cli.main"),
        ("mlcluster.errors", "from mlcluster.spec import ProjectSpec", "errors imports mlcluster.spec"),
        ("mlcluster", "from mlcluster.cli.project import Project", "the package imports mlcluster.cli.project"),
        ("mlcluster.tune.study", "import ray", "ray in a module that does not bear its name"),
        ("mlcluster.tune.ray_study", "import optuna", "optuna in a module that does not bear its name"),
        ("mlcluster.cli.run", "from ray import serve", "ray in a module that does not bear its name"),
        ("mlcluster.cli.run", "def late():\n    import mlflow.tracking", ":2: mlflow in a module"),
        ("mlcluster.tune.study", "from mlcluster.tune.ray_study import run", "imports the vendor module"),
        ("mlcluster.tune.study", "from mlcluster.tune import ray_study", "imports the vendor module"),
        ("mlcluster.cost.ledger", "print('spent')", "print outside cli"),
    ],
)
def test_the_checker_finds_each_kind_of_breach(name: str, source: str, complaint: str) -> None:
    found = violations(synthetic(name, source))
    assert any(complaint in line for line in found), found


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("mlcluster.cluster.plan", "from mlcluster.cost import PriceBook"),
        ("mlcluster.tune.study", "from mlcluster.cost import Ledger\nfrom mlcluster.train import Segment"),
        ("mlcluster.tune.ray_study", "from ray import tune\nimport ray.serve"),
        ("mlcluster.cli.main", "from mlcluster.tune.ray_study import run\nprint('done')"),
        ("mlcluster", "def __getattr__(name):\n    from mlcluster.cli.project import Project"),
        ("mlcluster.data.ray_engine", "import raylib\nfrom mlcluster.errors import DataError"),
    ],
)
def test_the_checker_lets_what_is_allowed_pass(name: str, source: str) -> None:
    assert violations(synthetic(name, source)) == []


def test_a_relative_import_in_a_door_is_resolved_from_the_room() -> None:
    door = synthetic("mlcluster.data", "from . import schema\nfrom .. import tune", is_package=True)
    assert violations(door) == ["mlcluster.data:2: data imports mlcluster.tune"]


def test_importing_the_rooms_loads_no_vendor_and_nothing_that_trains_and_leaves_nothing_behind(tmp_path: Path) -> None:
    doors = [f"mlcluster.{room}" for room in (*ROOMS, *CROSS_CUTTING)]
    script = f"""
import logging, os, sys, threading
before = dict(os.environ)
import mlcluster, {", ".join(doors)}
vendors = sorted(name for name in sys.modules if name in {VENDORS!r})
assert not vendors, f"imported {{vendors}}"
trainers = sorted(name for name in sys.modules if name in {TRAINERS!r})
assert not trainers, f"imported {{trainers}}"
assert not logging.getLogger().handlers, "a log handler was added"
assert not logging.getLogger("mlcluster").handlers, "a log handler was added"
assert threading.active_count() == 1, "a thread was started"
assert not os.listdir(), f"{{os.listdir()}} were written"
set_by_us = {{key for key in os.environ.keys() - before.keys() if not key.startswith("KMP_")}}
assert not set_by_us, f"{{set_by_us}} were set"
"""
    # A home apart from the working folder: ONNX Runtime keeps an identifier of the device under ~/.cache.
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    environment = {"PYTHONPATH": str(PACKAGE.parent), "PATH": "/usr/bin:/bin", "HOME": str(home)}
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=here,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert result.returncode == 0, result.stderr
