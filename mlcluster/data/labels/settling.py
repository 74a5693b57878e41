"""From many answers to one label a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlcluster.data.labels.answers import Answer, listed, parse_label, read_records, read_store
from mlcluster.data.labels.consensus import dawid_skene
from mlcluster.data.labels.pool import Pool
from mlcluster.data.labels.votes import ABSTAINED, Codes, FloatArray, Votes
from mlcluster.data.schema import Label
from mlcluster.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What people have said, and what follows from it."""

    labels: Mapping[int, Label]
    """By row of the source."""
    votes: Votes | None
    """One item a row of `labels`, in its order; None for a quantity."""
    annotators: tuple[str, ...]
    accuracies: FloatArray
    """(m,): how often each annotator is right, by the consensus; NaN for a quantity."""
    num_stale: int
    """Answers to rows that the source no longer holds."""


def settle(answers: Sequence[Answer], pool: Pool) -> Settled:
    """One label a row: where annotators share rows, the consensus of Dawid and Skene; of a quantity, the median."""
    placed = [(_place(answer, pool), answer) for answer in answers]
    there = [(row, answer) for row, answer in placed if row is not None]
    rows = list(dict.fromkeys(row for row, _ in there))
    annotators = tuple(sorted({answer.annotator for _, answer in there}))
    given = [parse_label(answer.label, pool.target) for _, answer in there]
    strange = [
        f"{answer.label!r} in row {row}" for (row, answer), label in zip(there, given, strict=True) if label is None
    ]
    if strange:
        raise DataError(
            f"data.labels.store = {listed(strange)} is no class of {pool.target.name}; "
            "list it under data.labels.classes."
        )
    item_of = {row: item for item, row in enumerate(rows)}
    num_stale = len(placed) - len(there)
    if pool.target.task == "regression":
        numbers: dict[int, list[float]] = {}
        for (row, _), value in zip(there, given, strict=True):
            numbers.setdefault(row, []).append(float(value or 0.0))
        medians: dict[int, Label] = {row: float(np.median(values)) for row, values in numbers.items()}
        nothing = np.full(len(annotators), np.nan)
        return Settled(labels=medians, votes=None, annotators=annotators, accuracies=nothing, num_stale=num_stale)
    code_of = {label: code for code, label in enumerate(pool.target.classes)}
    votes = Votes(
        items=np.array([item_of[row] for row, _ in there], dtype=np.int64),
        voters=np.array([annotators.index(answer.annotator) for _, answer in there], dtype=np.int64),
        labels=np.array([code_of[label] for label in given if label is not None], dtype=np.int64),
        num_items=len(rows),
        num_voters=len(annotators),
        num_classes=len(pool.target.classes),
    )
    consensus = dawid_skene(votes) if rows else None
    best = consensus.posterior.argmax(axis=1).tolist() if consensus is not None else []
    # Without rows in common nothing tells annotators apart, and a row's only answer stands.
    if len(set(votes.items.tolist())) == len(votes.items):
        best = votes.labels[np.argsort(votes.items)].tolist()
    return Settled(
        labels={row: pool.target.classes[code] for row, code in zip(rows, best, strict=True)},
        votes=votes,
        annotators=annotators,
        accuracies=consensus.accuracies if consensus is not None else np.zeros(0),
        num_stale=num_stale,
    )


def known_codes(pool: Pool, settled: Settled) -> Codes:
    """The class of every row that has one, from the source or else from answers, (n,); a quantity has class 0."""
    codes = pool.given.copy()
    code_of = {label: code for code, label in enumerate(pool.target.classes)}
    for row, label in settled.labels.items():
        if codes[row] == ABSTAINED:
            codes[row] = code_of.get(label, 0)
    return codes


def read_answers(pool: Pool, *, base: Path) -> tuple[Answer, ...]:
    """The answers of the store and of `data.labels.votes`.

    Raises:
        DataError: a file cannot be read, or a vote is for no row or of no class.
    """
    spec = pool.spec.labels
    answers = read_store(base / spec.store)
    if spec.votes is None:
        return answers
    records = read_records(base / spec.votes, key="data.labels.votes")
    return (*answers, *answers_of(records, pool, source=f"data.labels.votes = {spec.votes}"))


def answers_of(
    records: Sequence[Mapping[str, str]], pool: Pool, *, source: str, given_at: str = ""
) -> tuple[Answer, ...]:
    """Filled-in rows as answers; rows without a label are passed over. `source` is what messages call the file.

    A row is named by its number under `row`, or by its key under `key` or the name of `data.key`.

    Raises:
        DataError: the file lacks a column, or a row, a class or a key is unknown; all of it is refused.
    """
    names = set(records[0]) if records else {"row", "label"}
    naming = next((name for name in ("row", pool.spec.key, "key") if name is not None and name in names), None)
    if naming is None or "label" not in names:
        keys = f", or {pool.spec.key}," if pool.spec.key else ""
        raise DataError(f"{source} lacks a column; it needs row{keys} and label, and may have annotator.")
    answers, problems = [], []
    for number, record in enumerate(records, start=2):
        text = record["label"]
        if not text:
            continue
        row = _row_named(record[naming], pool, by_key=naming != "row")
        if isinstance(row, str):
            problems.append(f"line {number}: {row}")
        elif parse_label(text, pool.target) is None:
            problems.append(f"line {number}: label {text!r} is {_wanted(pool)}")
        elif record.get("row_id") not in (None, "", pool.row_id(row)):
            problems.append(f"line {number}: row {row} holds other values than when it was asked about")
        else:
            label = str(parse_label(text, pool.target))
            annotator = record.get("annotator", "")
            answers.append(
                Answer(row=row, row_id=pool.row_id(row), label=label, annotator=annotator, given_at=given_at)
            )
    if problems:
        raise DataError(f"{source} has answers that do not fit ({listed(problems)}); nothing was added: correct them.")
    return tuple(answers)


def _place(answer: Answer, pool: Pool) -> int | None:
    """The row that was answered: where it stood, or where the only row that holds the same stands now."""
    if answer.row < pool.num_rows and pool.row_id(answer.row) == answer.row_id:
        return answer.row
    found = np.flatnonzero(pool.row_ids == np.uint64(int(answer.row_id, 16)))
    return int(found[0]) if len(found) == 1 else None


def _row_named(text: str, pool: Pool, *, by_key: bool) -> int | str:
    """The row, or what is wrong with its name."""
    if by_key:
        if text not in pool.rows_by_key:
            return f"{text!r} is no {pool.spec.key or 'key (data.key names none)'}"
        row = pool.rows_by_key[text]
        return row if row is not None else f"{pool.spec.key} {text!r} stands in several rows; name it by row"
    if not text.isdecimal() or int(text) >= pool.num_rows:
        return f"row {text!r} is none of 0 to {pool.num_rows - 1}"
    return int(text)


def _wanted(pool: Pool) -> str:
    if pool.target.task == "regression":
        return "no number"
    return "no class; use one of " + ", ".join(map(str, pool.target.classes[:10]))


def count_labels(settled: Settled) -> Mapping[str, int]:
    """Rows by label, the most frequent first."""
    return dict(Counter(str(label) for label in settled.labels.values()).most_common())
