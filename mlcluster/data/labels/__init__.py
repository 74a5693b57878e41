"""Where do labels come from that the source lacks, and which of those that it has are wrong?

In: label functions, annotators' answers, probabilities that a model gave. Out: one label a row with how sure it is, the
rows to ask about next, labels and rows to look at again. Not here: training a model; `cli/` brings its probabilities.
"""

from mlcluster.data.labels.acquisition import Choice, choose_rows, margins_of
from mlcluster.data.labels.agreement import cohen_kappas, krippendorff_alpha
from mlcluster.data.labels.answers import (
    Answer,
    Merged,
    merge_answers,
    named,
    read_records,
    read_store,
    store_lock,
    write_store,
)
from mlcluster.data.labels.consensus import Consensus, dawid_skene
from mlcluster.data.labels.filling import read_labelled_source, run_functions
from mlcluster.data.labels.functions import ABSTAIN, LabelFunction, apply_functions, label_function, load_functions
from mlcluster.data.labels.label_model import MIN_KNOWN, FunctionQuality, LabelModel, fit_label_model
from mlcluster.data.labels.noise import LabelAudit, audit_labels, describe_suspects
from mlcluster.data.labels.pool import Pool, read_pool
from mlcluster.data.labels.settling import Settled, answers_of, count_labels, known_codes, read_answers, settle
from mlcluster.data.labels.trimmed_loss import TrimmedModel, far_residuals, fit_trimmed, surprising_labels
from mlcluster.data.labels.votes import ABSTAINED, Votes, majority

__all__ = [
    "ABSTAIN",
    "ABSTAINED",
    "MIN_KNOWN",
    "Answer",
    "Choice",
    "Consensus",
    "FunctionQuality",
    "LabelAudit",
    "LabelFunction",
    "LabelModel",
    "Merged",
    "Pool",
    "Settled",
    "TrimmedModel",
    "Votes",
    "answers_of",
    "apply_functions",
    "audit_labels",
    "choose_rows",
    "cohen_kappas",
    "count_labels",
    "dawid_skene",
    "describe_suspects",
    "far_residuals",
    "fit_label_model",
    "fit_trimmed",
    "known_codes",
    "krippendorff_alpha",
    "label_function",
    "load_functions",
    "majority",
    "margins_of",
    "merge_answers",
    "named",
    "read_answers",
    "read_labelled_source",
    "read_pool",
    "read_records",
    "read_store",
    "run_functions",
    "settle",
    "store_lock",
    "surprising_labels",
    "write_store",
]
