"""The model's own OpenAPI document: its real columns, and examples that are answered when they are pasted."""

from __future__ import annotations

from typing import Any

from mlcluster.data import FeatureColumn, TargetColumn
from mlcluster.serve.arrow_bodies import FILE, STREAM
from mlcluster.serve.inference_protocol import ModelTensors
from mlcluster.serve.label_targets import LabelTargets
from mlcluster.serve.predictor import Predictor
from mlcluster.serve.tensors import TensorSpec, input_specs

_JSON_TYPES = {"BOOL": "boolean", "BYTES": "string", "FP64": "number", "INT64": "integer", "UINT64": "integer"}
_PLACEHOLDERS: dict[str, Any] = {"BOOL": False, "BYTES": "", "FP64": 0.0, "INT64": 0, "UINT64": 0}
_JSON = "application/json"
_OCTETS = "application/octet-stream"
_BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}


def example_row(predictor: Predictor) -> dict[str, Any]:
    """One row of raw feature columns: the bundle's own example, or zeros where it has none."""
    given = predictor.bundle.input_example[0] if predictor.bundle.input_example else {}
    return {spec.name: given.get(spec.name, _PLACEHOLDERS[spec.datatype]) for spec in input_specs(predictor.schema)}


def infer_example(predictor: Predictor) -> dict[str, Any]:
    """A request to `/v2/models/NAME/infer` for the example row."""
    row = example_row(predictor)
    tensors = [
        {"name": spec.name, "shape": [1, 1], "datatype": spec.datatype, "data": [row[spec.name]]}
        for spec in input_specs(predictor.schema)
    ]
    return {"inputs": tensors}


def invocation_example(predictor: Predictor) -> dict[str, Any]:
    """A request to `/invocations` for the example row."""
    return {"dataframe_records": [example_row(predictor)]}


def feedback_example(predictor: Predictor) -> dict[str, Any]:
    """A request to `/feedback`, for a prediction that was never made."""
    classes = predictor.schema.target.classes
    prediction_id = f"{predictor.name}.{predictor.version}.{'0' * 32}"
    return {"prediction_id": prediction_id, "label": classes[0] if classes else 0.0}


def openapi_document(
    predictor: Predictor,
    *,
    server_version: str,
    targets: LabelTargets | None = None,
    has_statistics: bool = False,
) -> dict[str, Any]:
    """An OpenAPI 3.1 document of every route that answers for this model; labels are taken by `targets`, if at all."""
    model = f"/v2/models/{predictor.name}"
    versioned = f"{model}/versions/{predictor.version}"
    paths: dict[str, Any] = {
        "/v2": _get("Server metadata"),
        "/v2/health/live": _get("Whether the server runs"),
        "/v2/health/ready": _get("Whether the server answers predictions"),
    }
    for path in (model, versioned):
        paths[path] = _get("Model metadata: its inputs and outputs with their datatypes")
        paths[f"{path}/ready"] = _get("Whether the model answers predictions")
        if has_statistics:
            paths[f"{path}/statistics"] = _get("Live rows of this replica by cells of the reference profile, and drift")
        paths[f"{path}/infer"] = _infer(predictor)
    paths |= {
        "/invocations": _invocations(predictor),
        "/ping": _get("Whether the model answers predictions (MLflow)"),
        "/health": _get("Whether the model answers predictions (MLflow)"),
        "/version": _get("The server's version (MLflow)"),
        "/metrics": _get("Counters of this replica, for Prometheus"),
    }
    if targets is not None:
        paths["/feedback"] = _feedback(predictor, targets)
    card = predictor.bundle.card
    description = f"{card.family} for `{predictor.schema.target.name}` ({card.task}), version {predictor.version}."
    return {
        "openapi": "3.1.0",
        "info": {"title": predictor.name, "version": server_version, "description": description},
        "paths": paths,
        "components": {"schemas": {"Row": _row_schema(predictor), "Problem": _PROBLEM_SCHEMA}},
    }


_PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "RFC 9457, with the members that clients of the inference protocol and of MLflow read.",
    "properties": {
        **{name: {"type": "string"} for name in ("type", "title", "detail", "error", "error_code", "message", "field")},
        "status": {"type": "integer"},
    },
    "required": ["type", "title", "status", "detail", "error"],
}


def _row_schema(predictor: Predictor) -> dict[str, Any]:
    specs = input_specs(predictor.schema)
    properties = {
        spec.name: _column_schema(column, spec) for column, spec in zip(predictor.schema.features, specs, strict=True)
    }
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _column_schema(column: FeatureColumn, spec: TensorSpec) -> dict[str, Any]:
    schema = {"type": [_JSON_TYPES[spec.datatype], "null"], "description": f"{column.kind}, {column.arrow_type}"}
    return {**schema, "contentEncoding": "base64"} if spec.is_image else schema


