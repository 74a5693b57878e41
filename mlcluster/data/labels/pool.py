"""The rows of the source as the work of labelling sees them: who has a label, and what each row is called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlcluster.data.chunks import column_partial
from mlcluster.data.columns import check_roles, comparable_columns, plan_features
from mlcluster.data.fit import fit_transform
from mlcluster.data.gather import gather
from mlcluster.data.hashing import HashVector, row_hashes
from mlcluster.data.labels.votes import ABSTAINED, Codes
from mlcluster.data.schema import TableSchema, TargetColumn
from mlcluster.data.source import Source, read_block
from mlcluster.data.statistics import CategoryTally
from mlcluster.data.target import encode_target, infer_task, missing_mask, target_partial
from mlcluster.data.transform import Encoding, Transform
from mlcluster.errors import DataError
from mlcluster.spec import DataSpec


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Every row of the source, n of them."""

    spec: DataSpec
    source: Source
    target: TargetColumn
    given: Codes
    """(n,): the class that the source gives, `ABSTAINED` where it gives none. For a quantity, 0 and `ABSTAINED`."""
    row_ids: HashVector
    """(n,): of what a row holds but for the target."""
    starts: npt.NDArray[np.int64]
    """The number of the first row of each block, and n."""

    @property
    def num_rows(self) -> int:
        return len(self.given)

    def row_id(self, row: int) -> str:
        """The row's hash as 16 hex digits."""
        return f"{int(self.row_ids[row]):016x}"

    @cached_property
    def rows_by_key(self) -> Mapping[str, int | None]:
        """From the text of `data.key` to the row; None for a key of several rows. Empty without a key."""
        found: dict[str, int | None] = {}
        if self.spec.key is None:
            return found
        for block, start in zip(self.source.blocks, self.starts[:-1].tolist(), strict=True):
            keys = read_block(block, self.source.schema, [self.spec.key]).column(0).to_pylist()
            for row, key in enumerate(keys, start):
                found[str(key)] = None if str(key) in found else row
        return found

    def take(self, rows: npt.NDArray[np.int64]) -> pa.Table:
        """These rows of the source, in this order, with all columns."""
        blocks = np.searchsorted(self.starts, rows, side="right") - 1
        tables, places = [], np.empty(len(rows), dtype=np.int64)
        done = 0
        for block in np.unique(blocks).tolist():
            here = np.flatnonzero(blocks == block)
            table = read_block(self.source.blocks[block], self.source.schema)
            tables.append(table.take(pa.array(rows[here] - self.starts[block])))
            places[here] = np.arange(done, done + len(here))
            done += len(here)
        return pa.concat_tables(tables).take(pa.array(places)) if tables else self.source.schema.empty_table()

    def matrices(self, rows: npt.NDArray[np.int64]) -> dict[Encoding, npt.NDArray[np.float32]]:
        """These rows in both encodings, fitted to themselves and not to any target: most rows have none."""
        table = self.take(rows)
        plans, _ = plan_features(self.spec, self.source)
        nothing = CategoryTally(pa.chunked_array([pa.nulls(table.num_rows)]))
        partials = {plan.name: column_partial(table.column(plan.name), plan, nothing) for plan in plans}
        features = tuple(plan.described(partials[plan.name]) for plan in plans if partials[plan.name].count)
        schema = TableSchema(features=features, target=replace(self.target, task="multiclass"))
        transforms: list[Transform] = [fit_transform(schema, partials, name) for name in ("ordinal", "dense")]
        return {transform.encoding: transform.apply(table) for transform in transforms}


def read_pool(spec: DataSpec, *, base: Path) -> Pool:
    """All rows of what `spec` names, joins included.

    Raises:
        DataError: the data is unreadable, or what may be answered is not known.
    """
    return pool_of(spec, gather(spec, base=base).source)


def pool_of(spec: DataSpec, source: Source) -> Pool:
    """All rows of the source.

    Raises:
        DataError: what may be answered is not known.
    """
    source = with_target(source, spec)
    check_roles(spec, source)
    names = [name for name in comparable_columns(source.schema, spec) if name != spec.target]
    columns, row_ids = [], []
    for block in source.blocks:
        table = read_block(block, source.schema)
        columns.append(table.column(spec.target))
        row_ids.append(row_hashes(table, names))
    column = pa.chunked_array([chunk for each in columns for chunk in each.chunks], type=columns[0].type)
    target = answerable_target(spec, column)
    return Pool(
        spec=spec,
        source=source,
        target=target,
        given=_given(column, target),
        row_ids=np.concatenate(row_ids),
        starts=np.cumsum([0, *(len(each) for each in columns)]),
    )


def with_target(source: Source, spec: DataSpec) -> Source:
    """The source with a target column that can hold labels, where it has none, or one that is empty.

    Raises:
        DataError: it has none, and nothing says what may be answered.
    """
    names = source.schema.names
    place = names.index(spec.target) if spec.target in names else len(names)
    if place < len(names) and not pa.types.is_null(source.schema.field(place).type):
        return source
    if spec.labels.classes is None and spec.task != "regression":
        # A name that was spelled wrong, more likely than not, is left to the check of roles.
        return source
    kind = pa.float64() if spec.labels.classes is None else pa.array(list(spec.labels.classes)).type
    fields = [field for field in source.schema if field.name != spec.target]
    fields.insert(place, pa.field(spec.target, kind))
    return replace(source, schema=pa.schema(fields))


def answerable_target(spec: DataSpec, column: pa.ChunkedArray) -> TargetColumn:
    """What may be answered: `data.labels.classes`, or what the column holds.

    Raises:
        DataError: neither says it, or the column holds a class that is not listed.
    """
    partial = target_partial(column)
    listed = spec.labels.classes
    if listed is None:
        if spec.task == "regression" and not partial.count:
            return TargetColumn(name=spec.target, task="regression")
        if partial.counts is not None and len(partial.counts) < 2 and spec.task != "regression":
            raise DataError(
                f"data.labels.classes = null says nothing, and {spec.target} holds {len(partial.counts)} classes; "
                "list the classes that may be answered."
            )
        return infer_task(spec.target, column.type, partial, spec.task)
    classes = tuple(sorted(listed, key=lambda label: (str(type(label)), label)))
    strange = [label for label in partial.counts or {} if label not in classes]
    if strange:
        raise DataError(f"data.labels.classes = {list(listed)} lacks {strange[0]!r}, which the target holds; list it.")
    return TargetColumn(name=spec.target, task="binary" if len(classes) == 2 else "multiclass", classes=classes)


def _given(column: pa.ChunkedArray, target: TargetColumn) -> Codes:
    codes = np.full(len(column), ABSTAINED, dtype=np.int64)
    is_there = ~missing_mask(column)
    if target.task == "regression":
        codes[is_there] = 0
    elif is_there.any():
        codes[is_there] = encode_target(column.filter(pa.array(is_there)), target)
    return codes
