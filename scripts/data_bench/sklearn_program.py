"""What one writes in a notebook: pandas and scikit-learn's ColumnTransformer, then `to_parquet`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from data_bench.work import CATEGORIES, KEY, MAX_ONE_HOT, NUMBERS, POSITIVE, RARE_SHARE, SPLITS, TARGET, split_labels


class Clip(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """To the 1 % and 99 % quantiles of the rows that it was fitted on."""

    def fit(self, values: np.ndarray, target: object = None) -> Clip:  # noqa: ARG002  # as scikit-learn calls it
        self.low_, self.high_ = np.quantile(values, [0.01, 0.99], axis=0)
        self.n_features_in_ = values.shape[1]
        return self

    def transform(self, values: np.ndarray) -> np.ndarray:
        return np.clip(values, self.low_, self.high_)


def run(source: Path, out: Path) -> None:
    """Fit on the train rows of `source`, and write every split under `out`."""
    frame = pd.read_parquet(source, columns=[*NUMBERS, *CATEGORIES, TARGET, KEY])
    labels = split_labels(frame[KEY].to_numpy())
    train = frame[labels == 0]
    small = [name for name in CATEGORIES if train[name].nunique() <= MAX_ONE_HOT]
    large = [name for name in CATEGORIES if name not in small]
    rare = {"min_frequency": RARE_SHARE}
    mode = SimpleImputer(strategy="most_frequent", missing_values=None)
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), Clip(), StandardScaler()), list(NUMBERS)),
            ("small", make_pipeline(mode, OneHotEncoder(handle_unknown="infrequent_if_exist", **rare)), small),
            (
                "large",
                make_pipeline(mode, OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, **rare)),
                large,
            ),
        ],
        sparse_threshold=0,
    )
    for name in CATEGORIES:
        frame[name] = frame[name].astype(object).where(frame[name].notna(), None)
    columns.fit(frame[labels == 0])
    for label, split in enumerate(SPLITS):
        rows = frame[labels == label]
        encoded = pd.DataFrame(columns.transform(rows).astype(np.float32))
        encoded.columns = encoded.columns.astype(str)
        encoded[TARGET] = (rows[TARGET] == POSITIVE).to_numpy(np.uint8)
        (out / split).mkdir(parents=True)
        encoded.to_parquet(out / split / "shard-00000.parquet", compression="snappy")
