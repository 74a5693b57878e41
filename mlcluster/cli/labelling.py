"""The work of labelling a project's rows: ask, take in, say where it stands, look for what is wrong."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlcluster.cli.labelling_models import learn_and_ask, out_of_fold
from mlcluster.data.images import PNG, read_header
from mlcluster.data.labels import (
    ABSTAINED,
    MIN_KNOWN,
    Choice,
    Pool,
    Settled,
    answers_of,
    audit_labels,
    choose_rows,
    cohen_kappas,
    count_labels,
    describe_suspects,
    known_codes,
    krippendorff_alpha,
    merge_answers,
    named,
    read_answers,
    read_pool,
    read_records,
    read_store,
    run_functions,
    settle,
    store_lock,
    write_store,
)
from mlcluster.errors import DataError, SpecError
from mlcluster.spec import DataSpec

# More rows than these are sampled, by the seed: neither more candidates nor more lessons make the queue better.
_MAX_CANDIDATES = 100_000
_MAX_LESSONS = 20_000
_MAX_AUDITED = 100_000
# Below, a model of the labels says less than their number does.
_MIN_LESSONS = 10

_OWN_COLUMNS = ("row", "row_id", "label", "annotator", "reason")

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Labelling:
    """One project's labels. `folder` is where the project file lies."""

    spec: DataSpec
    folder: Path
    seed: int = 0

    def ask(self, count: int, file: Path) -> dict[str, Any]:
        """Writes the `count` rows that are worth asking about next to a CSV file: the same until there are answers.

        Raises:
            DataError: the budget does not hold as many, no row is without a label, or `file` holds answers that were
                not taken in yet.
        """
        left = self._budget()["left"]
        if left is not None and count > left:
            fix = f"ask for {left}, or raise the budget" if left else "raise the budget"
            raise DataError(
                f"--next = {count} is more than the {left} answers that data.labels.budget = "
                f"{self.spec.labels.budget} leaves; {fix}."
            )
        self._keep_unread_answers(file)
        rows, choices = self._choose(count)
        if not choices:
            raise DataError(f"data.target = {self.spec.target} has a label in every row; there is nothing to ask.")
        _write_queue(file, self._pool, rows[[choice.place for choice in choices]], choices)
        return {
            "file": str(file),
            "asked": len(choices),
            "rows": [int(rows[choice.place]) for choice in choices],
            "by_model": choices[0].margin is not None,
            "budget": self._budget(),
        }

    def add(self, file: Path, *, annotator: str, may_replace: bool = False) -> dict[str, Any]:
        """Takes the answers of a filled-in queue into the store: all of them, or none.

        Raises:
            DataError: the file cannot be read, or an answer is for no row, of no class, or contradicts another.
        """
        records = read_records(file, key="--add")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        answers = named(answers_of(records, self._pool, source=f"--add = {file.name}", given_at=now), annotator)
        store = self.folder / self.spec.labels.store
        with store_lock(store):
            merged = merge_answers(read_store(store), answers, may_replace=may_replace)
            write_store(store, merged.answers)
        budget = self.spec.labels.budget
        return {
            "store": self.spec.labels.store,
            "added": merged.num_added,
            "repeated": merged.num_repeated,
            "replaced": merged.num_replaced,
            "unanswered": len(records) - len(answers),
            "answers": len(merged.answers),
            "budget": {"given": budget, "left": None if budget is None else max(0, budget - len(merged.answers))},
        }

    def status(self) -> dict[str, Any]:
        """Rows and answers, how far annotators agree, and what is left of the budget."""
        pool, settled = self._pool, self._settled
        is_open = pool.given == ABSTAINED
        answered = sum(1 for row in settled.labels if is_open[row])
        return {
            "target": pool.target.name,
            "task": pool.target.task,
            "classes": list(pool.target.classes),
            "rows": pool.num_rows,
            "labelled_by_source": int((~is_open).sum()),
            "labelled_by_answers": answered,
            "unlabelled": int(is_open.sum()) - answered,
            "answers": len(self._answers),
            "stale_answers": settled.num_stale,
            "by_label": count_labels(settled) if pool.target.classes else {},
            "agreement": _agreement(settled),
            "budget": self._budget(),
        }

    def audit(self, *, limit: int) -> dict[str, Any]:
        """Labels that are probably wrong, the most doubtful first, by rows of the source.

        Raises:
            DataError: the target is a quantity, or there are too few labels.
        """
        pool = self._pool
        if pool.target.task == "regression":
            raise DataError(
                f"data.target = {pool.target.name} is a quantity, and the audit is of classes; use a screen."
            )
        codes = self._codes
        rng = np.random.default_rng(self.seed)
        rows = _sample(np.flatnonzero(codes != ABSTAINED), _MAX_AUDITED, rng)
        classes = pool.target.classes
        if len(rows) < 50 or np.bincount(codes[rows], minlength=len(classes)).max() == len(rows):
            raise DataError(f"data.target = {pool.target.name} has {len(rows)} labels, too few to audit; label more.")
        features = pool.matrices(rows)["ordinal"]
        probabilities = out_of_fold(features, codes[rows], num_classes=len(classes), seed=self.seed)
        found = audit_labels(codes[rows], probabilities)
        return {
            "audited": len(rows),
            "suspects": found.num_suspects,
            "wrong_share": found.wrong_share,
            "rows": describe_suspects(found, codes[rows], classes, rows=rows, limit=limit),
        }

    def functions(self) -> dict[str, Any]:
        """What each label function covers, and how good it is.

        Raises:
            DataError: there are no functions, or one of them fails.
        """
        model = run_functions(self._pool, self._codes, base=self.folder)
        bound = self.spec.labels.fill_above
        best = model.posterior.max(axis=1)
        is_sure = model.is_covered & (best >= (bound or 0.9)) & (self._codes == ABSTAINED)
        return {
            "rows": self._pool.num_rows,
            "covered": int(model.is_covered.sum()),
            "known": int((self._codes != ABSTAINED).sum()),
            "judged_from": MIN_KNOWN,
            "has_class_shares": self.spec.labels.class_shares is not None,
            "fill_above": bound,
            "would_fill": int(is_sure.sum()),
            "functions": [function.to_json() for function in model.functions],
        }

    @cached_property
    def _pool(self) -> Pool:
        return read_pool(self.spec, base=self.folder)

    @cached_property
    def _stored(self) -> tuple[Any, ...]:
        return read_store(self.folder / self.spec.labels.store)

    @cached_property
    def _answers(self) -> tuple[Any, ...]:
        return read_answers(self._pool, base=self.folder)

    @cached_property
    def _settled(self) -> Settled:
        return settle(self._answers, self._pool)

    def _budget(self) -> dict[str, int | None]:
        given = self.spec.labels.budget
        return {"given": given, "left": None if given is None else max(0, given - len(self._stored))}

    @cached_property
    def _codes(self) -> Rows:
        return known_codes(self._pool, self._settled)

    def _choose(self, count: int) -> tuple[Rows, list[Choice]]:
        """The candidates, and which of them are asked about."""
        codes, rng = self._codes, np.random.default_rng(self.seed)
        candidates = _sample(np.flatnonzero(codes == ABSTAINED), _MAX_CANDIDATES, rng)
        lessons = _sample(np.flatnonzero(codes != ABSTAINED), _MAX_LESSONS, rng)
        matrices = self._pool.matrices(np.concatenate([candidates, lessons]))
        num_classes, probabilities = len(self._pool.target.classes), None
        if num_classes and len(lessons) >= _MIN_LESSONS and len(np.unique(codes[lessons])) > 1:
            known, asked = matrices["ordinal"][len(candidates) :], matrices["ordinal"][: len(candidates)]
            if len(asked):
                probabilities = learn_and_ask(known, codes[lessons], asked, num_classes=num_classes, seed=self.seed)
        return candidates, choose_rows(matrices["dense"][: len(candidates)], probabilities, count, rng=rng)

    def _keep_unread_answers(self, file: Path) -> None:
        if not file.exists():
            return
        taken = {(str(answer.row), answer.row_id) for answer in self._stored}
        records = read_records(file, key="--out")
        unread = [one for one in records if one.get("label") and (one.get("row"), one.get("row_id")) not in taken]
        if unread:
            raise SpecError(
                f"--out = {file.name} holds {len(unread)} answers that were not taken in yet; "
                f"take them in with --add {file.name}, or name another file."
            )


