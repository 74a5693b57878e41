"""Hashes of rows and values that are the same on every machine and in every session."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mlcluster.data.transform import dictionary_of

HashVector = npt.NDArray[np.uint64]

_MISSING = np.uint64(0x6D697373696E67)
# Row hashes of this many rows are held at once (16 MiB); of a larger source, the same share of every split.
_MAX_HASHES = 1 << 21


def mix(values: HashVector) -> HashVector:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): a bijection that scatters every bit."""
    with np.errstate(over="ignore"):
        mixed = values + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return mixed ^ (mixed >> np.uint64(31))


def text_hash(text: str) -> int:
    """64 bits of BLAKE2b."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _level_hash(level: object) -> int:
    if isinstance(level, bytes):
        return int.from_bytes(hashlib.blake2b(level, digest_size=8).digest(), "little")
    return text_hash(str(level))


def value_hashes(column: pa.ChunkedArray) -> HashVector:
    """A hash of each value, (n,): equal values have equal hashes, and missing (null or NaN) is a value of its own."""
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return _number_hashes(column)
    encoded = dictionary_of(column)
    levels = encoded.dictionary.to_pylist()
    hashes = [_level_hash(level) if level is not None else int(_MISSING) for level in levels]
    table = np.array([*hashes, int(_MISSING)], dtype=np.uint64)
    indices = pc.fill_null(encoded.indices, len(levels)).to_numpy(zero_copy_only=False)
    return np.asarray(table[indices])


def row_hashes(table: pa.Table, columns: list[str]) -> HashVector:
    """One hash a row over the values of `columns`, (n,)."""
    combined = np.zeros(table.num_rows, dtype=np.uint64)
    for name in columns:
        combined = mix(combined ^ value_hashes(table.column(name)))
    return combined


def column_hashes(table: pa.Table, columns: list[str], first_row: int) -> dict[str, int]:
    """One hash a column of what stands in which row; those of consecutive blocks are added up modulo 2^64."""
    rows = row_number_hashes(first_row, table.num_rows)
    with np.errstate(over="ignore"):
        return {name: int(np.sum(mix(value_hashes(table.column(name)) ^ rows))) for name in columns}


def row_number_hashes(first_row: int, num_rows: int) -> HashVector:
    """One hash a row of its number in the source, (num_rows,)."""
    return mix(np.arange(first_row, first_row + num_rows, dtype=np.uint64))


def hash_mask(num_rows: int) -> int:
    """Bits that must be 0 in a row's hash for it to be kept; 0, so that all are, for up to 2 M rows.

    By content, not by chance: rows that are equal are kept, or left out, together.
    """
    return (1 << (max(num_rows - 1, 0) // _MAX_HASHES).bit_length()) - 1


def kept_hashes(hashes: HashVector, mask: int) -> HashVector:
    """The hashes that share no bit with `mask`."""
    return hashes[(hashes & np.uint64(mask)) == 0] if mask else hashes


def seeded_shares(hashes: HashVector, seed: int) -> npt.NDArray[np.float64]:
    """Hashes as uniform numbers in [0, 1), another set for every seed."""
    start = mix(np.array([seed % 2**64], dtype=np.uint64))
    return np.asarray((mix(mix(hashes) ^ start) >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def _number_hashes(column: pa.ChunkedArray) -> HashVector:
    if pa.types.is_floating(column.type):
        values = column.cast(pa.float64()).to_numpy().astype(np.float64) + 0.0  # + 0.0: one zero, not two
        is_missing = np.isnan(values)
        bits = np.where(is_missing, 0.0, values).view(np.uint64)
    else:
        if pa.types.is_boolean(column.type):
            column = column.cast(pa.uint8())
        is_missing = column.is_null().to_numpy()
        numbers = pc.fill_null(column, 0).to_numpy()
        bits = numbers.astype(np.uint64 if numbers.dtype == np.uint64 else np.int64).view(np.uint64)
    return np.where(is_missing, _MISSING, mix(bits))
