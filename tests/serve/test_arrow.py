"""Tables as Arrow IPC: the answers of JSON to the bit, and no body that makes a replica large or ends it."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mlcluster.serve import RequestLimits
from mlcluster.serve.arrow_bodies import FILE, STREAM
from tests.registry.bundles import sample_bundle, sample_table
from tests.serve.app_client import AppClient
from tests.serve.arrow_samples import file_of, stream_of, with_announced_length
from tests.serve.test_http_app import INFER, assert_problem

INVOKE = "/invocations"
PLAIN = {"content-type": "application/json"}


def send(client: AppClient, body: bytes, *, url: str = INFER, kind: str = STREAM, **headers: str) -> Any:
    return client.post(url, content=body, headers={"content-type": kind} | headers)


def table_of(answer: Any) -> pa.Table:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == STREAM
    return pa.ipc.open_stream(io.BytesIO(answer.content)).read_all()


def as_json(client: AppClient, table: pa.Table) -> dict[str, list[Any]]:
    kinds = {"income": "FP64", "age": "INT64", "city": "BYTES", "code": "INT64", "member": "BOOL"}
    inputs = [
        {"name": name, "shape": [table.num_rows], "datatype": kind, "data": table[name].to_pylist()}
        for name, kind in kinds.items()
    ]
    answer = client.post(INFER, json={"inputs": inputs}).json()
    return {output["name"]: output["data"] for output in answer["outputs"]}


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("num_rows", [0, 1, 700])
def test_arrow_has_the_answers_of_json_to_the_bit(start, records, task, num_rows) -> None:
    client, table = start(sample_bundle(task)), sample_table(num_rows, seed=num_rows)
    expected = as_json(client, table)
    recorded = records.records[-1]
    answers = table_of(send(client, stream_of(table), accept=STREAM))
    for name, values in expected.items():
        column = answers[name].combine_chunks()
        found = column.flatten().to_pylist() if pa.types.is_fixed_size_list(column.type) else column.to_pylist()
        assert found == values
    by_protocol = send(client, stream_of(table)).json()["outputs"]
    assert {output["name"]: output["data"] for output in by_protocol} == expected
    labels = expected["value" if task == "regression" else "label"]
    assert send(client, stream_of(table), url=INVOKE).json()["predictions"] == labels
    assert all(record.inputs == recorded.inputs for record in records.records)
    assert all(record.outputs == recorded.outputs for record in records.records)


def test_ids_and_the_model_stand_in_the_metadata_of_the_schema(client, records) -> None:
    answer = send(client, stream_of(sample_table(2)), accept=STREAM)
    metadata = {key.decode(): value.decode() for key, value in table_of(answer).schema.metadata.items()}
    assert metadata == {
        "prediction_id": answer.headers["x-prediction-id"],
        "model_name": "demo",
        "model_version": "3",
    }
    assert records.records[-1].id == metadata["prediction_id"]
    body = {"id": "mine", "inputs": [], "outputs": []}
    asked = client.post(INFER, json=body | {"inputs": tensors()}, headers={"accept": STREAM})
    assert table_of(asked).schema.metadata[b"id"] == b"mine"


def tensors() -> list[dict[str, Any]]:
    row = {"income": ("FP64", 50.5), "age": ("INT64", 41), "city": ("BYTES", "Oslo"), "code": ("INT64", 2)}
    row["member"] = ("BOOL", True)
    return [{"name": name, "shape": [1], "datatype": kind, "data": [value]} for name, (kind, value) in row.items()]


def test_json_may_be_answered_in_arrow_with_the_outputs_that_it_asks_for(client) -> None:
    body = {"inputs": tensors(), "outputs": [{"name": "probabilities"}]}
    assert table_of(client.post(INFER, json=body, headers={"accept": STREAM})).column_names == ["probabilities"]
    rows = {"instances": [[50.5, 41, "Oslo", 2, True]]}
    answer = table_of(client.post(INVOKE, json=rows, headers={"accept": STREAM}))
    assert answer.column_names == ["label", "probabilities"]
    assert answer.schema.field("probabilities").type == pa.list_(pa.float64(), 2)


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_files_batches_and_compression_change_nothing(client, compression) -> None:
    table = sample_table(300, seed=4)
    expected = as_json(client, table)["label"]
    coded = table.set_column(2, "city", table["city"].dictionary_encode())
    for rows in (table, coded):
        for body, kind in (
            (stream_of(rows, compression=compression), STREAM),
            (stream_of(rows, compression=compression, rows_per_batch=7), STREAM),
            (file_of(rows, compression=compression), FILE),
        ):
            assert send(client, body, kind=kind, url=INVOKE).json()["predictions"] == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"income": pa.float32(), "age": pa.int8()},
        {"income": pa.float16(), "age": pa.uint64(), "city": pa.large_string()},
        {"age": pa.float64(), "code": pa.int16()},
        {"city": pa.dictionary(pa.int8(), pa.string()), "code": pa.dictionary(pa.int32(), pa.int64())},
        {"city": pa.dictionary(pa.uint16(), pa.large_string()), "income": pa.dictionary(pa.int8(), pa.float64())},
        {"income": pa.decimal128(10, 1), "age": pa.decimal128(19, 0)},
    ],
)
def test_a_column_may_have_any_type_that_holds_its_values(client, changes: dict[str, pa.DataType]) -> None:
    table = sample_table(60, seed=2)
    income = pa.array([None if value is None else float(round(value)) for value in table["income"].to_pylist()])
    table = table.set_column(0, "income", income)
    expected = as_json(client, table)
    for name, kind in changes.items():
        column = table[name]
        coded = column.cast(kind.value_type).dictionary_encode() if pa.types.is_dictionary(kind) else column
        table = table.set_column(table.column_names.index(name), name, coded.cast(kind))
    answer = send(client, stream_of(table)).json()
    assert {output["name"]: output["data"] for output in answer["outputs"]} == expected


def test_nan_is_missing_and_infinity_is_refused_by_name(client) -> None:
    table = sample_table(2).set_column(0, "income", pa.array([float("nan"), 1.0]))
    missing = table.set_column(0, "income", pa.array([None, 1.0]))
    assert (
        send(client, stream_of(table), url=INVOKE).json()["predictions"]
        == (send(client, stream_of(missing), url=INVOKE).json()["predictions"])
    )
    infinite = table.set_column(0, "income", pa.array([1.0, float("inf")]))
    assert assert_problem(send(client, stream_of(infinite)), 422)["field"] == "income"


def replaced(name: str, values: pa.Array) -> pa.Table:
    table = sample_table(2)
    return table.set_column(table.column_names.index(name), name, values)


@pytest.mark.parametrize(
    ("table", "field", "detail"),
    [
        (sample_table(2).drop_columns(["age"]), "age", "is missing"),
        (sample_table(2).rename_columns(["incme", "age", "city", "code", "member"]), "incme", "did you mean income?"),
        (sample_table(2).rename_columns(["age", "age", "city", "code", "member"]), "age", "stands twice"),
        (replaced("age", pa.array(["1", "2"])), "age", "'1' in row 0 is no int64"),
        (replaced("age", pa.array([1.5, 2.0])), "age", "= 1.5 in row 0"),
        (replaced("age", pa.array([2**64 - 1, 1], pa.uint64())), "age", "is no int64"),
        (replaced("city", pa.array([b"a", b"b"])), "city", "is no string"),
        (replaced("member", pa.array([1, 0])), "member", "is no bool"),
        (replaced("age", pa.array([[1], [2]])), "age", "has a type that no column"),
        (replaced("age", pa.array([{"a": 1}, {"a": 2}])), "age", "has a type that no column"),
        (replaced("age", pa.array([1, 2], pa.timestamp("s"))), "age", "has a type that no column"),
        (replaced("age", pa.array([[1], [2]], pa.list_(pa.int8(), 1))), "age", "has a type that no column"),
        (replaced("city", pa.array(["a", "b"], pa.string_view())), "city", "has a type that no column"),
        (replaced("age", pa.RunEndEncodedArray.from_arrays([2], pa.array([1]))), "age", "has a type that no column"),
        (replaced("age", pa.MapArray.from_arrays([0, 1, 2], ["a", "b"], [1, 2])), "age", "has a type that no column"),
    ],
)  # fmt: skip
def test_a_column_that_does_not_fit_is_named(client, table: pa.Table, field: str, detail: str) -> None:
    for url in (INFER, INVOKE):
        problem = assert_problem(send(client, stream_of(table), url=url), 422)
        assert (problem["field"], detail in problem["detail"]) == (field, True), problem["detail"]


def test_a_schema_that_nests_deeply_is_refused(client) -> None:
    kind: pa.DataType = pa.int64()
    for depth in range(60):  # pyarrow writes no deeper ones
        kind = pa.list_(kind) if depth % 2 else pa.struct([("a", kind)])
    assert assert_problem(send(client, stream_of(replaced("age", pa.nulls(2, kind)))), 422)["field"] == "age"


def test_the_code_of_an_extension_type_does_not_run(client) -> None:
    ran: list[bytes] = []

    class Surprise(pa.ExtensionType):
        def __init__(self) -> None:
            super().__init__(pa.int64(), "tests.surprise")

        def __arrow_ext_serialize__(self) -> bytes:
            return b"x"

        @classmethod
        def __arrow_ext_deserialize__(cls, storage_type: Any, serialized: bytes) -> Surprise:
            ran.append(serialized)
            return cls()

    column = pa.ExtensionArray.from_storage(Surprise(), pa.array([1, 2]))
    body = stream_of(replaced("age", column))
    pa.register_extension_type(Surprise())
    try:
        assert "extension type" in assert_problem(send(client, body), 422)["detail"]
    finally:
        pa.unregister_extension_type("tests.surprise")
    assert ran == []


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_what_becomes_too_large_is_refused_before_it_is_decompressed(start, compression) -> None:
    client = start(limits=RequestLimits(max_decoded_bytes=2**20))
    text = replaced("city", pa.array(["a" * 2**20, "b"]))
    body = stream_of(text, compression=compression)
    assert len(body) < 2**15
    assert "1048576 bytes" in assert_problem(send(client, body), 413)["detail"]
    assert send(client, stream_of(sample_table(1_000), compression=compression)).status_code == 200


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
@pytest.mark.parametrize("announced", [0, 1, 799, 801, 2**20, -2, -(2**63), 2**62])
def test_a_length_that_lies_is_refused(client, compression, announced) -> None:
    table = sample_table(100).set_column(0, "income", pa.array(np.zeros(100)))
    body = with_announced_length(stream_of(table, compression=compression), 800, announced)
    assert send(client, body).status_code in (400, 413)


def test_a_long_string_in_a_dictionary_is_not_written_out_for_each_row(start) -> None:
    client = start(limits=RequestLimits(max_decoded_bytes=2**20))
    table = sample_table(1_000)
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000, pa.int8()), pa.array(["a" * 10_000]))
    body = stream_of(table.set_column(2, "city", column))
    assert len(body) < 2**17
    assert_problem(send(client, body), 413)
    rows = table.slice(0, 50).set_column(2, "city", column.slice(0, 50))
    assert send(client, stream_of(rows)).status_code == 200


def test_rows_columns_batches_and_deltas_have_limits(start) -> None:
    client = start(limits=RequestLimits(max_rows=10))
    assert "at most 10" in assert_problem(send(client, stream_of(sample_table(11))), 422)["detail"]
    assert_problem(send(client, stream_of(sample_table(12), rows_per_batch=5)), 422)
    nulls = pa.table({name: pa.nulls(10**9) for name in sample_table(1).column_names})
    assert_problem(send(client, stream_of(nulls)), 422)
    wide = sample_table(1)
    for index in range(50):
        wide = wide.append_column(f"c{index}", pa.array([1]))
    assert_problem(send(client, stream_of(wide)), 400)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, sample_table(1).schema) as writer:
        for _ in range(1_100):
            writer.write_table(sample_table(0).combine_chunks())
            writer.write_batch(pa.RecordBatch.from_pylist([], schema=sample_table(0).schema))
    assert "batches" in assert_problem(send(client, sink.getvalue().to_pybytes()), 413)["detail"]
    grown = [pa.array(values).dictionary_encode() for values in (["a"], ["a", "b"])]
    schema = pa.schema([("city", grown[0].type)])
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
    with pa.ipc.new_stream(sink, schema, options=options) as writer:
        for values in grown:
            writer.write_batch(pa.RecordBatch.from_arrays([values], schema=schema))
    assert "delta" in assert_problem(send(client, sink.getvalue().to_pybytes()), 422)["detail"]


def test_a_body_that_is_cut_short_anywhere_is_refused(client) -> None:
    table = sample_table(20).set_column(2, "city", sample_table(20)["city"].dictionary_encode())
    for body, kind in ((stream_of(table, compression="zstd"), STREAM), (file_of(table), FILE)):
        statuses = {at: send(client, body[:at], kind=kind).status_code for at in range(len(body))}
        assert set(statuses.values()) == {400}


@pytest.mark.parametrize("body", [b"", b"x", b"\xff" * 8, b"ARROW1\0\0", b"ARROW1\0\0ARROW1", b"{}", bytes(100)])
def test_what_is_no_arrow_is_refused(client, body) -> None:
    for kind in (STREAM, FILE):
        assert_problem(send(client, body, kind=kind), 400)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", "json"),
        ("*/*", "json"),
        ("application/*", "json"),
        ("application/json", "json"),
        ("application/octet-stream", "json"),
        ("text/html, */*;q=0.1", "json"),
        (STREAM, "arrow"),
        (f"{STREAM}, */*", "arrow"),
        (f"application/json;q=0.5, {STREAM}", "arrow"),
        (f"application/json, {STREAM};q=0.5", "json"),
        (f"{STREAM.upper()} ; Q=1.0", "arrow"),
        (f"application/json;q=0, {STREAM};q=0.1, */*;q=0", "arrow"),
        ("text/html", None),
        (FILE, None),
        ("application/json;q=0, application/octet-stream;q=0", None),
        ("*/*;q=0", None),
        ("*/*;q=often", None),
        ("nonsense", None),
    ],
)
def test_the_answer_has_a_form_that_is_accepted(client, accept, form) -> None:
    for url, body in ((INFER, {"inputs": tensors()}), (INVOKE, {"instances": [[50.5, 41, "Oslo", 2, True]]})):
        answer = client.post(url, json=body, headers={"accept": accept})
        if form is None:
            assert "accept one of application/json" in assert_problem(answer, 406)["detail"]
        else:
            assert answer.headers["content-type"] == ("application/json" if form == "json" else STREAM)


def test_the_document_names_the_forms(client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    for path in ("/v2/models/demo/infer", INVOKE):
        assert {STREAM, FILE} <= paths[path]["post"]["requestBody"]["content"].keys()
        assert STREAM in paths[path]["post"]["responses"]["200"]["content"]
        assert "406" in paths[path]["post"]["responses"]


@pytest.mark.slow
def test_mutated_bodies_neither_end_a_replica_nor_make_it_large() -> None:
    root = Path(__file__).resolve().parents[2]
    told = [
        subprocess.run(
            [sys.executable, "-m", "tests.serve.arrow_mutations", str(seed), "600"],
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
        )
        for seed in (1, 2)
    ]
    assert [(done.returncode, done.stderr) for done in told] == [(0, "")] * 2
    answered = [ast.literal_eval(done.stdout) for done in told]
    assert all(found.keys() <= {200, 400, 413, 422} and found[400] > 200 and found[200] > 20 for found in answered)
    assert answered[0] != answered[1]
