"""How does one configuration learn?

In: a configuration, data matrices, a seed, a number of units. Out: a `TrialReport` with its curve and a checkpoint, and
a `Structure` (the model as numbers). Not here: which configuration, for how long, at what price.
"""

from mlcluster.train.baseline import constant_scores
from mlcluster.train.families import FAMILIES, warm_up
from mlcluster.train.learner import DataSize, Encoding, Family, Learner, Matrices, TrainingData
from mlcluster.train.metrics import METRICS, MetricDefinition, as_loss, default_metric, score
from mlcluster.train.session import CheckpointFolder, CurvePoint, Segment, TrialReport, load_learner, run_segment
from mlcluster.train.structure import BinaryTree, DenseLayer, DenseNet, Structure, TreeEnsemble, apply_link

__all__ = [
    "FAMILIES",
    "METRICS",
    "BinaryTree",
    "CheckpointFolder",
    "CurvePoint",
    "DataSize",
    "DenseLayer",
    "DenseNet",
    "Encoding",
    "Family",
    "Learner",
    "Matrices",
    "MetricDefinition",
    "Segment",
    "Structure",
    "TrainingData",
    "TreeEnsemble",
    "TrialReport",
    "apply_link",
    "as_loss",
    "constant_scores",
    "default_metric",
    "load_learner",
    "run_segment",
    "score",
    "warm_up",
]
