"""MLflow's way into a bundle: `mlflow.pyfunc.load_model` on a registered version answers as the endpoint does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcluster.data import columns_to_table
from mlcluster.registry import Bundle
from mlcluster.serve.predictor import Predictor

if TYPE_CHECKING:
    import pandas as pd


class BundleModel:
    """A bundle behind pyfunc's interface: labels of a classification, values of a regression."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> list[Any]:  # noqa: ARG002
        """One answer a row; columns are named as the signature says."""
        schema = self._predictor.schema
        filled = model_input.astype(object).where(model_input.notna(), None)
        columns = {str(name): list(filled[name]) for name in filled.columns}
        return list(self._predictor.predict(columns_to_table(columns, schema)).labels)


def _load_pyfunc(path: str) -> BundleModel:
    """Called by MLflow with the folder of the bundle; its hashes are checked before anything is parsed."""
    return BundleModel(Predictor(Bundle.read(Path(path))))
