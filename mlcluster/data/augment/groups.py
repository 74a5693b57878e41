"""Which train rows a key of `data.augment.oversample` means, and the rows that are made of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlcluster.data.augment.coverage import level_name
from mlcluster.data.augment.epochs import ImagePlace
from mlcluster.data.augment.oversample import ExtraRows, Rows, copies, interpolations, num_extra_rows
from mlcluster.data.schema import TableSchema
from mlcluster.data.transform import Transform, dictionary_of
from mlcluster.errors import DataError
from mlcluster.spec import AugmentSpec


def check_group(key: str, target: str, classes: Sequence[object], features: Sequence[str]) -> None:
    """That `key` names a class or a feature; whether the feature has that level, only its rows can say.

    Raises:
        DataError: it does not; it names the near ones.
    """
    words = [str(label) for label in classes]
    column, has_level, _ = key.partition("=")
    if key in words or (has_level and column in features):
        return
    known = [*words, *(f"{name}=..." for name in features)]
    near = difflib.get_close_matches(key, known, n=3, cutoff=0.5) or known[:5]
    raise DataError(
        f"data.augment.oversample = {key!r} is no class of {target} and no level of a feature; "
        f"name one like {', '.join(near)}."
    )


def group_rows(key: str, table: pa.Table, targets: npt.NDArray[np.generic], schema: TableSchema) -> Rows:
    """The numbers of the rows that `key` means, ascending: a class, or `column=level` with the level as text.

    `table` and `targets` (n,) are of the same rows. A class goes before a level of the same writing.

    Raises:
        DataError: the key is neither, or a class or level that there is not; it names the near ones.
    """
    check_group(key, schema.target.name, schema.target.classes, schema.feature_names)
    classes = [str(label) for label in schema.target.classes]
    if key in classes:
        return np.flatnonzero(targets == classes.index(key)).astype(np.int64)
    column, _, level = key.partition("=")
    rows = _rows_of_level(table.column(column), level)
    if not len(rows):
        raise DataError(f"data.augment.oversample = {key!r} has no row; name a level that {column} has.")
    return rows


def extra_rows(
    spec: AugmentSpec,
    table: pa.Table,
    dense: npt.NDArray[np.float32],
    targets: npt.NDArray[np.generic],
    schema: TableSchema,
    *,
    seed: int,
) -> ExtraRows:
    """What `spec.oversample` adds to the train split, of which `table`, `dense` (n, d) and `targets` (n,) are.

    Raises:
        DataError: a key means no group, or one without train rows.
    """
    members = [group_rows(key, table, targets, schema) for key in spec.oversample]
    for key, rows in zip(spec.oversample, members, strict=True):
        if not len(rows):
            raise DataError(f"data.augment.oversample = {key!r} has no train row to make rows of; drop it.")
    counts = num_extra_rows([len(rows) for rows in members], len(targets), list(spec.oversample.values()))
    parts = []
    for group, (rows, count) in enumerate(zip(members, counts, strict=True)):
        if spec.interpolate:
            parts.append(interpolations(rows, targets, dense, count=count, seed=seed, group=group))
        else:
            parts.append(copies(rows, count=count, seed=seed, group=group))
    return ExtraRows.together(parts)


def check_images(spec: AugmentSpec, kinds: Iterable[str]) -> None:
    """That there are images to move, where `spec` asks for that; `kinds` are those of the features.

    Raises:
        DataError: there are none.
    """
    if spec.images.is_on and "image" not in kinds:
        asked = spec.images.model_dump(exclude_defaults=True)
        raise DataError(f"data.augment.images = {asked} moves images, and no feature is one; drop it.")


def number_columns(schema: TableSchema, transform: Transform) -> npt.NDArray[np.intp]:
    """The places of numbers in an encoded matrix: no categories, no booleans, no indicators of what is missing."""
    names = [feature.name for feature in schema.features if feature.kind == "number"]
    return np.array([transform.feature_slices[name].start for name in names], dtype=np.intp)


def image_places(schema: TableSchema, transform: Transform) -> tuple[ImagePlace, ...]:
    """Where the images of a row stand in an encoded matrix."""
    return tuple(
        ImagePlace(start=transform.feature_slices[feature.name].start, shape=feature.image)
        for feature in schema.features
        if feature.image is not None
    )


def _rows_of_level(column: pa.ChunkedArray, level: str) -> Rows:
    encoded = dictionary_of(column)
    levels = encoded.dictionary.to_pylist()
    wanted = [place for place, value in enumerate(levels) if level_name(value) == level]
    codes = encoded.indices.fill_null(-1).to_numpy()
    return np.flatnonzero(np.isin(codes, wanted)).astype(np.int64)
