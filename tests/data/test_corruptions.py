"""What goes wrong with data on its way, and where each is caught. docs/validation.md has the same table for people."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from mlcluster.data import (
    DatasetSnapshot,
    LocalEngine,
    RowError,
    check_data,
    columns_to_table,
    conform,
    prepare,
    profile,
)
from mlcluster.errors import DataError
from mlcluster.spec import DataSpec

JOBS = ["clerk", "cook", "nurse", "pilot"]
EXPECT = {
    "id": "unique, number",
    "age": {"min": 17, "max": 90, "not_null": True, "median": {"min": 40, "max": 65}},
    "hours": {"min": 0, "max": 99, "missing": {"max": 0.15}},
    "job": JOBS,
    "member": "boolean",
    "seen": "increasing, time",
}
DOCS = Path(__file__).resolve().parents[2] / "docs" / "validation.md"


def clean(num_rows: int = 600, seed: int = 0) -> pa.Table:
    """Rows that hold every rule of `EXPECT`."""
    rng = np.random.default_rng(seed)
    age = rng.integers(17, 91, num_rows)
    hours = np.clip(np.round(rng.normal(40, 10, num_rows), 1), 0, 99)
    job = np.array(JOBS)[rng.integers(0, 4, num_rows)]
    rich = age / 90 + (job == "pilot") + rng.normal(0, 0.5, num_rows) > 0.9
    start = np.datetime64("2024-01-01T00:00:00")
    return pa.table(
        {
            "id": pa.array(np.arange(num_rows)),
            "age": pa.array(age),
            "hours": pa.array(hours, mask=rng.random(num_rows) < 0.05),
            "job": pa.array(job),
            "member": pa.array(rng.random(num_rows) < 0.5),
            "seen": pa.array(start + np.cumsum(rng.integers(0, 60, num_rows)).astype("timedelta64[m]")),
            "rich": pa.array(np.where(rich, "yes", "no")),
        }
    )


def spec_of(**settings: Any) -> DataSpec:
    return DataSpec(**{"source": "data", "target": "rich", "exclude": ["id", "seen"], "expect": EXPECT, **settings})


def write(folder: Path, table: pa.Table, name: str = "rows.parquet") -> Path:
    (folder / "data").mkdir(exist_ok=True)
    path = folder / "data" / name
    if name.endswith(".csv"):
        pyarrow.csv.write_csv(table, path)
    else:
        pq.write_table(table, path, row_group_size=170)
    return path


def changed(name: str, change: Callable[[pa.ChunkedArray], Any]) -> Callable[[Path], None]:
    """Writes the clean table with one column changed."""

    def corrupt(folder: Path) -> None:
        table = clean()
        column = change(table.column(name))
        write(folder, table.set_column(table.column_names.index(name), name, column))

    return corrupt


def some(column: pa.ChunkedArray, value: Any, every: int = 50) -> pa.Array:
    """The column with another value in every 50th row."""
    values = column.to_pylist()
    values[::every] = [value] * len(values[::every])
    return pa.array(values)


def renamed(old: str, new: str) -> Callable[[Path], None]:
    return lambda folder: write(folder, clean().rename_columns([new if n == old else n for n in clean().column_names]))


def swapped(folder: Path) -> None:
    table = clean()
    names = [{"age": "hours", "hours": "age"}.get(name, name) for name in table.column_names]
    write(folder, table.rename_columns(names))


def truncated(folder: Path) -> None:
    path = write(folder, clean())
    path.write_bytes(path.read_bytes()[:-200])


def flipped_bytes(folder: Path) -> None:
    path = write(folder, clean())
    content = bytearray(path.read_bytes())
    content[-8:-4] = b"\xff\xff\xff\x7f"  # the footer's length
    path.write_bytes(bytes(content))


def twice(folder: Path) -> None:
    path = write(folder, clean())
    shutil.copy(path, path.with_name("rows (copy).parquet"))


def rows_twice(folder: Path) -> None:
    write(folder, pa.concat_tables([clean(), clean().slice(0, 100)]))


def text(edit: Callable[[str], str], encoding: str = "utf-8") -> Callable[[Path], None]:
    """Writes the clean table as CSV, and edits the text."""

    def corrupt(folder: Path) -> None:
        path = write(folder, clean(), "rows.csv")
        path.write_bytes(edit(path.read_text()).encode(encoding))

    return corrupt


def wrapped(column: pa.ChunkedArray) -> pa.Array:
    """A counter of one byte that has run over."""
    return pa.array((column.to_numpy() * 3).astype(np.int8).astype(np.int64))


@dataclass(frozen=True)
class Corruption:
    """One way in which data goes wrong, and the words of the complaint."""

    name: str
    corrupt: Callable[[Path], Any]
    caught: str
    quarantines: bool = False
    """Whether `bad_rows: quarantine` sets the bad rows aside and goes on with the rest."""


CORRUPTIONS = [
    Corruption("Parquet file cut short", truncated, "cannot be read"),
    Corruption("Parquet footer overwritten", flipped_bytes, "cannot be read"),
    Corruption("file of no bytes", lambda f: write(f, clean()).write_bytes(b""), "matches no file"),
    Corruption("table of no rows", lambda f: write(f, clean().slice(0, 0)), "holds no rows"),
    Corruption(
        "mixed encodings (Latin-1 in a UTF-8 file)",
        text(lambda t: t.replace("cook", "cuisinièr"), "latin-1"),
        "job.*type binary",
    ),
    Corruption("column renamed", renamed("age", "Age"), r"data\.expect = age .*did you mean Age"),
    Corruption(
        "column dropped", lambda f: write(f, clean().drop_columns(["hours"])), r"data\.expect = hours is no column"
    ),
    Corruption(
        "column twice",
        lambda f: write(f, clean().rename_columns(["id", "age", "age", "job", "member", "seen", "rich"])),
        "twice",
    ),
    Corruption(
        "unit x 1000", changed("hours", lambda c: pc.multiply(c, 1000.0)), r"hours.*is above 99", quarantines=False
    ),
    Corruption(
        "unit x 1000 in some rows", changed("hours", lambda c: some(c, 38000.0)), "is above 99", quarantines=True
    ),
    Corruption("years become days", changed("age", lambda c: pc.multiply(c, 365)), r"age.*is above 90"),
    Corruption("two columns swapped", swapped, r"age"),
    Corruption("same file twice", twice, "the same file twice"),
    Corruption("rows appended twice", rows_twice, "repeats an earlier row", quarantines=True),
    Corruption("column all null", changed("age", lambda c: pa.nulls(len(c), c.type)), "age"),
    Corruption("nulls in a tenth more rows", changed("hours", lambda c: some(c, None, 4)), "of its values are missing"),
    Corruption("null where none may be", changed("age", lambda c: some(c, None)), "is missing", quarantines=True),
    Corruption(
        "timestamps out of order",
        changed("seen", lambda c: pa.concat_arrays([c.slice(300).combine_chunks(), c.slice(0, 300).combine_chunks()])),
        "is below the row before",
        quarantines=True,
    ),
    Corruption(
        "timestamps as text", changed("seen", lambda c: c.cast(pa.string())), r"data\.expect\.seen = time.*is broken"
    ),
    Corruption("integer overflow", changed("age", wrapped), r"age.*is below 17"),
    Corruption("string in a number column", text(lambda t: re.sub(r"^5,\d+", "5,unknown", t, flags=re.M)), "age"),
    Corruption(
        "decimal comma",
        changed("hours", lambda c: pa.array([None if v is None else str(v).replace(".", ",") for v in c.to_pylist()])),
        "hours",
    ),
    Corruption("infinite value", changed("hours", lambda c: some(c, float("inf"))), "is above 99", quarantines=True),
    Corruption("999 for missing", changed("age", lambda c: some(c, 999)), "is above 90", quarantines=True),
    Corruption("negative value", changed("hours", lambda c: some(c, -4.0)), "is below 0", quarantines=True),
    Corruption("unknown category", changed("job", lambda c: some(c, "pirate")), "none of the listed", quarantines=True),
    Corruption(
        "other spelling of a category",
        changed("job", lambda c: some(c, "Pilot ")),
        "none of the listed",
        quarantines=True,
    ),
    Corruption(
        "flag as 0 and 1", changed("member", lambda c: c.cast(pa.int8())), r"data\.expect\.member = boolean is broken"
    ),
    Corruption("key of another row", changed("id", lambda c: some(c, 7)), "repeats an earlier row", quarantines=True),
    Corruption(
        "key as text",
        changed("id", lambda c: c.cast(pa.string())),
        r"data\.expect\.id = number, unique|data\.expect\.id = number",
    ),
    Corruption(
        "shift within the range", changed("age", lambda c: pc.min_element_wise(pc.add(c, 30), 90)), "its median is"
    ),
    Corruption("stuck sensor", changed("age", lambda c: pa.array([20] * len(c))), "its median is"),
    Corruption("wrong delimiter", text(lambda t: t.replace(",", ";")), "is no column of"),
    Corruption("header lost", text(lambda t: t.split("\n", 1)[1]), "is no column of"),
    Corruption("header again in the middle", text(lambda t: t + t.split("\n", 1)[0] + "\n"), "rows.csv|no column|id"),
    Corruption("row with a field too many", text(lambda t: t + "1,2,3,4,5,6,7,8,9\n"), "cannot be read"),
    Corruption("target of one class", changed("rich", lambda c: pa.array(["no"] * len(c))), "has the one class 'no'"),
    Corruption(
        "target never given", changed("rich", lambda c: pa.nulls(len(c), pa.string())), "is missing in every row"
    ),
]


def prepared(folder: Path, **settings: Any) -> DatasetSnapshot:
    return prepare(spec_of(**settings), base=folder, folder=folder / "snapshot", seed=1, engine=LocalEngine(2))


@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=lambda each: each.name)
def test_it_is_caught_before_anything_is_learned(tmp_path: Path, corruption: Corruption) -> None:
    corruption.corrupt(tmp_path)
    with pytest.raises(DataError, match=corruption.caught):
        prepared(tmp_path)
    assert not (tmp_path / "snapshot").exists()


@pytest.mark.parametrize("corruption", [each for each in CORRUPTIONS if each.quarantines], ids=lambda each: each.name)
def test_bad_rows_are_set_aside_and_nothing_is_lost(tmp_path: Path, corruption: Corruption) -> None:
    corruption.corrupt(tmp_path)
    snapshot = prepared(tmp_path, bad_rows="quarantine")
    rows = dict(snapshot.manifest["rows"])
    source = rows.pop("source")
    assert sum(rows.values()) == source
    quarantine = snapshot.quarantine()
    assert quarantine.num_rows == rows["quarantined"] > 0
    assert all(quarantine.column("reason").to_pylist())
    held = sum(snapshot.table(split).num_rows for split in ("train", "validation", "test"))
    assert held + quarantine.num_rows == source
    found = check_data(spec_of(), base=tmp_path)
    assert not found.passed
    assert found.quarantine().num_rows == len(found.bad_rows) == rows["quarantined"]


@pytest.mark.parametrize("seed", range(40))
def test_clean_data_raises_no_alarm(tmp_path: Path, seed: int) -> None:
    write(tmp_path, clean(seed=seed))
    assert check_data(spec_of(), base=tmp_path).passed
    if seed < 3:
        assert prepared(tmp_path).quarantined == 0


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"age": 999}, r"age = 999 in row 0 is above 90; the model was trained on 17..90, not_null"),
        ({"age": None}, "age = None in row 0 is missing"),
        ({"job": "pirate"}, "job = 'pirate' in row 0 is none of the listed values"),
        ({"hours": -1.0}, "hours = -1.0 in row 0 is below 0"),
    ],
)
def test_what_was_kept_out_of_training_is_not_answered(tmp_path: Path, row: dict[str, Any], problem: str) -> None:
    write(tmp_path, clean())
    schema = prepared(tmp_path).schema
    good = {"age": 40, "hours": 38.0, "job": "cook", "member": True}
    one = {name: [value] for name, value in {**good, **row}.items()}
    columns_to_table({name: [value] for name, value in good.items()}, schema)
    with pytest.raises(RowError, match=problem):
        columns_to_table(one, schema)
    many = pa.table({name: pa.array([good[name]] * 40 + values) for name, values in one.items()})
    with pytest.raises(RowError, match="in row 40"):
        conform(many, schema)
    warned = prepared(tmp_path, bad_rows="warn").schema
    columns_to_table(one, warned)


def test_a_profile_goes_on_and_tells(tmp_path: Path) -> None:
    changed("age", lambda c: some(c, 999))(tmp_path)
    told = [finding.message for finding in profile(spec_of(), base=tmp_path).findings if finding.kind == "bad_rows"]
    assert any("age: is above 90 in 12 rows" in message for message in told)


def test_the_documented_table_is_this_one() -> None:
    text = DOCS.read_text(encoding="utf-8")
    missing = [corruption.name for corruption in CORRUPTIONS if f"| {corruption.name} |" not in text]
    assert not missing
