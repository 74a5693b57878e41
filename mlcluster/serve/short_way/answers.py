"""Answers to predictions that are plainly valid, from the body to the bytes that are sent; without a server.

A request that is anything else gives None, and is left to the careful application, which knows how to refuse. Both ways
share their limits, counts, ids and records, and give the same answers.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import orjson

from mlcluster.serve.answering import Answering, Received
from mlcluster.serve.deadline import Deadline, names_deadline
from mlcluster.serve.inference_protocol import ModelTensors, infer_response
from mlcluster.serve.negotiation import wanted_form
from mlcluster.serve.predictor import Prediction
from mlcluster.serve.reception import InFlight
from mlcluster.serve.short_way.requests import FastReader, FastRequest
from mlcluster.serve.short_way.row_encoder import RowEncoder
from mlcluster.serve.tracing import RequestIds

log = logging.getLogger(__name__)

_MAX_BODY_BYTES = 64 * 1024
"""Answering this much takes a few milliseconds; more would hold up the requests beside it."""
_ANY_TYPES = frozenset({None, b"application/json", b"application/octet-stream", b"application/x-www-form-urlencoded"})
_JSON_TYPES = frozenset({b"application/json"})
_JSON, _OCTETS = (b"content-type", b"application/json"), (b"content-type", b"application/octet-stream")
_HEADER_LENGTH = b"inference-header-content-length"
Headers = Mapping[bytes, bytes]
_Respond = Callable[[FastRequest, Prediction, str], tuple[bytes, int | None]]
_Read = Callable[[bytes, Headers], FastRequest | None]


@lru_cache(maxsize=64)
def _is_for_json(accept: bytes) -> bool:
    return wanted_form(accept.decode("latin-1")) == "json"


@dataclass(frozen=True, slots=True)
class _Route:
    template: str
    media_types: frozenset[bytes | None]
    read: _Read
    respond: _Respond


@dataclass(frozen=True, slots=True)
class FastAnswer:
    """A response of status 200."""

    headers: list[tuple[bytes, bytes]]
    content: bytes


class FastAnswers:
    """The short way of one predictor. For one event loop."""

    def __init__(
        self,
        answering: Answering,
        *,
        in_flight: InFlight,
        echo_request_id: bool,
        aliases: Sequence[str] = (),
    ) -> None:
        """`aliases` are other paths of the model."""
        predictor = answering.predictor
        self._answering = answering
        self.in_flight = in_flight
        self._metrics = answering.metrics
        self._echo_request_id = echo_request_id
        self.max_body_bytes = min(_MAX_BODY_BYTES, in_flight.limits.max_body_bytes)
        self._encoder = RowEncoder.of(predictor.schema, predictor.bundle.transform)
        self._reader = FastReader(ModelTensors.of(predictor.schema), max_rows=in_flight.limits.max_rows)
        self._members = {"model_name": predictor.name, "model_version": predictor.version}
        self._routes = self._table(aliases) if self._encoder is not None else {}

    def _table(self, aliases: Sequence[str]) -> dict[str, _Route]:
        name, version = self._members.values()
        model, versioned = "/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer"
        of_alias = _Route(model, _ANY_TYPES, self._read_infer, self._infer)
        return {f"{path}/infer": of_alias for path in aliases} | {
            model.format(name=name): _Route(model, _ANY_TYPES, self._read_infer, self._infer),
            versioned.format(name=name, version=version): _Route(versioned, _ANY_TYPES, self._read_infer, self._infer),
            "/invocations": _Route("/invocations", _JSON_TYPES, self._read_invocation, self._invoke),
        }

    @property
    def paths(self) -> frozenset[str]:
        """Of the requests (POST) that may be answered here."""
        return frozenset(self._routes)

    def may_answer(self, path: str, headers: Headers) -> bool:
        """Whether a request to one of `paths` with these headers is worth its body; none may be given twice."""
        announced = headers.get(b"content-length", b"none")
        return (
            headers.get(b"content-type") in self._routes[path].media_types
            and b"content-encoding" not in headers
            and (b"accept" not in headers or _is_for_json(headers[b"accept"]))
            and announced.isdigit()
            and len(announced) < 7
            and int(announced) <= self.max_body_bytes
            and self.in_flight.has_room
        )

    def answer(self, path: str, headers: Headers, body: bytes, started: float) -> FastAnswer | None:
        """The response, counted and recorded; `started` is of `time.perf_counter`."""
        route = self._routes[path]
        ids = RequestIds.of(headers)
        try:
            if names_deadline(headers) and self._is_late(headers, started):
                return None
            request = route.read(body, headers)
            if request is None or self._encoder is None:
                return None
            encoded = self._encoder.encode(request.columns, request.num_rows)
            if encoded is None:
                return None
            prediction = self._answering.predictor.predict_matrix(encoded.matrix)
            received = Received(body=body, started=started, ids=ids, doubles=encoded.doubles)
            prediction_id = self._answering.settle(request.columns, prediction, received)
            content, document_length = route.respond(request, prediction, prediction_id)
        except Exception:
            # The careful way meets it again, and has the words and the log for it.
            log.debug("the short way failed", exc_info=True)
            return None
        sent = [
            _JSON if document_length is None else _OCTETS,
            (b"content-length", b"%d" % len(content)),
            (b"x-prediction-id", prediction_id.encode("ascii")),
        ]
        if document_length is not None:
            sent.append((_HEADER_LENGTH, b"%d" % document_length))
        if self._echo_request_id:
            sent += ids.headers
        self._metrics.count_request(route.template, 200, time.perf_counter() - started)
        return FastAnswer(sent, content)

    def _is_late(self, headers: Headers, started: float) -> bool:
        default_seconds = self.in_flight.limits.timeout_seconds
        return Deadline.of(headers, started=started, default_seconds=default_seconds).has_passed

    def _read_infer(self, body: bytes, headers: Headers) -> FastRequest | None:
        return self._reader.infer(body, headers.get(_HEADER_LENGTH))

    def _infer(self, request: FastRequest, prediction: Prediction, prediction_id: str) -> tuple[bytes, int | None]:
        members: dict[str, object] = dict(self._members)
        if request.id is not None:
            members["id"] = request.id
        members["parameters"] = {"prediction_id": prediction_id}
        values = self._answering.values(prediction)
        return infer_response(members, request.outputs, values, request.num_rows)

    def _read_invocation(self, body: bytes, _: Headers) -> FastRequest | None:
        return self._reader.invocation(body)

    def _invoke(self, _: FastRequest, prediction: Prediction, prediction_id: str) -> tuple[bytes, int | None]:
        metadata = {"prediction_id": prediction_id, **self._members}
        return orjson.dumps({"predictions": prediction.labels, "metadata": metadata}), None
