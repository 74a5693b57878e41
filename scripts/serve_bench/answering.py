"""What the servers by hand share: the transform and the model as one writes them for one's own, unchecked."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import onnxruntime
import orjson

from mlcluster.registry import Bundle


class ByHand:
    """Bytes in, bytes out: orjson, dictionaries, numpy and ONNX Runtime."""

    def __init__(self, bundle: Bundle) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(bundle.model, options, providers=["CPUExecutionProvider"])
        self.classes = list(bundle.schema.target.classes)
        self._encoded_classes = [struct.pack("<I", len(name.encode())) + name.encode() for name in self.classes]
        self._width = bundle.transform.num_outputs
        starts = {name: part.start for name, part in bundle.transform.feature_slices.items()}
        columns = bundle.transform.columns
        self._categories = [
            (column, dict(zip((*column.levels, None), (*column.codes, column.missing_code), strict=True)))
            for column in columns
            if column.kind == "category"
        ]
        self._numbers = [column for column in columns if column.kind != "category"]
        self._names = [column.name for column in self._numbers]
        self._places = np.array([starts[name] for name in self._names])
        self._starts = starts
        self._is_scaled = self._numbers[0].kind == "scaled_number"
        if self._is_scaled:
            self._fill, self._low, self._high, self._center, self._scale = (
                np.array([getattr(column, key) for column in self._numbers])
                for key in ("fill", "low", "high", "center", "scale")
            )
            self._flagged = np.array([column.with_indicator for column in self._numbers])
        self._is_plain = len(columns) == self._width == len(self._numbers)

    def infer(self, body: bytes, header_length: str | None) -> tuple[bytes, int | None]:
        """The Open Inference Protocol; the length of the document where bytes follow it."""
        length = len(body) if header_length is None else int(header_length)
        request = orjson.loads(body[:length])
        columns: dict[str, Any] = {}
        for tensor in request["inputs"]:
            if tensor["name"] == "features":
                return self._matrix(np.frombuffer(body, "<f8", -1, length).reshape(tensor["shape"]))
            if "data" in tensor:
                columns[tensor["name"]] = tensor["data"]
            else:
                size = tensor["parameters"]["binary_data_size"]
                columns[tensor["name"]] = np.frombuffer(body, "<f8", size // 8, length)
                length += size
        return self._respond(self._scores(columns), is_binary=header_length is not None)

    def _matrix(self, values: np.ndarray) -> tuple[bytes, int | None]:
        """All columns in one; of numbers that are scaled, and nothing else."""
        return self._respond(self._answers(self._scaled(values)), is_binary=True)

    def _respond(self, scores: np.ndarray, *, is_binary: bool) -> tuple[bytes, int | None]:
        best = scores.argmax(axis=1).tolist()
        shape = [len(scores), len(self.classes)]
        outputs: list[dict[str, Any]] = [
            {"name": "label", "datatype": "BYTES", "shape": [len(scores)]},
            {"name": "probabilities", "datatype": "FP64", "shape": shape},
        ]
        if not is_binary:
            outputs[0]["data"] = [self.classes[place] for place in best]
            outputs[1]["data"] = scores.ravel().tolist()
            return orjson.dumps({"model_name": "model", "outputs": outputs}), None
        blocks = b"".join([self._encoded_classes[place] for place in best]), scores.tobytes()
        for output, block in zip(outputs, blocks, strict=True):
            output["parameters"] = {"binary_data_size": len(block)}
        document = orjson.dumps({"model_name": "model", "outputs": outputs})
        return document + b"".join(blocks), len(document)

    def invoke(self, body: bytes) -> bytes:
        """`dataframe_split`."""
        split = orjson.loads(body)["dataframe_split"]
        scores = self._scores(dict(zip(split["columns"], zip(*split["data"], strict=True), strict=True)))
        return orjson.dumps({"predictions": [self.classes[place] for place in scores.argmax(axis=1).tolist()]})

    def _scores(self, columns: dict[str, Any]) -> np.ndarray:
        values = np.array([columns[name] for name in self._names], dtype=np.float64).T
        if not self._is_scaled:
            features = values.astype(np.float32)
        elif self._is_plain:
            features = self._scaled(values)
        else:
            features = np.zeros((len(values), self._width), dtype=np.float32)
            is_missing = np.isnan(values)
            filled = np.clip(np.where(is_missing, self._fill, values), self._low, self._high)
            features[:, self._places] = (filled - self._center) / self._scale
            features[:, self._places[self._flagged] + 1] = is_missing[:, self._flagged]
            for column, codes in self._categories:
                start, rows = self._starts[column.name], columns[column.name]
                for row, value in enumerate(rows):
                    features[row, start + codes.get(value, column.other_code)] = 1.0
        return self._answers(np.ascontiguousarray(features))

    def _scaled(self, values: np.ndarray) -> np.ndarray:
        return ((np.clip(values, self._low, self._high) - self._center) / self._scale).astype(np.float32)

    def _answers(self, features: np.ndarray) -> np.ndarray:
        return self._session.run(["scores"], {"features": features})[0]
