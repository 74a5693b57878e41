"""What the servers are asked, and what they must answer."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from mlcluster.serve import Predictor
from serve_bench.models import Model

KEY = "bench"
"""Each request bears it, and `ours-front` asks for it."""
FORMS = ("json", "binary", "rows", "matrix")
"""Tensors as JSON, tensors as bytes (Open Inference Protocol), rows (`dataframe_split` of MLflow), and all columns as
one tensor of bytes."""
BINARY_FORMS = ("binary", "matrix")
"""Which neither text nor nulls have."""
_DATATYPES = {"number": ("FP64", "<f8"), "boolean": ("BOOL", "?")}


@dataclass(frozen=True, kw_only=True)
class Question:
    """One request, and the answers of the batch path to it."""

    form: str
    num_rows: int
    path: str
    headers: dict[str, str]
    body: bytes
    labels: list[Any]
    scores: np.ndarray


def question(model: Model, form: str, num_rows: int) -> Question:
    """The first `num_rows` rows of the model, in that form."""
    rows = model.rows.slice(0, num_rows)
    answers = Predictor(model.bundle).predict(rows)
    path, headers = f"/v2/models/{model.name}/infer", {"content-type": "application/json"}
    if form == "rows":
        path = "/invocations"
        split = {"columns": rows.column_names, "data": [list(row.values()) for row in rows.to_pylist()]}
        body = json.dumps({"dataframe_split": split}).encode()
    elif form == "json":
        body = json.dumps({"inputs": [_json_tensor(name, rows.column(name)) for name in rows.column_names]}).encode()
    else:
        tensors, blocks = _matrix(rows) if form == "matrix" else _binary_tensors(rows)
        document = json.dumps({"inputs": tensors, "parameters": {"binary_data_output": True}}).encode()
        body = document + b"".join(blocks)
        headers = {
            "content-type": "application/octet-stream",
            "inference-header-content-length": str(len(document)),
        }
    headers["x-api-key"] = KEY
    return Question(
        form=form,
        num_rows=num_rows,
        path=path,
        headers=headers,
        body=body,
        labels=answers.labels,
        scores=answers.scores,
    )


def _datatype(column: pa.ChunkedArray) -> str:
    if pa.types.is_string(column.type):
        return "BYTES"
    return "BOOL" if pa.types.is_boolean(column.type) else "INT64" if pa.types.is_integer(column.type) else "FP64"


def _json_tensor(name: str, column: pa.ChunkedArray) -> dict[str, Any]:
    return {"name": name, "shape": [len(column), 1], "datatype": _datatype(column), "data": column.to_pylist()}


def _binary_tensor(name: str, column: pa.ChunkedArray) -> tuple[dict[str, Any], bytes]:
    block = np.asarray(column.to_numpy(), dtype="<f8").tobytes()
    parameters = {"binary_data_size": len(block)}
    return {"name": name, "shape": [len(column), 1], "datatype": "FP64", "parameters": parameters}, block


def _binary_tensors(rows: pa.Table) -> Any:
    return zip(*(_binary_tensor(name, rows.column(name)) for name in rows.column_names), strict=True)


def _matrix(rows: pa.Table) -> Any:
    block = np.column_stack([column.to_numpy() for column in rows.columns]).astype("<f8").tobytes()
    parameters = {"binary_data_size": len(block)}
    shape = [rows.num_rows, rows.num_columns]
    return [{"name": "features", "shape": shape, "datatype": "FP64", "parameters": parameters}], [block]


def check(asked: Question, headers: dict[str, str], body: bytes) -> None:
    """Passes when the answer is that of the batch path.

    Raises:
        AssertionError: it is another.
    """
    length = headers.get("inference-header-content-length")
    document = json.loads(body[: int(length)] if length else body)
    if asked.form == "rows":
        assert document["predictions"] == asked.labels, (document, asked.labels)
        return
    outputs = {output["name"]: output for output in document["outputs"]}
    if length:
        sizes = [output["parameters"]["binary_data_size"] for output in document["outputs"]]
        assert [output["name"] for output in document["outputs"]] == ["label", "probabilities"]
        labels = _strings(body[int(length) : int(length) + sizes[0]])
        scores = np.frombuffer(body[int(length) + sizes[0] :], "<f8")
    else:
        labels, scores = outputs["label"]["data"], np.array(outputs["probabilities"]["data"])
    assert labels == asked.labels, (labels, asked.labels)
    np.testing.assert_allclose(scores.reshape(asked.scores.shape), asked.scores, rtol=1e-6, atol=1e-6)


def _strings(block: bytes) -> list[str]:
    found, at = [], 0
    while at < len(block):
        (length,) = struct.unpack_from("<I", block, at)
        found.append(block[at + 4 : at + 4 + length].decode())
        at += 4 + length
    return found
