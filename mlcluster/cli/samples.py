"""Sample tables for `init`, from the data sets that scikit-learn carries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """A table and what a project file says about it."""

    file: str
    target: str
    gate: str
    load: Callable[[], pa.Table]


def _table(bunch: Any, target: str, values: list[Any]) -> pa.Table:
    names = [str(name).replace(" ", "_").replace("/", "_per_") for name in bunch.feature_names]
    columns = {name: bunch.data[:, index] for index, name in enumerate(names)}
    return pa.table({**columns, target: values})


def _breast_cancer() -> pa.Table:
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer()
    return _table(bunch, "diagnosis", [str(bunch.target_names[code]) for code in bunch.target])


def _wine() -> pa.Table:
    from sklearn.datasets import load_wine

    bunch = load_wine()
    return _table(bunch, "cultivar", [str(bunch.target_names[code]) for code in bunch.target])


def _diabetes() -> pa.Table:
    from sklearn.datasets import load_diabetes

    bunch = load_diabetes(scaled=False)
    return _table(bunch, "progression", [float(value) for value in bunch.target])


SAMPLES: Mapping[str, Sample] = {
    "breast-cancer": Sample(
        file="breast_cancer.parquet", target="diagnosis", gate="roc_auc >= 0.90", load=_breast_cancer
    ),
    "wine": Sample(file="wine.parquet", target="cultivar", gate="accuracy >= 0.75", load=_wine),
    "diabetes": Sample(file="diabetes.parquet", target="progression", gate="r2 >= 0.20", load=_diabetes),
}
