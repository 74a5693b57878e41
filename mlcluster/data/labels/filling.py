"""Labels from people and from functions, put into the source in place of targets that it lacks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from mlcluster.data.findings import Finding
from mlcluster.data.labels.functions import apply_functions, load_functions
from mlcluster.data.labels.label_model import MIN_KNOWN, LabelModel, fit_label_model
from mlcluster.data.labels.pool import Pool, pool_of
from mlcluster.data.labels.settling import Settled, known_codes, read_answers, settle
from mlcluster.data.labels.votes import ABSTAINED, Codes, FloatArray
from mlcluster.data.schema import Label
from mlcluster.data.source import FilledTarget, Source, SourceFile, read_block
from mlcluster.errors import DataError
from mlcluster.spec import DataSpec


def run_functions(pool: Pool, known: Codes, *, base: Path) -> LabelModel:
    """What the label functions of the project say about every row; `known` (n,) are the labels that hold.

    Raises:
        DataError: there are none, one of them fails, or the target is a quantity.
    """
    file = pool.spec.labels.functions
    if file is None:
        raise DataError("data.labels.functions = null names no file; write label functions and name their file there.")
    if pool.target.task == "regression":
        raise DataError(f"data.labels.functions = {file} label classes, but {pool.target.name} is a quantity; drop it.")
    functions = load_functions(base / file)
    schema = pool.source.schema
    codes = np.concatenate(
        [apply_functions(functions, read_block(block, schema), pool.target) for block in pool.source.blocks]
    )
    names = tuple(function.name for function in functions)
    return fit_label_model(codes, names=names, num_classes=len(pool.target.classes), known=known, priors=_priors(pool))


def read_labelled_source(spec: DataSpec, source: Source, *, base: Path) -> tuple[Source, list[Finding]]:
    """`source` with the labels that it lacks and that `data.labels` has, and what is to be said of them.

    Without any, the source as it is, at no cost. With some, all of it is read once more.

    Raises:
        DataError: the data is unreadable, or a label does not fit it.
    """
    labels = spec.labels
    if labels.votes is None and labels.fill_above is None and not (base / labels.store).exists():
        return source, []
    pool = pool_of(spec, source)
    settled = settle(read_answers(pool, base=base), pool)
    people = {row: label for row, label in settled.labels.items() if pool.given[row] == ABSTAINED}
    weak = _weak_labels(pool, settled, base=base)
    findings = []
    if people or weak:
        message = (
            f"{pool.target.name} is filled in from answers in {len(people)} rows, and in up to {len(weak)} train rows "
            "from label functions."
        )
        value = float(len(people) + len(weak))
        findings.append(
            Finding(kind="labels_filled", column=pool.target.name, severity="info", message=message, value=value)
        )
    if settled.num_stale:
        message = f"{settled.num_stale} answers are to rows that the source no longer holds, and are left aside."
        findings.append(Finding(kind="labels_stale", message=message, value=float(settled.num_stale)))
    return _filled_source(pool, people, weak), findings


def _priors(pool: Pool) -> FloatArray | None:
    """`data.labels.class_shares` in the order of the classes, (k,)."""
    shares = pool.spec.labels.class_shares
    if shares is None:
        return None
    by_word = {str(label): share for label, share in shares.items()}
    words = [str(label) for label in pool.target.classes]
    if by_word.keys() != set(words):
        raise DataError(
            f"data.labels.class_shares = {list(by_word)} are not the classes of {pool.target.name}; "
            f"give a share for each of {', '.join(words[:10])}."
        )
    return np.array([by_word[word] for word in words]) / sum(by_word.values())


def _weak_labels(pool: Pool, settled: Settled, *, base: Path) -> dict[int, Label]:
    bound = pool.spec.labels.fill_above
    if bound is None:
        return {}
    known = known_codes(pool, settled)
    num_known = int((known != ABSTAINED).sum())
    if num_known < MIN_KNOWN:
        raise DataError(
            f"data.labels.fill_above = {bound:g} fills in from functions that only {num_known} known labels judge; "
            f"label {MIN_KNOWN} rows or more with `mlcluster data label --next`, or drop fill_above."
        )
    model = run_functions(pool, known, base=base)
    is_sure = model.is_covered & (model.posterior.max(axis=1) >= bound) & (known == ABSTAINED)
    rows = np.flatnonzero(is_sure).tolist()
    return {row: pool.target.classes[int(model.posterior[row].argmax())] for row in rows}


def _filled_source(pool: Pool, people: Mapping[int, Label], weak: Mapping[int, Label]) -> Source:
    labels = dict(sorted(({**people, **weak}).items()))
    if not labels:
        return pool.source
    rows = np.array(list(labels), dtype=np.int64)
    kind = pool.source.schema.field(pool.target.name).type
    blocks = list(pool.source.blocks)
    places = np.searchsorted(pool.starts, rows, side="right") - 1
    for number in np.unique(places).tolist():
        here = rows[places == number].tolist()
        start = int(pool.starts[number])
        blocks[number] = replace(
            blocks[number],
            filled=FilledTarget(
                column=pool.target.name,
                rows=tuple(row - start for row in here),
                values=pa.array([labels[row] for row in here], type=kind),
                weak_rows=frozenset(row - start for row in here if row in weak),
            ),
        )
    # The labels are a part of what is learned from, like a file of the source.
    text = repr([(row, label, row in weak) for row, label in labels.items()])
    part = SourceFile(name="labels", size_bytes=len(text), sha256=hashlib.sha256(text.encode()).hexdigest())
    return replace(pool.source, blocks=tuple(blocks), files=(*pool.source.files, part))
