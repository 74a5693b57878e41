"""What is wrong with the data in ways that a model would hide: leaks, ids, constants, repeats, coded missing values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mlcluster.data.association import level_means, rank_correlation, single_feature_auc
from mlcluster.data.findings import Finding, Severity
from mlcluster.data.hashing import HashVector
from mlcluster.data.schema import FeatureColumn, TableSchema, TargetColumn
from mlcluster.data.target import encode_target, missing_mask
from mlcluster.data.transform import numbers_of

LEAK_AUC = 0.93
LEAK_CORRELATION = 0.99
_MANY_MISSING_SHARE = 0.4
_RARE_CLASS_SHARE = 0.15
# A stand-in for "missing" must be this frequent before it is told, and as a number far from the other values.
_SENTINEL_SHARE = 0.005
_SENTINEL_WORDS = frozenset(
    {"?", "unknown", "n/a", "na", "none", "null", "nan", "-", "--", "missing", "not available", "undefined", ""}
)
_SENTINEL_NUMBERS = (-1.0, -9.0, -99.0, -999.0, -9999.0, 99.0, 999.0, 9999.0, 99999.0, 999999.0)

FloatVector = npt.NDArray[np.float64]


def column_findings(table: pa.Table, schema: TableSchema) -> list[Finding]:
    """What stands out column by column; `table` holds features and target, and no row without a target."""
    findings = class_findings(table.column(schema.target.name), schema.target)
    target = encode_target(table.column(schema.target.name), schema.target).astype(np.float64)
    for feature in schema.features:
        if feature.kind == "image":
            continue  # each is different, and none is a number
        column = table.column(feature.name)
        found = _emptiness(column, feature) or _identity(column, feature)
        findings += [*found, *_sentinels(column, feature)]
        if not found or found[0].kind == "many_missing":
            findings += _leak(column, feature, target, schema.target)
    return findings


def row_findings(hashes: Mapping[str, Sequence[HashVector]], hash_mask: int = 0) -> list[Finding]:
    """Rows that stand more than once, within the data and across its splits; `hashes` per split and block.

    With a `hash_mask`, the hashes are of one row in `hash_mask + 1`, and the counts are estimates.
    """
    splits = {name: np.concatenate(parts) if parts else np.zeros(0, np.uint64) for name, parts in hashes.items()}
    findings = []
    everything = np.concatenate(list(splits.values()))
    num_repeats = len(everything) - len(np.unique(everything))
    about = "about " if hash_mask else ""
    if num_repeats:
        share = num_repeats / len(everything)
        num_repeats *= hash_mask + 1
        message = f"{about}{num_repeats} rows ({share:.2%}) repeat an earlier row in every column."
        severity: Severity = "warning" if share > 0.01 else "info"
        findings.append(Finding(kind="duplicate_rows", message=message, value=float(num_repeats), severity=severity))
    for name, other in splits.items():
        if name == "train":
            continue
        num_shared = int(np.isin(other, splits["train"]).sum())
        if num_shared:
            num_shared *= hash_mask + 1
            num_other = len(other) * (hash_mask + 1)
            message = f"{about}{num_shared} of {num_other} {name} rows stand in train too, so {name} scores flatter."
            findings.append(Finding(kind="split_overlap", message=message, value=float(num_shared)))
    return findings


def class_findings(column: pa.ChunkedArray, target: TargetColumn) -> list[Finding]:
    """Classes that are rare, or absent from these rows."""
    if target.task == "regression":
        return []
    counts = np.bincount(encode_target(column, target), minlength=len(target.classes))
    findings = []
    for label, count in zip(target.classes, counts.tolist(), strict=True):
        if not count:
            message = f"{target.name} = {label} stands in no train row and cannot be learned."
            findings.append(Finding(kind="class_without_train_rows", column=target.name, message=message, value=0.0))
    share = float(counts.min() / counts.sum()) * len(counts) / 2
    if counts.min() and share < _RARE_CLASS_SHARE:
        rarest = target.classes[int(counts.argmin())]
        exact = counts.min() / counts.sum()
        message = f"{target.name} = {rarest} has {exact:.1%} of the rows; accuracy says little, use roc_auc or recall."
        findings.append(Finding(kind="class_imbalance", column=target.name, message=message, value=float(exact)))
    return findings


def _emptiness(column: pa.ChunkedArray, feature: FeatureColumn) -> list[Finding]:
    is_missing = missing_mask(column)
    present = column.filter(pa.array(~is_missing))
    name = feature.name
    if not len(present):
        return [Finding(kind="all_missing", column=name, message=f"{name} is missing in every row.")]
    if pc.count_distinct(present.combine_chunks()).as_py() == 1 and not is_missing.any():
        message = f"{name} is {present[0].as_py()!r} in every train row and tells a model nothing; exclude it."
        return [Finding(kind="constant", column=name, message=message)]
    share = float(is_missing.mean())
    if share > _MANY_MISSING_SHARE:
        message = f"{name} is missing in {share:.0%} of the rows."
        return [Finding(kind="many_missing", column=name, message=message, value=share)]
    return []


def _identity(column: pa.ChunkedArray, feature: FeatureColumn) -> list[Finding]:
    """Columns that name the row rather than describe it."""
    num_rows = len(column)
    if num_rows < 50 or feature.kind == "boolean":
        return []
    if feature.kind == "category":
        share = pc.count_distinct(column.combine_chunks(), mode="only_valid").as_py() / num_rows
        if share <= 0.95:
            return []
        message = f"{feature.name} is different in {share:.0%} of the rows, like an id; exclude it, or name it as key."
        return [Finding(kind="id_like", column=feature.name, message=message, value=share)]
    if not pa.types.is_integer(column.type) or column.null_count:
        return []
    values = column.combine_chunks().to_numpy(zero_copy_only=False)
    steps = values[1:] > values[:-1]
    if steps.all() or not (values[1:] >= values[:-1]).any():
        message = f"{feature.name} counts up or down row by row, like an id or a clock; exclude it, or name it as time."
        return [Finding(kind="id_like", column=feature.name, message=message, value=1.0)]
    return []


def _sentinels(column: pa.ChunkedArray, feature: FeatureColumn) -> list[Finding]:
    if feature.kind == "boolean" or not len(column):
        return []
    coded = _sentinel_words(column) if feature.kind == "category" else _sentinel_numbers(numbers_of(column))
    findings = []
    for value, share in coded:
        message = f"{feature.name} is {value!r} in {share:.1%} of the rows, which looks like a code for missing."
        findings.append(Finding(kind="sentinel", column=feature.name, message=message, value=share, severity="info"))
    return findings


def _sentinel_words(column: pa.ChunkedArray) -> list[tuple[object, float]]:
    counts = pc.value_counts(column.combine_chunks()).to_pylist()
    return [
        (entry["values"], entry["counts"] / len(column))
        for entry in counts
        if isinstance(entry["values"], str) and entry["values"].strip().lower() in _SENTINEL_WORDS
    ]


def _sentinel_numbers(values: FloatVector) -> list[tuple[object, float]]:
    present = values[~np.isnan(values)]
    found: list[tuple[object, float]] = []
    for code in _SENTINEL_NUMBERS:
        is_code = present == code
        share = float(is_code.sum() / len(values))
        rest = present[~is_code]
        if share < _SENTINEL_SHARE or len(rest) < 2:
            continue
        spread = float(np.quantile(rest, 0.99) - np.quantile(rest, 0.01))
        # -1 among values from 0 up is the classic code; the others must lie well outside of the rest.
        is_outside = code < rest.min() if code < 0 else code > rest.max() + spread
        if is_outside and (code != -1.0 or rest.min() >= 0):
            found.append((int(code), share))
    return found


def _leak(
    column: pa.ChunkedArray, feature: FeatureColumn, target: FloatVector, target_column: TargetColumn
) -> list[Finding]:
    is_missing = missing_mask(column)
    if feature.kind == "category":
        scores = level_means(column, target)
    else:
        scores = numbers_of(column)
        scores[is_missing] = np.nan
    is_used = ~np.isnan(scores)
    if is_used.sum() < 50:
        return []
    scores, target = scores[is_used], target[is_used]
    name, goal = feature.name, target_column.name
    fix = "exclude it unless it is known at prediction time"
    if target_column.task == "binary":
        auc = single_feature_auc(scores, target == 1)
        if auc > LEAK_AUC:
            message = f"{name} alone tells {goal} with AUC {auc:.3f}; {fix}."
            return [Finding(kind="leak", column=name, message=message, value=auc)]
    elif target_column.task == "regression":
        auc = single_feature_auc(scores, target > np.median(target))
        correlation = rank_correlation(scores, target)
        if auc > LEAK_AUC or correlation > LEAK_CORRELATION:
            message = (
                f"{name} alone tells whether {goal} is above its median with AUC {auc:.3f} "
                f"(rank correlation {correlation:.3f}); {fix}."
            )
            # An honest feature may order a quantity this well; one that orders it all but perfectly hardly is.
            is_grave = auc > LEAK_CORRELATION or correlation > LEAK_CORRELATION
            severity: Severity = "warning" if is_grave else "info"
            return [Finding(kind="leak", column=name, message=message, value=auc, severity=severity)]
    return []
