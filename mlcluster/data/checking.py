"""Whether data is what `data.expect` says, without learning anything from it: for a file that has just arrived."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mlcluster.data.broken_rules import all_violations, by_block
from mlcluster.data.catalog import SourceCache
from mlcluster.data.columns import check_roles
from mlcluster.data.engine import Engine, LocalEngine
from mlcluster.data.expect import column_violations, expectation_text, reasons_by_row
from mlcluster.data.findings import Finding
from mlcluster.data.first_read import survey
from mlcluster.data.gather import gather
from mlcluster.data.labels.filling import read_labelled_source
from mlcluster.data.passes import quarantined
from mlcluster.data.source import Source, read_block
from mlcluster.data.survey import Survey
from mlcluster.spec import DataSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class BrokenRule:
    """One rule of `data.expect` that does not hold. A rule of a whole column names no rows."""

    column: str
    expected: str
    problem: str
    num_rows: int = 0
    first_rows: tuple[int, ...] = ()
    example: str | None = None


@dataclass(frozen=True, kw_only=True)
class DataCheck:
    """What was found; `bad_rows` are row numbers in the source with their reasons."""

    source: str
    num_rows: int
    num_without_target: int
    broken: tuple[BrokenRule, ...]
    bad_rows: Mapping[int, str]
    notes: tuple[Finding, ...]
    """What was put in place of targets that the source lacks: answers, and what label functions say."""
    _source: Source

    @property
    def passed(self) -> bool:
        return not self.broken

    def quarantine(self) -> pa.Table:
        """The rows that break a rule, as they stand in the source, with a column `reason`."""
        starts = np.cumsum([0, *(block.num_rows for block in self._source.blocks)])
        blocks = zip(self._source.blocks, by_block(self.bad_rows, starts), strict=True)
        tables = [quarantined(self._source.schema.empty_table(), {})]
        tables += [quarantined(read_block(block, self._source.schema), bad) for block, bad in blocks if bad]
        return pa.concat_tables(tables)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "source": self.source,
            "rows": self.num_rows,
            "rows_without_target": self.num_without_target,
            "bad_rows": len(self.bad_rows),
            "passed": self.passed,
            "broken": [asdict(rule) for rule in self.broken],
            "notes": [note.to_json() for note in self.notes],
        }


def check_data(
    spec: DataSpec,
    *,
    base: Path,
    engine: Engine | None = None,
    cache: SourceCache | None = None,
    with_labels: bool = True,
) -> DataCheck:
    """Hold the source of `spec` against its `expect`; only the columns that a rule or a role is about are read.

    With labels, the targets are those that a run would learn from: what the source lacks is filled in from
    `data.labels`, for which all of it is read where there are some. Other data of the kind has no answers.

    Raises:
        DataError: the source cannot be read, a column is absent, or a rule does not fit the type of its column.
    """
    source, notes = gather(spec, base=base, cache=cache).source, list[Finding]()
    if with_labels:
        source, notes = read_labelled_source(spec, source, base=base)
    check_roles(spec, source)
    engine = (engine or LocalEngine()).for_rows(source.num_rows)
    found = survey(spec.model_copy(update={"bad_rows": "warn"}), source, 0, engine)
    bad_rows, broken = _broken(spec, found)
    return DataCheck(
        source=source.text,
        num_rows=source.num_rows,
        num_without_target=sum(part.target.missing for part in found.parts),
        broken=tuple(broken),
        bad_rows=bad_rows,
        notes=tuple(notes),
        _source=source,
    )


def _broken(spec: DataSpec, found: Survey) -> tuple[dict[int, str], list[BrokenRule]]:
    starts = np.cumsum([0, *(part.num_rows for part in found.parts)])
    of_rows = all_violations(spec, found.parts, starts[:-1])
    broken = [
        BrokenRule(
            column=violation.column,
            expected=expectation_text(spec.expect[violation.column]) if violation.column in spec.expect else "an image",
            problem=violation.rule,
            num_rows=len(violation.rows),
            first_rows=tuple(violation.rows[:5].tolist()),
            example=violation.example,
        )
        for violation in of_rows
    ]
    for column, problem in column_violations([part.summaries for part in found.parts], spec.expect):
        broken.append(BrokenRule(column=column, expected=expectation_text(spec.expect[column]), problem=problem))
    return reasons_by_row(of_rows), broken