def _sample(rows: npt.NDArray[np.intp], most: int, rng: np.random.Generator) -> Rows:
    if len(rows) > most:
        rows = np.sort(rng.choice(rows, most, replace=False))
    return rows.astype(np.int64)


def _agreement(settled: Settled) -> dict[str, Any] | None:
    """Between annotators; None where no two of them labelled the same row."""
    votes = settled.votes
    alpha = krippendorff_alpha(votes) if votes is not None and len(votes.items) else None
    if votes is None or alpha is None:
        return None
    kappas = cohen_kappas(votes)
    pairs = [
        {"annotators": [one, other], "kappa": float(kappas[first, second])}
        for first, one in enumerate(settled.annotators)
        for second, other in enumerate(settled.annotators)
        if first < second and not math.isnan(kappas[first, second])
    ]
    accuracies = dict(zip(settled.annotators, settled.accuracies.tolist(), strict=True))
    return {"krippendorff_alpha": alpha, "cohen_kappa": pairs, "estimated_accuracy": accuracies}


def _cell(value: Any, file: Path, stem: str) -> Any:
    """How the queue shows a value: an image as the path of a file beside the queue, which is written here."""
    if value is None:
        return ""
    if not isinstance(value, bytes) or read_header(value) is None:
        return value
    folder = file.with_name(f"{file.stem}-images")
    folder.mkdir(exist_ok=True)
    path = folder / f"{stem}.{'png' if value.startswith(PNG) else 'jpg'}"
    path.write_bytes(value)
    return f"{folder.name}/{path.name}"


def _write_queue(file: Path, pool: Pool, rows: Rows, choices: list[Choice]) -> None:
    table = pool.take(rows)
    shown = [name for name in table.column_names if name != pool.target.name]
    # A column of the source that is called like one of the queue's own would overwrite it when it is read back.
    headers = [f"{name} (source)" if name in _OWN_COLUMNS else name for name in shown]
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["row", "label", *headers, "reason", "annotator", "row_id"])
        for row, values, choice in zip(rows.tolist(), table.select(shown).to_pylist(), choices, strict=True):
            cells: Mapping[str, Any] = values
            plain = [_cell(cells[name], file, f"{row}-{place}") for place, name in enumerate(shown)]
            writer.writerow([row, "", *plain, choice.reason, "", pool.row_id(row)])
