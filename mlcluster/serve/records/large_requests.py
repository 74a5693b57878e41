"""Rows of a request of so many that its record keeps none: as many as are to be counted, spread over all of it."""

from __future__ import annotations

from mlcluster.serve.records.answered import Answered
from mlcluster.serve.records.block import RecordBlock
from mlcluster.serve.records.layout import MAX_RECORDED_ROWS


def is_large(answered: Answered) -> bool:
    """Whether its record keeps no values."""
    return len(answered.scores) > MAX_RECORDED_ROWS


def block_of_large(answered: Answered, most: int) -> RecordBlock:
    """Up to `most` of its rows with their values: all, or every second, third, ... one.

    As of several small requests, whose values a block keeps; it is for counting, and has the one id again and again.
    """
    step = -(-len(answered.scores) // most)
    block = RecordBlock(answered.layout)
    small = answered._replace(body=b"")
    stride = step * MAX_RECORDED_ROWS
    for start in range(0, len(answered.scores), stride):
        rows = slice(start, start + stride, step)
        block.add(
            small._replace(
                columns={name: values[rows] for name, values in answered.columns.items()},
                doubles=None if answered.doubles is None else answered.doubles[:, rows],
                scores=answered.scores[rows],
            )
        )
    return block
