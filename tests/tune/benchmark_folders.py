"""Small benchmark folders of both kinds, made by the tests that load them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import TensorProto, helper

NUM_CONFIGS = 30
TABLE_EPOCHS = 9
SURROGATE_EPOCHS = 4

SPACE = [
    {"name": "rate", "type": "float", "low": 0.01, "high": 1.0, "log": True},
    {"name": "width", "type": "int", "low": 1, "high": 10, "log": False},
]


def write_table(folder: Path, *, tasks: tuple[str, ...] = ("easy", "hard"), seed: int = 0) -> Path:
    """A minimised metric; configuration i takes 1 + i % 3 seconds an epoch, and its loss is its distance to a best."""
    document: dict[str, Any] = {
        "name": "tiny-table",
        "kind": "table",
        "metric": "valid_loss",
        "direction": "minimize",
        "max_epochs": TABLE_EPOCHS,
        "time": "a note that loaders may ignore",
        "space": SPACE,
        "tasks": {},
    }
    (folder / "curves").mkdir(parents=True)
    for number, task in enumerate(tasks):
        rng = np.random.default_rng([seed, number])
        rate, width = 10 ** rng.uniform(-2, 0, NUM_CONFIGS), rng.integers(1, 11, NUM_CONFIGS)
        final = np.abs(np.log10(rate) + 1) + np.abs(width - 5) / 10 + 0.01 * np.arange(NUM_CONFIGS)
        document["tasks"][task] = _write_curves(folder / "curves" / task, rate, width, final)
    (folder / "benchmark.json").write_text(json.dumps(document))
    return folder


def _write_curves(stem: Path, rate: Any, width: Any, final: Any) -> dict[str, float]:
    ids = np.arange(NUM_CONFIGS, dtype=np.int32)
    epochs = np.arange(1, TABLE_EPOCHS + 1)
    losses = final[:, None] + 1 / epochs
    seconds = (1.0 + ids % 3)[:, None] * epochs
    pq.write_table(pa.table({"config_id": ids, "rate": rate, "width": width}), f"{stem}.configs.parquet")
    columns = {
        "config_id": np.repeat(ids, TABLE_EPOCHS),
        "epoch": np.tile(epochs, NUM_CONFIGS).astype(np.int16),
        "valid_loss": losses.ravel(),
        "seconds_cumulative": seconds.ravel(),
    }
    # Rows in no order: a loader must not trust theirs.
    table = pa.table(columns).take(np.random.default_rng(0).permutation(NUM_CONFIGS * TABLE_EPOCHS))
    pq.write_table(table, f"{stem}.parquet")
    low, middle, high = np.quantile(losses[:, -1], [0.001, 0.01, 0.05])
    return {"mean_cost_seconds": 18.0, "median": 1.0, "q95": float(high), "q99": float(middle), "q999": float(low)}


def write_surrogate(folder: Path) -> Path:
    """A maximised metric: seconds = raw epoch x width x task code, accuracy = raw epoch + rate; raw epochs from 2."""
    folder.mkdir(parents=True)
    document = {
        "name": "tiny-surrogate",
        "kind": "surrogate",
        "metric": "accuracy",
        "direction": "maximize",
        "max_epochs": SURROGATE_EPOCHS,
        "first_raw_epoch": 2,
        "outputs": ["seconds_cumulative", "accuracy"],
        "space": SPACE,
        "tasks": {
            "one": {"code": 1, "mean_cost_seconds": 27.5, "median": 5.1, "q95": 5.5, "q99": 5.9, "q999": 5.99},
            "minus": {"code": -1, "mean_cost_seconds": 1.0, "median": 5.1, "q95": 5.5, "q99": 5.9, "q999": 5.99},
        },
    }
    (folder / "benchmark.json").write_text(json.dumps(document))
    onnx.save(_surrogate_model(), folder / "surrogate.onnx")
    return folder


def _surrogate_model() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Split", ["x_cont"], ["epoch", "rate", "width"], axis=1, num_outputs=3),
        helper.make_node("Cast", ["x_cat"], ["code"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["epoch", "width"], ["work"]),
        helper.make_node("Mul", ["work", "code"], ["seconds"]),
        helper.make_node("Add", ["epoch", "rate"], ["accuracy"]),
        helper.make_node("Concat", ["seconds", "accuracy"], ["output"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info("x_cat", TensorProto.INT32, ["n", 1]),
            helper.make_tensor_value_info("x_cont", TensorProto.FLOAT, ["n", 3]),
        ],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["n", 2])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
