"""Predictions over HTTP, the careful way: a body by its type, the answer in the form that was asked for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from mlcluster.serve import arrow_bodies
from mlcluster.serve.answering import Received
from mlcluster.serve.careful import Answer, CarefulAnswers
from mlcluster.serve.deadline import Deadline
from mlcluster.serve.inference_protocol import (
    HEADER_LENGTH,
    InferRequest,
    infer_response,
    parse_infer_request,
    requested_outputs,
)
from mlcluster.serve.invocations import Columns, parse_csv_invocation, parse_json_invocation
from mlcluster.serve.json_body import JSON, json_response
from mlcluster.serve.negotiation import wants_arrow
from mlcluster.serve.reception import IDS_KEY, media_type, read_body
from mlcluster.serve.tensors import TensorSpec

_OCTETS = "application/octet-stream"
_ARROW_TYPES = (arrow_bodies.STREAM, arrow_bodies.FILE)
_INFER_TYPES = ("", JSON, _OCTETS, "application/x-www-form-urlencoded", *_ARROW_TYPES)
"""`curl -d` calls its JSON a form, and Triton's client gives no type at all."""
_INVOCATION_TYPES = (JSON, "text/csv", *_ARROW_TYPES)
# Reading and answering this much takes a few milliseconds; more would hold up the requests beside it.
_INLINE_BODY_BYTES = 64 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    """A request whose body has come."""

    received: Received
    deadline: Deadline
    media_type: str
    header_length: str | None
    wants_arrow: bool

    @property
    def is_arrow(self) -> bool:
        return self.media_type in _ARROW_TYPES


class Predicting:
    """The endpoints that predict, of one model."""

    def __init__(self, careful: CarefulAnswers) -> None:
        self._careful = careful

    async def infer(self, request: Request) -> Response:
        self._careful.check_model(request.path_params["name"], request.path_params.get("version"))
        return await self._answered(request, _INFER_TYPES, self._infer_now)

    def _infer_now(self, asked: _Asked) -> Response:
        careful, deadline = self._careful, asked.deadline
        if asked.is_arrow:
            outputs = requested_outputs(None, careful.outputs, binary=False)
            parsed = InferRequest(id=None, columns=self._arrow_columns(asked), outputs=outputs, timeout_seconds=None)
        else:
            body = asked.received.body
            parsed = parse_infer_request(body, asked.header_length, careful.tensors)
        if parsed.timeout_seconds is not None:
            deadline = deadline.within(parsed.timeout_seconds)
        answer = careful.answer(parsed.columns, asked.received, deadline, is_typed=asked.is_arrow)
        specs = [output.spec for output in parsed.outputs]
        if asked.wants_arrow:
            return self._arrow(answer, specs, {} if parsed.id is None else {"id": parsed.id})
        members: dict[str, Any] = dict(careful.identity)
        if parsed.id is not None:
            members["id"] = parsed.id
        members["parameters"] = {"prediction_id": answer.prediction_id}
        content, document_length = infer_response(members, parsed.outputs, careful.values(answer), answer.num_rows)
        headers = {"x-prediction-id": answer.prediction_id}
        if document_length is None:
            return Response(content, headers=headers, media_type=JSON)
        return Response(content, headers=headers | {HEADER_LENGTH: str(document_length)}, media_type=_OCTETS)

    async def invocations(self, request: Request) -> Response:
        return await self._answered(request, _INVOCATION_TYPES, self._invoke_now)

    def _invoke_now(self, asked: _Asked) -> Response:
        careful, body = self._careful, asked.received.body
        if asked.is_arrow:
            columns = self._arrow_columns(asked)
        elif asked.media_type == "text/csv":
            columns = parse_csv_invocation(body, careful.inputs)
        else:
            columns = parse_json_invocation(body, careful.names)
        answer = careful.answer(columns, asked.received, asked.deadline, is_typed=asked.is_arrow)
        if asked.wants_arrow:
            return self._arrow(answer, careful.outputs)
        metadata = {"prediction_id": answer.prediction_id, **careful.identity}
        members = {"predictions": answer.prediction.labels, "metadata": metadata}
        return json_response(members, {"x-prediction-id": answer.prediction_id})

    def _arrow_columns(self, asked: _Asked) -> Columns:
        careful = self._careful
        body, kind = asked.received.body, asked.media_type
        return arrow_bodies.parse_arrow(body, kind, careful.limits, max_columns=careful.max_columns)

    def _arrow(self, answer: Answer, specs: Sequence[TensorSpec], more: Mapping[str, str] | None = None) -> Response:
        metadata = {"prediction_id": answer.prediction_id, **self._careful.identity, **(more or {})}
        content = arrow_bodies.arrow_stream(specs, self._careful.values(answer), metadata)
        return Response(content, headers={"x-prediction-id": answer.prediction_id}, media_type=arrow_bodies.STREAM)

    async def _answered(
        self, request: Request, allowed: tuple[str, ...], respond: Callable[[_Asked], Response]
    ) -> Response:
        limits, started = self._careful.limits, time.perf_counter()
        kind, is_arrow = media_type(request, allowed), wants_arrow(", ".join(request.headers.getlist("accept")))
        headers = dict(request.scope["headers"])
        deadline = Deadline.of(headers, started=started, default_seconds=limits.timeout_seconds)
        body = await read_body(request, limits)
        asked = _Asked(
            received=Received(body=body, started=started, ids=request.scope[IDS_KEY]),
            deadline=deadline,
            media_type=kind,
            header_length=request.headers.get(HEADER_LENGTH),
            wants_arrow=is_arrow,
        )
        # A short body of Arrow may become a long one.
        if len(body) > _INLINE_BODY_BYTES or kind in _ARROW_TYPES:
            return await asyncio.to_thread(respond, asked)
        return respond(asked)
