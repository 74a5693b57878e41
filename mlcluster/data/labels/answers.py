"""Answers that people gave: read from what they filled in, checked, and kept in one file beside the project."""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mlcluster.data.schema import Label, TargetColumn
from mlcluster.errors import DataError

_MARK = {b"mlcluster.answers": b"1"}
_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("row_id", pa.string()),
        ("label", pa.string()),
        ("annotator", pa.string()),
        ("given_at", pa.string()),
    ],
    metadata=_MARK,
)
_SHOWN_PROBLEMS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One label that one annotator gave to one row of the source."""

    row: int
    """From 0, over all files of the source in order."""
    row_id: str
    """A hash of what the row holds: the answer is to that, wherever the row stands."""
    label: str
    annotator: str
    given_at: str
    """ISO 8601, or empty where it is not known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Merged:
    """A store with new answers in it."""

    answers: tuple[Answer, ...]
    num_added: int
    num_repeated: int
    """Given before, by the same annotator, with the same label."""
    num_replaced: int


def read_store(path: Path) -> tuple[Answer, ...]:
    """The answers that are there; none where there is no file.

    Raises:
        DataError: the file is something else, or damaged.
    """
    if not path.exists():
        return ()
    try:
        table = pq.read_table(path, partitioning=None)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).split("\n", maxsplit=1)[0][:120]
        raise DataError(f"data.labels.store = {path.name} cannot be read ({reason}); restore the file.") from error
    if _MARK.keys() - (table.schema.metadata or {}).keys():
        raise DataError(f"data.labels.store = {path.name} is no store of answers; name another file.")
    return tuple(Answer(**record) for record in table.to_pylist())


def write_store(path: Path, answers: Sequence[Answer]) -> None:
    """Writes all answers; the file is the old one or the new one at any moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    os.close(handle)
    unfinished = Path(name)
    try:
        pq.write_table(pa.Table.from_pylist([asdict(answer) for answer in answers], schema=_SCHEMA), unfinished)
        unfinished.chmod(0o644)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def store_lock(path: Path) -> Iterator[None]:
    """Held while answers are added: of two people who add at once, the second waits and sees what the first added."""
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / f".{path.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def merge_answers(kept: Sequence[Answer], new: Sequence[Answer], *, may_replace: bool = False) -> Merged:
    """The store with `new` in it: all of them, or none where one contradicts what its annotator said before.

    Raises:
        DataError: an annotator has given another label to a row before, in the store or in `new` itself.
    """
    by_place = {(answer.row_id, answer.row, answer.annotator): answer for answer in kept}
    told: dict[tuple[str, int, str], Answer] = {}
    counts = {"added": 0, "repeated": 0, "replaced": 0}
    problems = []
    for answer in new:
        place = (answer.row_id, answer.row, answer.annotator)
        before = told.get(place) or by_place.get(place)
        if before is None:
            counts["added"] += 1
        elif before.label == answer.label:
            counts["repeated"] += 1
            continue
        elif may_replace and place not in told:
            counts["replaced"] += 1
        else:
            problems.append(f"row {answer.row}: {answer.annotator} said {before.label!r}, and now {answer.label!r}")
        told[place] = answer
    if problems:
        raise DataError(
            f"answers = {listed(problems)} contradict earlier ones; nothing was added: correct them, or give --replace."
        )
    return Merged(
        answers=tuple((by_place | told).values()),
        num_added=counts["added"],
        num_repeated=counts["repeated"],
        num_replaced=counts["replaced"],
    )


def read_records(path: Path, *, key: str) -> list[dict[str, str]]:
    """The rows of a CSV or Parquet file as text, empty for missing; `key` is what messages call the file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        if path.suffix in (".parquet", ".pq"):
            rows = pq.read_table(path, partitioning=None).to_pylist()
            return [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows]
        with path.open(encoding="utf-8-sig", newline="") as file:
            return [
                {name: (value or "").strip() for name, value in row.items() if name is not None}
                for row in csv.DictReader(file)
            ]
    except (OSError, pa.ArrowException, UnicodeError, csv.Error) as error:
        reason = str(error).split("\n", maxsplit=1)[0][:120]
        raise DataError(f"{key} = {path.name} cannot be read ({reason}); give a CSV or Parquet file.") from error


def parse_label(text: str, target: TargetColumn) -> Label | None:
    """The class, or the number, that was written; None where it is none."""
    if target.task == "regression":
        try:
            value = float(text)
        except ValueError:
            return None
        return value if abs(value) < float("inf") else None
    words, word = label_words(target), text.strip()
    return words.get(word, words.get(word.lower()))


def label_words(target: TargetColumn) -> Mapping[str, Label]:
    """How each class is written."""
    words: dict[str, Label] = {}
    for label in target.classes:
        words[str(label)] = label
        if isinstance(label, bool):
            words[str(label).lower()] = label
        if isinstance(label, float) and label.is_integer():
            words[str(int(label))] = label
    return words


def named(answers: Sequence[Answer], annotator: str) -> tuple[Answer, ...]:
    """The answers, those without an annotator under this name."""
    return tuple(answer if answer.annotator else replace(answer, annotator=annotator) for answer in answers)


def listed(problems: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    more = len(problems) - _SHOWN_PROBLEMS
    return "; ".join(problems[:_SHOWN_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")
