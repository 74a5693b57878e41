"""Statistics that depend on the rows alone, and not on how they lie in files.

Rows are counted through the whole source and cut into chunks of 131,072. A chunk's partials are taken of all its rows
at once; where it reaches over the rows that one task has read, each task hands on the rows themselves, and the last
step puts them together. So one row group or a thousand, one worker or ten give the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from mlcluster.data.columns import ColumnPlan
from mlcluster.data.images import ImagePartial, image_partial, merged_images
from mlcluster.data.statistics import CategoryTally, ColumnPartial, merge_all, number_partial

CHUNK_ROWS = 1 << 17
# So many chunks, by their numbers, are merged as soon as they are there.
_GROUP = 16


@dataclass(frozen=True, kw_only=True)
class ChunkPart:
    """What a task knows of chunk `index`: its partials where the task has read all of it, else its train rows."""

    index: int
    partials: Mapping[str, ColumnPartial] | None = None
    rows: pa.Table | None = None
    images: Mapping[str, ImagePartial] = field(default_factory=dict)
    """Summed up as they are read, for a chunk of encoded images may be gigabytes; being whole numbers, they add up to
    the same in any pieces."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Extent:
    """Rows `start` up to `stop` of a source that has `num_rows`."""

    start: int
    stop: int
    num_rows: int

    def holds_chunk(self, index: int) -> bool:
        """Whether all rows of the chunk are among these."""
        return self.start <= index * CHUNK_ROWS and min((index + 1) * CHUNK_ROWS, self.num_rows) <= self.stop


class ChunkBuilder:
    """Takes the rows that one task reads, in order, and gives its `ChunkPart`s."""

    def __init__(self, features: Sequence[ColumnPlan], target: str, extent: Extent) -> None:
        self._features, self._pictures = _without_images(features), [each for each in features if each.image]
        self._target, self._extent = target, extent
        self._open: dict[int, list[pa.Table]] = {}
        self._images: dict[int, dict[str, ImagePartial]] = {}
        self._parts: list[ChunkPart] = []

    def add(self, table: pa.Table, is_train: pa.Array, first_row: int) -> None:
        """The next block: `table` (n rows) from `first_row` on, of which those that `is_train` (n,) marks count."""
        stop = first_row + table.num_rows
        for index in range(first_row // CHUNK_ROWS, -(-stop // CHUNK_ROWS)):
            start = max(index * CHUNK_ROWS, first_row)
            length = min((index + 1) * CHUNK_ROWS, stop) - start
            offset = start - first_row
            rows = table.slice(offset, length).filter(is_train.slice(offset, length))
            self._open.setdefault(index, []).append(self._without_pictures(rows, index))
            if (index + 1) * CHUNK_ROWS <= stop:
                self._close(index)

    def parts(self) -> list[ChunkPart]:
        """All parts, once every block has been added."""
        for index in list(self._open):
            self._close(index)
        return self._parts

    def _without_pictures(self, rows: pa.Table, index: int) -> pa.Table:
        """The rows without their images, which are summed up."""
        seen = self._images.setdefault(index, {})
        for picture in self._pictures:
            assert picture.image is not None, "pictures are images"
            own = image_partial(rows.column(picture.name), picture.image.max_pixels)
            seen[picture.name] = merged_images([seen[picture.name], own]) if picture.name in seen else own
        return rows.drop_columns([picture.name for picture in self._pictures]) if self._pictures else rows

    def _close(self, index: int) -> None:
        rows, images = pa.concat_tables(self._open.pop(index)), self._images.pop(index)
        if self._extent.holds_chunk(index):
            partials = chunk_partials(rows, self._features, self._target)
            self._parts.append(ChunkPart(index=index, partials=partials, images=images))
        else:
            self._parts.append(ChunkPart(index=index, rows=rows, images=images))


def _without_images(features: Sequence[ColumnPlan]) -> list[ColumnPlan]:
    return [feature for feature in features if feature.image is None]


def chunk_partials(rows: pa.Table, features: Sequence[ColumnPlan], target: str) -> dict[str, ColumnPartial]:
    """The partials of one chunk; none for a chunk without train rows."""
    if not rows.num_rows:
        return {}
    tally = CategoryTally(rows.column(target))
    return {feature.name: column_partial(rows.column(feature.name), feature, tally) for feature in features}


def column_partial(column: pa.ChunkedArray, feature: ColumnPlan, tally: CategoryTally) -> ColumnPartial:
    """The partial of one chunk's column (n,), of which `tally` has the target."""
    if feature.image is not None:
        return image_partial(column, feature.image.max_pixels)
    return tally.partial(column) if feature.kind == "category" else number_partial(column)


class ChunkMerger:
    """Puts the parts of all tasks together, which come in the order of the rows."""

    def __init__(self, features: Sequence[ColumnPlan], target: str) -> None:
        self._features, self._target = _without_images(features), target
        self._images: dict[str, ImagePartial] = {}
        self._groups: list[Mapping[str, ColumnPartial]] = []
        self._chunks: list[Mapping[str, ColumnPartial]] = []
        self._pieces: list[pa.Table] = []
        self._index = 0

    def add(self, part: ChunkPart) -> None:
        """The next part. A chunk in pieces is summed up when all of them are there, so that few rows are held."""
        if part.index != self._index:
            self._sum_up()
            if part.index // _GROUP != self._index // _GROUP:
                self._merge_group()
            self._index = part.index
        for name, own in part.images.items():
            self._images[name] = merged_images([self._images[name], own]) if name in self._images else own
        if part.partials is not None:
            self._chunks.append(part.partials)
        elif part.rows is not None:
            self._pieces.append(part.rows)

    def merged(self) -> Mapping[str, ColumnPartial]:
        """Every feature's partial over all chunks."""
        self._sum_up()
        self._merge_group()
        return {**self._merged(self._groups), **self._images}

    def _merge_group(self) -> None:
        held = [chunk for chunk in self._chunks if chunk]
        if held:
            self._groups.append(self._merged(held))
        self._chunks = []

    def _merged(self, parts: Sequence[Mapping[str, ColumnPartial]]) -> Mapping[str, ColumnPartial]:
        return {feature.name: merge_all([part[feature.name] for part in parts]) for feature in self._features}

    def _sum_up(self) -> None:
        if self._pieces:
            self._chunks.append(chunk_partials(pa.concat_tables(self._pieces), self._features, self._target))
            self._pieces = []
