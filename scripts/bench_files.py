"""What benchmarks of many runs share: a file of results that can be gone on with, how it was made, and a picture."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from mlcluster.errors import DataError

Document = TypeVar("Document")


def provenance(script: str, packages: Sequence[str]) -> dict[str, Any]:
    """The command that makes the file again, and versions; it names no machine and no folder of one."""
    words = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
    versions = {"python": platform.python_version()}
    for package in packages:
        versions[package] = importlib.metadata.version(package)
    return {"command": shlex.join([f"scripts/{script}", *words]), "versions": versions}


def write_document(file: Path, parts: Mapping[str, Any], runs: Iterable[Mapping[str, Any]]) -> None:
    """As JSON with a part and a run a line. The file is whole at any time, so that a long job may be ended."""
    heads = "".join(f"{json.dumps(name)}: {json.dumps(part)},\n" for name, part in parts.items())
    lines = ",\n".join(json.dumps(run) for run in runs)
    beside = file.with_name(f"{file.name}.part")
    beside.write_text(f'{{{heads}"runs": [\n{lines}\n]}}\n')
    beside.replace(file)


def read_document(file: Path, parse: Callable[[Mapping[str, Any]], Document]) -> Document:
    """What `write_document` wrote, parsed.

    Raises:
        DataError: the file is missing or something else.
    """
    try:
        return parse(json.loads(file.read_text()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} is no file of results: {error!r}; give one that --out has written.") from error


@contextmanager
def panels(
    file: Path, num_panels: int, *, a_row: int, panel_inches: tuple[float, float], below: str
) -> Iterator[list[Any]]:
    """Axes to draw on; then a legend of the first above, a label below, and the file, whose name says which format."""
    import matplotlib as mpl

    mpl.use("agg")
    mpl.rcParams["svg.hashsalt"] = "mlcluster"  # two drawings of the same results are the same file
    from matplotlib import pyplot as plt

    num_columns = min(a_row, num_panels)
    num_rows = -(-num_panels // num_columns)
    width, height = panel_inches
    figure, axes = plt.subplots(
        num_rows,
        num_columns,
        figsize=(width * num_columns, height * num_rows + 0.6),
        squeeze=False,
        layout="constrained",
    )
    yield list(axes.flat[:num_panels])
    for axis in axes.flat[num_panels:]:
        axis.set_axis_off()
    figure.supxlabel(below, fontsize=9)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(8, len(labels)), frameon=False, fontsize=8)
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None, dpi=150)
    plt.close(figure)


def say(line: str) -> None:
    """Progress, beside the tables on stdout."""
    print(line, file=sys.stderr, flush=True)
