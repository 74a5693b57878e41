"""Decision trees, random forests and gradient boosting: scikit-learn's, grown a unit at a time.

Tree: a unit is an eighth of the train rows, of which the tree is grown anew. Forest: a unit is eight trees. Boosting:
a unit is twenty rounds, always grown in one call, so that where a training was paused leaves no trace in the model.
"""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from mlcluster.spec import ChoiceDomain, Configuration, FloatDomain, IntDomain, SearchSpace
from mlcluster.train.learner import DataSize, Family, Learner, Matrices, TrainingData
from mlcluster.train.structure import BinaryTree, Link, TreeEnsemble, round_threshold_down

_TREE_UNITS = 8
_FOREST_UNITS, _TREES_PER_UNIT = 27, 8
_BOOSTING_UNITS, _ROUNDS_PER_UNIT = 27, 20
_NEVER_SEEN = -1e4


class _SklearnLearner:
    """What the three kinds share: an estimator that is grown by `_grow`, scored and pickled."""

    def __init__(self, configuration: Configuration, data: TrainingData, seed: int) -> None:
        self._configuration = configuration
        self._seed = seed
        self._task = data.task
        self._num_classes = data.num_classes
        train = data.train["ordinal"]
        self._train = Matrices(features=_writable(train.features), targets=train.targets)
        self._estimator: Any = None
        self.units = 0

    def scores(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        rows = _writable(features)
        if self._task == "regression":
            return np.asarray(self._estimator.predict(rows), dtype=np.float64)
        probabilities = np.zeros((len(rows), self._num_classes))
        probabilities[:, self._seen_classes()] = self._estimator.predict_proba(rows)
        return probabilities

    def state(self) -> bytes:
        return pickle.dumps((self.units, self._estimator))

    def load(self, state: bytes) -> None:
        """Takes the place of the learner that gave `state`. A pickle: the study's own, never a served file."""
        self.units, self._estimator = pickle.loads(state)  # noqa: S301

    def _seen_classes(self) -> npt.NDArray[np.int64]:
        return np.asarray(self._estimator.classes_, dtype=np.int64)

    def _is_classification(self) -> bool:
        return self._task != "regression"


class TreeLearner(_SklearnLearner):
    """One decision tree on a growing, seeded share of the rows."""

    def advance(self, until: int) -> None:
        if until <= self.units:
            return
        rows = np.random.default_rng(self._seed).permutation(len(self._train))
        rows = np.sort(rows[: max(1, len(rows) * until // _TREE_UNITS)])
        kind = DecisionTreeClassifier if self._is_classification() else DecisionTreeRegressor
        self._estimator = kind(random_state=self._seed, **_tree_parameters(self._configuration))
        self._estimator.fit(self._train.features[rows], self._train.targets[rows])
        self.units = until

    def structure(self) -> TreeEnsemble:
        return _averaged_trees([self._estimator], self._task, self._seen_classes_or_none(), self._num_classes)

    def _seen_classes_or_none(self) -> npt.NDArray[np.int64] | None:
        return self._seen_classes() if self._is_classification() else None


class ForestLearner(_SklearnLearner):
    """A random forest that is given eight more trees a unit."""

    def advance(self, until: int) -> None:
        if self._estimator is None:
            kind = RandomForestClassifier if self._is_classification() else RandomForestRegressor
            self._estimator = kind(
                warm_start=True,
                n_jobs=1,
                random_state=self._seed,
                max_samples=float(self._configuration["row_share"]),
                **_tree_parameters(self._configuration),
            )
        while self.units < until:
            self._estimator.n_estimators = (self.units + 1) * _TREES_PER_UNIT
            self._estimator.fit(self._train.features, self._train.targets)
            self.units += 1

    def structure(self) -> TreeEnsemble:
        seen = self._seen_classes() if self._is_classification() else None
        return _averaged_trees(self._estimator.estimators_, self._task, seen, self._num_classes)


class BoostingLearner(_SklearnLearner):
    """Histogram gradient boosting that is given twenty more rounds a unit."""

    def advance(self, until: int) -> None:
        if self._estimator is None:
            kind = HistGradientBoostingClassifier if self._is_classification() else HistGradientBoostingRegressor
            self._estimator = kind(
                warm_start=True,
                early_stopping=False,
                random_state=self._seed,
                learning_rate=float(self._configuration["learning_rate"]),
                max_leaf_nodes=int(self._configuration["max_leaf_nodes"]),
                min_samples_leaf=int(self._configuration["min_samples_leaf"]),
                l2_regularization=float(self._configuration["l2_regularization"]),
                max_features=float(self._configuration["feature_share"]),
            )
        while self.units < until:
            self._estimator.max_iter = (self.units + 1) * _ROUNDS_PER_UNIT
            self._estimator.fit(self._train.features, self._train.targets)
            self.units += 1

    def structure(self) -> TreeEnsemble:
        learnt_base = np.asarray(self._estimator._baseline_prediction, dtype=np.float64).reshape(-1)
        columns, base, link = self._outputs(learnt_base)
        trees = tuple(
            _boosted_tree(predictor.nodes, int(column), len(base))
            for predictors in self._estimator._predictors
            for column, predictor in zip(columns, predictors, strict=True)
        )
        return TreeEnsemble(trees=trees, base=base, num_inputs=self._train.features.shape[1], link=link)

    def _outputs(
        self, learnt_base: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], Link]:
        """The raw score that each learnt tree column adds to, where each starts, and the link."""
        if not self._is_classification():
            return np.zeros(1, dtype=np.int64), learnt_base, "identity"
        if self._num_classes == 2:
            return np.zeros(1, dtype=np.int64), learnt_base, "sigmoid"
        # A class that the train split never showed keeps a score that the softmax turns into zero.
        seen = self._seen_classes()
        base = np.full(self._num_classes, _NEVER_SEEN)
        if len(learnt_base) == 1:
            base[seen] = (0.0, learnt_base[0])
            return seen[1:], base, "softmax"
        base[seen] = learnt_base
        return seen, base, "softmax"


def _writable(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A copy where Ray's object store hands out read-only memory: scikit-learn cannot look for NaN in that."""
    return np.require(features, requirements=["C", "W"])


def _tree_parameters(configuration: Configuration) -> dict[str, Any]:
    return {
        "max_depth": int(configuration["max_depth"]),
        "min_samples_leaf": int(configuration["min_samples_leaf"]),
        "max_features": float(configuration["feature_share"]),
    }


def _averaged_trees(
    estimators: list[Any], task: str, seen_classes: npt.NDArray[np.int64] | None, num_classes: int
) -> TreeEnsemble:
    """The mean over trees of class shares, or of values."""
    outputs = 1 if task == "regression" else num_classes
    columns = np.zeros(1, dtype=np.int64) if seen_classes is None else seen_classes
    trees = tuple(_grown_tree(estimator.tree_, columns, outputs, len(estimators)) for estimator in estimators)
    return TreeEnsemble(
        trees=trees, base=np.zeros(outputs), num_inputs=int(estimators[0].n_features_in_), link="identity"
    )


def _grown_tree(tree: Any, columns: npt.NDArray[np.int64], outputs: int, num_trees: int) -> BinaryTree:
    is_leaf = tree.children_left < 0
    shares = np.asarray(tree.value[:, 0, :], dtype=np.float64)
    if outputs > 1:
        shares = shares / shares.sum(axis=1, keepdims=True)
    value = np.zeros((tree.node_count, outputs))
    value[:, columns] = shares / num_trees
    missing_left = np.asarray(tree.missing_go_to_left, dtype=bool)
    return BinaryTree(
        feature=np.where(is_leaf, -1, tree.feature).astype(np.int32),
        threshold=round_threshold_down(np.where(is_leaf, 0.0, tree.threshold)),
        left=np.maximum(tree.children_left, 0).astype(np.int32),
        right=np.maximum(tree.children_right, 0).astype(np.int32),
        missing_left=missing_left,
        value=value,
    )


def _boosted_tree(nodes: Any, output: int, outputs: int) -> BinaryTree:
    is_leaf = nodes["is_leaf"].astype(bool)
    value = np.zeros((len(nodes), outputs))
    value[:, output] = np.where(is_leaf, nodes["value"], 0.0)
    return BinaryTree(
        feature=np.where(is_leaf, -1, nodes["feature_idx"]).astype(np.int32),
        threshold=round_threshold_down(np.where(is_leaf, 0.0, nodes["num_threshold"])),
        left=nodes["left"].astype(np.int32),
        right=nodes["right"].astype(np.int32),
        missing_left=nodes["missing_go_to_left"].astype(bool),
        value=value,
    )


def _rows_by_columns(size: DataSize) -> float:
    return size.rows * size.columns


def _tree_nominal_seconds(configuration: Configuration, size: DataSize, units: int) -> float:
    depth, share = int(configuration["max_depth"]), float(configuration["feature_share"])
    return 2e-3 + 2e-8 * _rows_by_columns(size) * share * min(depth, 16) * units / _TREE_UNITS


def _forest_nominal_seconds(configuration: Configuration, size: DataSize, units: int) -> float:
    depth, share = int(configuration["max_depth"]), float(configuration["feature_share"])
    rows = float(configuration["row_share"])
    one_tree = 2e-3 + 2e-8 * _rows_by_columns(size) * rows * share * min(depth, 16)
    return one_tree * units * _TREES_PER_UNIT


def _boosting_nominal_seconds(configuration: Configuration, size: DataSize, units: int) -> float:
    leaves, trees_a_round = int(configuration["max_leaf_nodes"]), size.outputs if size.outputs > 2 else 1
    one_tree = 1e-3 + leaves * 6e-5 + 7e-9 * _rows_by_columns(size) * np.log2(leaves)
    return float(units * _ROUNDS_PER_UNIT * trees_a_round * one_tree)


_TREE_SPACE: SearchSpace = {
    "max_depth": IntDomain(low=2, high=16, default=8, least=1, most=32),
    "min_samples_leaf": IntDomain(low=1, high=200, default=20, log=True, most=2000),
    "feature_share": FloatDomain(low=0.3, high=1.0, default=1.0, least=0.05),
}
_FOREST_SPACE: SearchSpace = {
    "max_depth": IntDomain(low=4, high=24, default=16, least=1, most=40),
    "min_samples_leaf": IntDomain(low=1, high=50, default=3, log=True, most=500),
    "feature_share": FloatDomain(low=0.1, high=1.0, default=0.4, least=0.02),
    "row_share": FloatDomain(low=0.3, high=1.0, default=0.8, least=0.05),
}
_BOOSTING_SPACE: SearchSpace = {
    "learning_rate": FloatDomain(low=0.01, high=0.3, default=0.06, log=True, least=1e-3, most=1.0),
    "max_leaf_nodes": IntDomain(low=4, high=64, default=24, log=True, least=2, most=512),
    "min_samples_leaf": IntDomain(low=5, high=200, default=20, log=True, least=1, most=2000),
    "l2_regularization": FloatDomain(low=1e-6, high=10.0, default=1e-3, log=True, least=1e-9, most=1e3),
    "feature_share": ChoiceDomain(options=(0.25, 0.5, 0.75, 1.0), default=0.5),
}


def _family(name: str, learner: type[Any], unit: str, space: SearchSpace, max_units: int, seconds: Any) -> Family:
    def build(configuration: Configuration, data: TrainingData, seed: int) -> Learner:
        fresh: Learner = learner(configuration, data, seed)
        return fresh

    def restore(state: bytes, configuration: Configuration, data: TrainingData, seed: int) -> Learner:
        saved = learner(configuration, data, seed)
        saved.load(state)
        result: Learner = saved
        return result

    return Family(
        name=name,
        encoding="ordinal",
        fidelity_unit=unit,
        space=space,
        max_units=max_units,
        nominal_seconds=seconds,
        build=build,
        restore=restore,
        grows_anew=learner is TreeLearner,
        model_grows=True,
    )


TREE = _family("tree", TreeLearner, "eighths of the rows", _TREE_SPACE, _TREE_UNITS, _tree_nominal_seconds)
FOREST = _family("forest", ForestLearner, "sets of 8 trees", _FOREST_SPACE, _FOREST_UNITS, _forest_nominal_seconds)
BOOSTING = _family(
    "boosting", BoostingLearner, "sets of 20 rounds", _BOOSTING_SPACE, _BOOSTING_UNITS, _boosting_nominal_seconds
)
