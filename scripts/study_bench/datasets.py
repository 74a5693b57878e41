"""The tables that are searched on: each a project file's text, and a snapshot that all policies and seeds share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlcluster.cli.data_stage import load_training_data
from mlcluster.cli.planning import resolve_metric
from mlcluster.data import DatasetSnapshot, LocalEngine, prepare
from mlcluster.errors import DataError, SpecError
from mlcluster.spec import ProjectSpec, load_spec
from mlcluster.train import Encoding, Matrices, TrainingData

DATASETS: Mapping[str, str] = {
    "adult": """
data: {{source: {data}/adult.parquet, target: income, exclude: [fnlwgt], split: {{column: split}}}}
tune: {{metric: roc_auc}}
""",
    # The rows are in the order of their dates, which are not among the columns; `duration` is known after the call.
    "bank_marketing": """
data: {{source: {derived}/bank_marketing.parquet, target: y, exclude: [duration], split: {{column: split}}}}
tune: {{metric: roc_auc}}
""",
    "bike_sharing_hourly": """
data: {{source: {data}/bike_sharing_hourly.parquet, target: cnt, time: dteday, exclude: [instant, casual, registered]}}
tune: {{metric: r2}}
""",
    "electricity_elec2": """
data: {{source: {data}/electricity_elec2.parquet, target: class, time: t}}
tune: {{metric: roc_auc}}
""",
}
IN_ORDER_OF_TIME = ("bank_marketing",)
"""Tables whose rows are in the order of a time that they do not hold: they are given a column `split`."""
VALIDATION_SHARE = TEST_SHARE = 0.2
SPLIT_SEED = 0
"""Of the rows that are set aside for validation: seeds are of searches, and all search on the same rows."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One table, ready to be learnt from. `test` stays away from every search."""

    name: str
    metric: str
    families: tuple[str, ...]
    training: TrainingData
    test: Mapping[Encoding, Matrices]
    num_rows: Mapping[str, int]
    digest: str


def load_dataset(name: str, data: Path, work: Path) -> Dataset:
    """The table of that name in the folder `data`, or of the project file of that path; `work` is for what is made.

    Raises:
        SpecError: there is no such table, or a project file is wrong.
        DataError: a table's file is missing or is not what it should be.
    """
    spec, base = _spec_of(name, data, work)
    folder = work / "snapshots" / dataset_name(name)
    snapshot = prepare(spec.data, base=base, folder=folder, seed=SPLIT_SEED, engine=LocalEngine())
    training = load_training_data(snapshot, spec.models, augment=spec.data.augment, seed=SPLIT_SEED)
    return Dataset(
        name=dataset_name(name),
        metric=resolve_metric(spec, training.task),
        families=spec.models,
        training=training,
        test=_test_matrices(snapshot, training),
        num_rows=dict(snapshot.num_rows),
        digest=snapshot.digest,
    )


def dataset_name(name: str) -> str:
    """What results call it: a project file is known by its file's name."""
    return name if name in DATASETS else Path(name).stem


def _spec_of(name: str, data: Path, work: Path) -> tuple[ProjectSpec, Path]:
    """A table's project, and the folder in which its paths begin."""
    path = Path(name)
    if name in DATASETS:
        path = work / f"{name}.yaml"
        path.write_text(DATASETS[name].format(data=data.resolve(), derived=work))
    elif not path.is_file():
        raise SpecError(f"--datasets = {name!r} is no project file, and not one of {', '.join(DATASETS)}; give such.")
    if name in IN_ORDER_OF_TIME:
        write_split_by_order(data / f"{name}.parquet", work / f"{name}.parquet")
    return load_spec(path), path.resolve().parent


def _test_matrices(snapshot: DatasetSnapshot, training: TrainingData) -> dict[Encoding, Matrices]:
    found: dict[Encoding, Matrices] = {}
    for encoding in training.train:
        features, targets = snapshot.matrices("test", encoding)
        found[encoding] = Matrices(features=features, targets=targets)
    return found


def write_split_by_order(source: Path, target: Path) -> None:
    """Copies a table with a column `split`: the last rows are for the test, those before them for validation.

    Raises:
        DataError: `source` cannot be read.
    """
    try:
        table = pq.read_table(source)
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"--data = {source.parent} holds no readable {source.name} ({error}); give its folder."
        ) from error
    words = np.full(table.num_rows, "train", dtype=object)
    num_test, num_validation = round(table.num_rows * TEST_SHARE), round(table.num_rows * VALIDATION_SHARE)
    words[table.num_rows - num_test - num_validation :] = "validation"
    words[table.num_rows - num_test :] = "test"
    pq.write_table(table.append_column("split", pa.array(words, type=pa.string())), target, compression="zstd")