def _get(summary: str) -> dict[str, Any]:
    return {"get": {"summary": summary, "responses": {"200": {"description": "OK"}}}}


def _infer(predictor: Predictor) -> dict[str, Any]:
    tensors = ModelTensors.of(predictor.schema)
    names, what = [spec.name for spec in tensors.inputs], "one tensor a column"
    if tensors.matrix is not None:
        names.append(tensors.matrix.name)
        what += f", or {tensors.matrix.name} alone, of shape [rows, {tensors.matrix.shape[-1]}]: all columns in order"
    tensor = {
        "type": "object",
        "properties": {
            "name": {"enum": names},
            "shape": {"type": "array", "items": {"type": "integer"}},
            "datatype": {"enum": [*_JSON_TYPES]},
            "data": {"type": "array"},
            "parameters": {"type": "object"},
        },
        "required": ["name", "shape", "datatype"],
    }
    schema = {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "parameters": {"type": "object"},
            "inputs": {"type": "array", "items": tensor, "description": what},
            "outputs": {"type": "array", "items": {"type": "object", "required": ["name"]}},
        },
        "required": ["inputs"],
    }
    outputs = ", ".join(spec.name for spec in tensors.outputs)
    operation = _post(f"Predict (Open Inference Protocol); outputs: {outputs}", schema, infer_example(predictor))
    return _with_arrow(operation, {_JSON: {"schema": {"type": "object"}}, _OCTETS: _BINARY})


def _invocations(predictor: Predictor) -> dict[str, Any]:
    rows = {"type": "array", "items": {"$ref": "#/components/schemas/Row"}}
    split = {
        "type": "object",
        "properties": {"columns": {"type": "array", "items": {"type": "string"}}, "data": {"type": "array"}},
    }
    schema = {
        "type": "object",
        "properties": {
            "dataframe_records": rows,
            "dataframe_split": split,
            "instances": {"type": "array"},
            "inputs": {"type": ["array", "object"]},
            "params": {"type": "object"},
        },
    }
    operation = _post("Predict (MLflow): exactly one of the forms", schema, invocation_example(predictor))
    operation["post"]["requestBody"]["content"]["text/csv"] = {"schema": {"type": "string"}}
    return _with_arrow(operation, {_JSON: {"schema": {"type": "object"}}})


def _with_arrow(operation: dict[str, Any], answers: dict[str, Any]) -> dict[str, Any]:
    """The operation, which takes tables of Arrow too, and answers in one of these forms or in Arrow's."""
    operation["post"]["requestBody"]["content"] |= {STREAM: _BINARY, FILE: _BINARY}
    operation["post"]["responses"]["200"]["content"] = answers | {STREAM: _BINARY}
    return operation


def _feedback(predictor: Predictor, targets: LabelTargets) -> dict[str, Any]:
    labels = [_label_schema(target) for target in (targets.own, *targets.others)]
    label = labels[0] if len(labels) == 1 else {"anyOf": labels, "description": "of the model that the id names"}
    item = {
        "type": "object",
        "properties": {"prediction_id": {"type": "string", "description": "with #i for row i"}, "label": label},
        "required": ["prediction_id", "label"],
        "additionalProperties": False,
    }
    listed = {
        "type": "object",
        "properties": {"feedback": {"type": "array", "items": item, "minItems": 1}},
        "required": ["feedback"],
        "additionalProperties": False,
    }
    summary = "What turned out to be true of earlier predictions; it is on disk when this answers"
    return _post(summary, {"oneOf": [item, listed]}, feedback_example(predictor))


def _label_schema(target: TargetColumn) -> dict[str, Any]:
    return {"enum": list(target.classes)} if target.classes else {"type": "number"}


def _post(summary: str, schema: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    refusals = {
        "400": "The body cannot be read",
        "406": "The answer has no form that the request accepts",
        "413": "The body is too large",
        "415": "The body has another content type",
        "422": "A field is unknown, missing or of the wrong type",
        "429": "Too many requests are in work; try again after Retry-After seconds",
        "504": "The time that the request had was over before the model was asked",
    }
    responses: dict[str, Any] = {"200": {"description": "OK; x-prediction-id names what was predicted"}}
    responses |= {status: {"description": text, "content": problem} for status, text in refusals.items()}
    body = {"required": True, "content": {_JSON: {"schema": schema, "example": example}}}
    return {"post": {"summary": summary, "requestBody": body, "responses": responses}}
