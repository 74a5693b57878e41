"""`init`: a project that runs as it is, to be edited into one's own."""

from __future__ import annotations

import json
import re
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import click
import pyarrow as pa
import pyarrow.parquet as pq

from mlcluster.cli.samples import SAMPLES, Sample
from mlcluster.errors import SpecError

_JOBS = {
    "pipeline": ("run", "the whole line: data, search, verification, registry, endpoint"),
    "profile": ("data profile", "a profile of the data"),
    "tune": ("tune", "the search"),
    "verify": ("verify", "the winner against its requirements"),
    "deploy": ("deploy", "the endpoint of the verified winner"),
}

_JOB = '''"""Job: {what}.

    ray job submit --working-dir . -- python jobs/{name}.py --config mlcluster.yaml

The last line of its output is one JSON object; a failed gate fails the job with exit code 3.
"""

import sys
from pathlib import Path

# Python puts a script's folder first on its path, and profile.py would be taken for the standard library's profile.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

from mlcluster.cli.main import main  # noqa: E402

if __name__ == "__main__":
    main([{words}, "--json", *sys.argv[1:]])
'''


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--sample", type=click.Choice(list(SAMPLES)), default="breast-cancer", show_default=True)
@click.option("--force", is_flag=True, help="Write into a folder that is not empty.")
def init(folder: Path, sample: str, force: bool) -> None:
    """Make a project in FOLDER: sample data, project file, jobs/, cluster-configs/ and tests/."""
    project = folder.resolve().name
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,62}", project):
        raise SpecError(f"FOLDER = {project} is no usable project name; use letters, digits, - and _.")
    if not force and folder.exists() and any(folder.iterdir()):
        raise SpecError(f"FOLDER = {folder} is not empty; name a new one, or add --force.")
    (folder / "data").mkdir(parents=True, exist_ok=True)
    chosen = SAMPLES[sample]
    table = chosen.load()
    pq.write_table(table, folder / "data" / chosen.file)
    (folder / "mlcluster.yaml").write_text(_project_file(project, chosen), encoding="utf-8")
    (folder / "request.json").write_text(json.dumps(_request(table, chosen), indent=1) + "\n", encoding="utf-8")
    (folder / ".gitignore").write_text(".mlcluster/\nmlflow.db\nmlruns/\n", encoding="utf-8")
    write_jobs(folder / "jobs")
    for name in ("cluster-configs", "monitoring", "tests"):
        _write_templates(name, folder / name)
    click.echo(f"made {folder}: edit mlcluster.yaml, then `mlcluster plan` and `mlcluster run`")


def write_jobs(folder: Path) -> None:
    """The job scripts, one a stage."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (verb, what) in _JOBS.items():
        words = ", ".join(f'"{word}"' for word in verb.split())
        (folder / f"{name}.py").write_text(_JOB.format(name=name, what=what, words=words), encoding="utf-8")


def _write_templates(name: str, folder: Path) -> None:
    """The files of one of the package's folders of templates, as they are, with those in its own folders."""
    _copy(resources.files("mlcluster.cli") / "templates" / name, folder)


def _copy(source: Traversable, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for entry in source.iterdir():
        if entry.is_file():
            (folder / entry.name).write_text(entry.read_text(encoding="utf-8"), encoding="utf-8")
        elif entry.name != "__pycache__":
            _copy(entry, folder / entry.name)


def _project_file(project: str, sample: Sample) -> str:
    template = (resources.files("mlcluster.cli") / "templates" / "mlcluster.yaml").read_text(encoding="utf-8")
    return template.format(project=project, source=f"data/{sample.file}", target=sample.target, gate=sample.gate)


def _request(table: pa.Table, sample: Sample) -> dict[str, object]:
    """The first row as a request of the Open Inference Protocol."""
    inputs = [
        {"name": name, "shape": [1, 1], "datatype": "FP64", "data": [table[name][0].as_py()]}
        for name in table.column_names
        if name != sample.target
    ]
    return {"inputs": inputs}
