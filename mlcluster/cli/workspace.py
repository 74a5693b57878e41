"""Where a project keeps what it made: one folder, one subfolder a run.

    .mlcluster/
        runs/0001-1f2e3d4c5b6a/   run.json, ledger-1.jsonl, nodes-1.jsonl, snapshot/, study/, bundle/, ...
        predictions/              what was answered (Parquet), and labels that came for it
        sources/                  what was fetched and joined; may be removed while nothing runs
        catalog.jsonl             the versions that were seen of each source
        ray/                      token and state of the local Ray

It lies beside the project file. A job on a cluster runs in a copy of its working directory that does not outlive it:
there, and wherever MLCLUSTER_HOME is set, the folder is $MLCLUSTER_HOME/<project>, by default ~/.mlcluster/<project>.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlcluster.errors import ClusterError, SpecError

HOME_VARIABLE = "MLCLUSTER_HOME"


@dataclass(frozen=True, kw_only=True, slots=True)
class Workspace:
    """The folder of one project."""

    root: Path

    @classmethod
    def of(cls, project_folder: Path, project: str) -> Workspace:
        """The workspace of the project whose file lies in `project_folder`."""
        home = workspaces_home()
        return cls(root=home / project if home else project_folder / ".mlcluster")

    @property
    def predictions(self) -> Path:
        return self.root / "predictions"

    @property
    def sources(self) -> Path:
        return self.root / "sources"

    @property
    def catalog_file(self) -> Path:
        return self.root / "catalog.jsonl"

    @property
    def ray(self) -> Path:
        return self.root / "ray"

    @property
    def endpoint_file(self) -> Path:
        return self.root / "endpoint.json"

    def resolve_tracking(self, uri: str) -> str:
        """The tracking URI, a relative SQLite file made absolute: beside the workspace, wherever a job runs."""
        prefix = "sqlite:///"
        if not uri.startswith(prefix) or uri.startswith(prefix + "/"):
            return uri
        base = self.root if workspaces_home() else self.root.parent
        return f"{prefix}{(base / uri[len(prefix) :]).resolve()}"

    def has_tracking(self, uri: str) -> bool:
        """Whether the tracking store is there: a SQLite file would be made by whoever looks into it."""
        uri = self.resolve_tracking(uri)
        return not uri.startswith("sqlite:") or Path(uri.removeprefix("sqlite:///")).exists()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Held while a command changes the workspace.

        Raises:
            ClusterError: another command holds it.
        """
        import fcntl

        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.root / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ClusterError(
                    f"{self.root.name} is in use by another mlcluster command of this project; wait for it to end."
                ) from error
            yield

    def runs(self) -> list[RunFolder]:
        """All runs, oldest first."""
        folder = self.root / "runs"
        return [RunFolder(path=path) for path in sorted(folder.iterdir())] if folder.is_dir() else []

    def latest_run(self) -> RunFolder:
        """The newest run.

        Raises:
            SpecError: there is none yet.
        """
        runs = self.runs()
        if not runs:
            raise SpecError("this project has no run yet; start one with `mlcluster run` or `mlcluster tune`.")
        return runs[-1]

    def find_run(self, key: str, *, name: str | None = None) -> RunFolder | None:
        """The run of this `name`, whatever its key; without one the newest if it is of the same `key`."""
        runs = self.runs()
        if name is not None:
            return next((run for run in runs if run.name == name), None)
        return runs[-1] if runs and runs[-1].key == key else None

    def open_run(self, key: str, *, fresh: bool, name: str | None = None) -> RunFolder:
        """The run that `find_run` finds, else a new one.

        Raises:
            SpecError: the name is that of a run of another key, or `fresh` asks for a second one of it.
        """
        found = self.find_run(key, name=name)
        if found is not None and name is not None:
            _check_same(found, key, fresh=fresh)
        if found is not None and not fresh:
            return found
        number = 1 + max((run.number for run in self.runs()), default=0)
        run = RunFolder(path=self.root / "runs" / f"{number:04d}-{key}")
        run.path.mkdir(mode=0o700, parents=True)
        if name is not None:
            run.update(name=name)
        return run


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFolder:
    """One run: what each stage gave, as files, so that the next command can go on from it."""

    path: Path

    @property
    def run_id(self) -> str:
        return self.path.name

    @property
    def number(self) -> int:
        return int(self.path.name.partition("-")[0])

    @property
    def key(self) -> str:
        return self.path.name.partition("-")[2]

    @property
    def name(self) -> str | None:
        """What its user called it; None where it was given no name."""
        return self.state().get("name")

    @property
    def snapshot(self) -> Path:
        return self.path / "snapshot"

    @property
    def profile_page(self) -> Path:
        """The data's profile for people; `profile.json` beside it is for programs."""
        return self.path / "profile.html"

    @property
    def time_gap(self) -> Path:
        """What a split at random would have promised, where the split is by time."""
        return self.path / "time_gap.json"

    @property
    def label_audit(self) -> Path:
        return self.path / "label_audit.json"

    @property
    def study(self) -> Path:
        return self.path / "study"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    def bundle(self, version: str) -> Path:
        return self.path / f"bundle-{version}"

    def ledger_path(self) -> Path:
        """Of the attempt that is going on: a run that was finished begins a new one when it is asked for again."""
        return self.path / f"ledger-{self.state().get('attempt', 1)}.jsonl"

    def node_log_path(self) -> Path:
        """What the attempt that is going on has seen of its cluster's nodes; on a local Ray there is none."""
        return self.path / f"nodes-{self.state().get('attempt', 1)}.jsonl"

    def state(self) -> dict[str, Any]:
        """What the stages have left so far; empty at first."""
        path = self.path / "run.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def update(self, **changes: Any) -> None:
        """Adds to the state, whole or not at all."""
        write_json(self.path / "run.json", {**self.state(), **changes})


def _check_same(named: RunFolder, key: str, *, fresh: bool) -> None:
    if fresh:
        raise SpecError(f"--name = {named.name} is the name of run {named.run_id}; give the --fresh one another name.")
    if named.key != key:
        raise SpecError(
            f"--name = {named.name} is the name of run {named.run_id}, whose data, models, search, prices or seed are "
            "others; give another name, or ask for what that run was asked for."
        )


def workspaces_home() -> Path | None:
    """The folder of all workspaces, where they do not lie beside their project files."""
    home = os.environ.get(HOME_VARIABLE)
    if home:
        return Path(home).expanduser()
    return Path.home() / ".mlcluster" if os.environ.get("RAY_ADDRESS") else None


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """See `write_whole`."""
    write_whole(path, json.dumps(value, indent=1))


def write_whole(path: Path, text: str) -> None:
    """0600, and moved into place: a crash leaves the old file or the new one."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    Path(temporary).replace(path)
