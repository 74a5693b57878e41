"""Two sources joined by a key, block by block, into a file that is then read like any other.

The other source is held in memory, with the columns that are taken; the rows so far pass by one block at a time, twice:
first their keys alone, which gives the report and refuses what is not wanted before a row is written, then the rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlcluster.data.catalog import SourceCache
from mlcluster.data.conform import nearest_name
from mlcluster.data.joins.keys import NONE, RightKeys
from mlcluster.data.joins.places import RightPlaces
from mlcluster.data.joins.report import JoinReport
from mlcluster.data.joins.tally import Tally
from mlcluster.data.source import Source, read_block, read_source
from mlcluster.errors import DataError
from mlcluster.spec import JoinSpec

_FORM = 2
"""Of what is kept; another one is joined anew."""


def join_sources(
    left: Source, right: Source, wanted: JoinSpec, cache: SourceCache, *, is_lenient: bool = False
) -> tuple[Source, JoinReport]:
    """The rows of `left` in their order, with the columns of `right`, and what was matched. Kept in `cache`.

    `is_lenient` lets a low match rate pass, but never a fan-out: nobody has a use for those rows.

    Raises:
        DataError: a column is not there or is there twice, fewer rows than `min_match` found their key, or one found
            more than `max_fan_out`.
    """
    taken = _columns_taken(left, right, wanted)
    asked = [left.digest, right.digest, wanted.model_dump(mode="json"), _FORM, [str(left.schema), left.text]]
    name = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    rows_file, report_file = cache.content(f"{name}.parquet"), cache.content(f"{name}.json")
    if not (rows_file.is_file() and report_file.is_file()):
        _make(_Join(left=left, right=right, wanted=wanted, taken=taken), cache, name)
    report = JoinReport.from_json(json.loads(report_file.read_text(encoding="utf-8")))
    report.refuse_fan_out(wanted)
    if not is_lenient:
        report.refuse_few_matches(wanted)
    return _joined_source(left, right, wanted, rows_file), report


def _joined_source(left: Source, right: Source, wanted: JoinSpec, rows_file: Path) -> Source:
    try:
        joined = read_source(str(rows_file.resolve()), base=Path())
    except DataError as error:
        raise DataError(
            f"data.joins = {wanted.source} leaves no rows; use how: left, or compare the keys of both sources."
        ) from error
    others = tuple(replace(file, name=f"{wanted.source}/{file.name}") for file in right.files)
    return replace(joined, text=left.text, files=(*left.files, *others), modified_at=left.modified_at)


class _Join:
    """One join under way."""

    def __init__(self, *, left: Source, right: Source, wanted: JoinSpec, taken: dict[str, str]) -> None:
        self.left = left
        self.wanted = wanted
        self.taken = taken
        """Column of the other source -> its name in the result."""
        columns = list(dict.fromkeys([*wanted.right_columns, *taken]))
        self.right = pa.concat_tables([read_block(block, right.schema, columns) for block in right.blocks])
        self.keys: RightKeys | RightPlaces = (
            RightKeys.of(self.right, wanted) if wanted.place is None else RightPlaces.of(self.right, wanted)
        )

    @property
    def schema(self) -> pa.Schema:
        fields = [self.right.schema.field(name).with_name(new) for name, new in self.taken.items()]
        return pa.schema([*self.left.schema, *fields])

    def report(self) -> JoinReport:
        """From the keys alone; see `JoinReport`."""
        tally = Tally(self.keys, self.wanted)
        for block in self.left.blocks:
            tally.add(self.keys.find(read_block(block, self.left.schema, list(self.wanted.left_columns))))
        return tally.report(rows_right=self.right.num_rows)

    def block(self, rows: pa.Table) -> pa.Table:
        """The joined rows of one block: in its order, and for one row in the order of the other source."""
        groups = self.keys.find(rows).groups
        counts = np.where(groups >= 0, np.append(self.keys.counts, 0)[groups], 0)
        repeats = np.maximum(counts, 1) if self.wanted.how == "left" else counts
        left_rows = np.repeat(np.arange(rows.num_rows), repeats)
        is_found = counts[left_rows] > 0
        firsts = np.cumsum(repeats) - repeats
        nth = np.arange(len(left_rows)) - firsts[left_rows]
        places = np.append(self.keys.starts, 0)[np.where(is_found, groups[left_rows], NONE)] + nth
        right_rows = np.append(self.keys.rows, 0)[np.where(is_found, places, NONE)]
        found = self.right.select(list(self.taken)).take(pa.array(right_rows, mask=~is_found))
        kept = rows.take(pa.array(left_rows))
        return pa.Table.from_arrays([*kept.columns, *found.columns], schema=self.schema)


def _make(join: _Join, cache: SourceCache, name: str) -> None:
    """Writes report and rows; no rows where there would be too many of them."""
    report = join.report()
    with cache.new_file() as path:
        if report.largest_fan_out > join.wanted.max_fan_out:
            report.refuse_fan_out(join.wanted)
        with pq.ParquetWriter(path, join.schema, compression="zstd") as writer:
            for block in join.left.blocks:
                table = join.block(read_block(block, join.left.schema))
                if table.num_rows:
                    writer.write_table(table)
        cache.adopt(path, f"{name}.parquet")
    with cache.new_file() as path:
        path.write_text(json.dumps(report.to_json()), encoding="utf-8")
        cache.adopt(path, f"{name}.json")


def _columns_taken(left: Source, right: Source, wanted: JoinSpec) -> dict[str, str]:
    """Column of `right` -> its name in the result."""
    key = f"data.joins = {wanted.source}"
    for column in wanted.left_columns:
        _refuse_absent(f"{key} is joined on {column}", column, left.schema.names, left.label)
    for column in wanted.right_columns:
        _refuse_absent(f"{key} is joined on {column}", column, right.schema.names, wanted.source)
    if wanted.place is not None:
        _refuse_words(key, left.schema, wanted.left_columns)
        _refuse_words(key, right.schema, wanted.right_columns)
    for column in wanted.columns:
        _refuse_absent(f"{key} takes {column}", column, right.schema.names, wanted.source)
    names = wanted.columns or tuple(name for name in right.schema.names if name not in wanted.right_columns)
    taken = {name: f"{wanted.prefix}{name}" for name in names}
    twice = [new for new in taken.values() if new in left.schema.names]
    if twice:
        raise DataError(
            f"{key} brings the column {twice[0]}, which is there already; give a prefix, or name the columns."
        )
    return taken


def _refuse_words(key: str, schema: pa.Schema, columns: Sequence[str]) -> None:
    for column in columns:
        kind = schema.field(column).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
            raise DataError(f"{key} is joined on {column}, which is {kind} and no number of degrees; convert it.")


def _refuse_absent(what: str, name: str, names: Sequence[str], whose: str) -> None:
    if name not in names:
        near = nearest_name(name, names)
        fix = f"did you mean {near}?" if near else f"use one of {', '.join(list(names)[:12])}."
        raise DataError(f"{what}, which is no column of {whose}; {fix}")
