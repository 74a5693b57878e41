"""What was answered, as columns: every value comes back, whichever way it was sent."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pytest

from mlcluster.serve.records.block import RecordBlock
from mlcluster.serve.records.layout import flat_table
from tests.registry.bundles import Task, sample_table
from tests.serve.answers import TRACE_ID, answered, labels_of, layout, recorded


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_rows_come_back_as_they_were_asked_and_answered(task: Task) -> None:
    asked = [answered(num_rows, seed=num_rows, task=task) for num_rows in (1, 5, 32, 1)]
    for one, record in zip(asked, recorded(*asked), strict=True):
        assert (record.id, record.model, record.version, record.trial_id) == (one.id, "demo", "3", "t-007")
        assert (record.request_id, record.trace_id) == ("r-1", TRACE_ID)
        assert (record.num_rows, record.latency_ms, record.digest) == (len(one.scores), 0.5, None)
        assert record.inputs == one.columns
        outputs = {"value": labels_of(one, task)} if task == "regression" else {"label": labels_of(one, task)}
        assert {name: record.outputs[name] for name in outputs} == outputs
        if task != "regression":
            assert record.outputs["probabilities"] == one.scores.tolist()


def test_the_moment_of_an_answer_is_that_of_its_id() -> None:
    (record,) = recorded(answered(at_ms=1_767_225_600_123))
    assert record.received_at == "2026-01-01T00:00:00.123+00:00"


def test_arrays_are_recorded_as_the_values_that_they_hold() -> None:
    table = sample_table(20, seed=3)
    lists = table.to_pydict()
    arrays = {
        "income": np.array([np.nan if value is None else value for value in lists["income"]], dtype=np.float32),
        "age": np.array(lists["age"], dtype=np.int16),
        "code": np.array(lists["code"], dtype=np.float64),
    }
    mixed, plain = recorded(answered(20, columns={**lists, **arrays}), answered(20, columns=lists))
    assert mixed.inputs["age"] == plain.inputs["age"]
    assert mixed.inputs["code"] == plain.inputs["code"]
    expected = [None if value is None else float(np.float32(value)) for value in lists["income"]]
    assert mixed.inputs["income"] == expected


@pytest.mark.parametrize("num_rows", [0, 101])
def test_many_rows_and_none_are_one_row_without_values(num_rows) -> None:
    before, many, after = recorded(answered(2), answered(num_rows, body=b"long"), answered(3))
    assert (many.num_rows, many.inputs, many.outputs) == (num_rows, None, None)
    assert many.digest == hashlib.sha256(b"long").hexdigest()
    assert (before.num_rows, after.num_rows) == (2, 3)
    assert len(after.inputs["city"]) == 3


def test_what_a_type_cannot_say_costs_that_value_and_nothing_beside_it() -> None:
    columns = {
        "income": [2**70, 1.5],
        "age": [3, 2**80],
        "city": ["\ud800", "Oslo"],
        "code": [1, 2],
        "member": [None, True],
    }
    (record,) = recorded(answered(2, columns=columns))
    assert record.inputs == {
        "income": [float(2**70), 1.5],
        "age": [3, None],
        "city": ["?", "Oslo"],
        "code": [1, 2],
        "member": [None, True],
    }


def test_a_request_without_a_column_is_refused_and_leaves_nothing_behind() -> None:
    block = RecordBlock(layout())
    block.add(answered(2))
    with pytest.raises(KeyError, match="member"):
        block.add(answered(1, columns={"income": [1.0], "age": [2], "city": [None], "code": [1]}))
    block.add(answered(1))
    batch = block.batch()
    batch.validate(full=True)
    assert pa.compute.list_value_length(batch["rows"]).to_pylist() == [2, 1]


def test_numbers_lie_where_arrow_wants_them_whatever_the_text_before_them() -> None:
    for length in range(8):
        block, one = RecordBlock(layout()), answered(3)
        block.add(one._replace(ids=one.ids._replace(request_id=b"r" * (1 + length))))
        table = flat_table(pa.Table.from_batches([block.batch()]))
        for name in ("probabilities", "input_income", "latency_ms", "num_rows"):
            for buffer in table[name].chunk(0).buffers():
                assert buffer is None or buffer.address % 8 == 0, name
