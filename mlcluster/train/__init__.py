"""How does one configuration learn?

In: a configuration, data matrices, a seed, a number of units. Out: a `TrialReport` with its curve and a checkpoint, and
a `Structure` (the model as numbers). Not here: which configuration, for how long, at what price.
"""

from typing import TYPE_CHECKING, Any

from mlcluster.train.ablation import ArmScores, Difference, paired_difference, score_arm
from mlcluster.train.baseline import constant_scores
from mlcluster.train.families import FAMILIES, check_families, warm_up
from mlcluster.train.learner import (
    DataSize,
    Encoding,
    Family,
    Learner,
    LearnerBatch,
    Matrices,
    OnGpu,
    Span,
    Together,
    TrainingData,
)
from mlcluster.train.metrics import METRICS, MetricDefinition, as_loss, default_metric, predicted_classes, score
from mlcluster.train.session import (
    CheckpointFolder,
    Checkpoints,
    CurvePoint,
    Measured,
    Segment,
    TrialReport,
    load_learner,
    run_segment,
)
from mlcluster.train.structure import (
    BinaryTree,
    ConvLayer,
    ConvNet,
    DenseLayer,
    DenseNet,
    Structure,
    TreeEnsemble,
    apply_link,
)
from mlcluster.train.together import SpansCost, best_grouping, is_cheaper_together, run_segments

if TYPE_CHECKING:
    from mlcluster.train.feeding import Share, Shuffle, TorchBatch, TorchBatches

__all__ = [
    "FAMILIES",
    "METRICS",
    "ArmScores",
    "BinaryTree",
    "CheckpointFolder",
    "Checkpoints",
    "ConvLayer",
    "ConvNet",
    "CurvePoint",
    "DataSize",
    "DenseLayer",
    "DenseNet",
    "Difference",
    "Encoding",
    "Family",
    "Learner",
    "LearnerBatch",
    "Matrices",
    "Measured",
    "MetricDefinition",
    "OnGpu",
    "Segment",
    "Share",
    "Shuffle",
    "Span",
    "SpansCost",
    "Structure",
    "Together",
    "TorchBatch",
    "TorchBatches",
    "TrainingData",
    "TreeEnsemble",
    "TrialReport",
    "apply_link",
    "as_loss",
    "best_grouping",
    "check_families",
    "constant_scores",
    "default_metric",
    "is_cheaper_together",
    "load_learner",
    "paired_difference",
    "predicted_classes",
    "run_segment",
    "run_segments",
    "score",
    "score_arm",
    "warm_up",
]


def __getattr__(name: str) -> Any:
    # Late, so that a replica, which trains nothing, goes without torch.
    if name in ("Share", "Shuffle", "TorchBatch", "TorchBatches"):
        from mlcluster.train import feeding

        return getattr(feeding, name)
    raise AttributeError(f"module 'mlcluster.train' has no attribute {name!r}")
