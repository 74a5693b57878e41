"""What turned out to be true: labels that come later, by the id of the prediction that they belong to.

A label is on disk before it is acknowledged. One that comes again for the same row replaces the earlier one when they
are read; nothing is ever rewritten.
"""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlcluster.data import Label, TargetColumn
from mlcluster.errors import DataError
from mlcluster.serve.json_body import json_type, parse_object, refuse_unknown
from mlcluster.serve.prediction_ids import PredictionId, parse_prediction_id
from mlcluster.serve.problem import RequestError, invalid, shorten

FILE = "feedback.jsonl"
MAX_ITEMS = 100_000
"""Labels in one request."""
_ITEM = ("prediction_id", "label")
TargetOf = Callable[[PredictionId], TargetColumn]
"""The target of the version that an id names; raises a `DataError` where it is none whose labels are taken."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Feedback:
    """The true label, or value, of one predicted row."""

    id: str
    """Of the request, without its row."""
    row: int
    label: Label
    received_at: str
    """ISO 8601, UTC."""


class FeedbackLog:
    """Appends to `feedback.jsonl` in `folder`, readable by its owner alone; processes may share it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._lock = threading.Lock()

    def add(self, items: Iterable[Feedback]) -> None:
        """Writes them all, and returns once they are on disk.

        Raises:
            OSError: they could not be written; some may be, and come again if they are sent again.
        """
        lines = "".join(json.dumps(asdict(item), separators=(",", ":")) + "\n" for item in items).encode("ascii")
        with self._lock:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "ab", buffering=0) as file:
                view = memoryview(lines)
                while view:
                    view = view[file.write(view) :]
                os.fsync(file.fileno())


def read_feedback(folder: Path) -> dict[tuple[str, int], Feedback]:
    """The newest label of each row that has one, by request id and row."""
    path = folder / FILE
    if not path.exists():
        return {}
    found: dict[tuple[str, int], Feedback] = {}
    with path.open(encoding="ascii", errors="replace") as file:
        for line in file:
            if line.endswith("}\n"):  # what a full disk cut short is no label
                item = Feedback(**json.loads(line))
                found[item.id, item.row] = item
    return found


def parse_feedback(body: bytes, target_of: TargetOf) -> list[Feedback]:
    """The labels of a request: `{"prediction_id": ..., "label": ...}`, or a list of such under `feedback`.

    Raises:
        RequestError: a member is missing, unknown or wrong, or the id is of a model that is not served here; none of
            them counts.
    """
    document = parse_object(body)
    items = [document]
    if "feedback" in document:
        refuse_unknown(document, ("feedback",), where="the request")
        items = document["feedback"]
        if not isinstance(items, list) or not items:
            raise invalid("feedback", f"is {json_type(items)}, not a list of labels; send at least one.")
    if len(items) > MAX_ITEMS:
        raise invalid("feedback", f"has {len(items)} labels; send at most {MAX_ITEMS} in one request.")
    now = time_now()
    return [_item(item, position, target_of, now) for position, item in enumerate(items)]


def time_now() -> str:
    """As `Feedback.received_at` has it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def check_label(label: object, target: TargetColumn) -> Label:
    """The label, as one that the target can have.

    Raises:
        DataError: it is none.
    """
    if target.classes:
        for known in target.classes:
            if type(known) is type(label) and known == label:
                return known
        known_labels = ", ".join(map(repr, target.classes[:20]))
        raise DataError(f"label = {shorten(repr(label))} is no class of {target.name}; give one of {known_labels}.")
    if isinstance(label, bool) or not isinstance(label, int | float) or not math.isfinite(label):
        raise DataError(f"label = {shorten(repr(label))} is no finite number; {target.name} is one.")
    return float(label)


def feedback_of(prediction_id: str, label: object, target_of: TargetOf, *, now: str) -> Feedback:
    """One label, checked. An id without `#i` names row 0 of its request.

    Raises:
        DataError: the id is none, or of a model whose labels are not taken, or the label cannot be.
    """
    parsed = parse_prediction_id(prediction_id)
    checked = check_label(label, target_of(parsed))
    return Feedback(id=parsed.request_id, row=parsed.row or 0, label=checked, received_at=now)


def _item(item: object, position: int, target_of: TargetOf, now: str) -> Feedback:
    where = f"feedback[{position}]"
    if not isinstance(item, Mapping):
        raise invalid(where, f"is {json_type(item)}, not an object with prediction_id and label.")
    refuse_unknown(item, _ITEM, where=where)
    for name in _ITEM:
        if name not in item:
            raise invalid(f"{where}.{name}", "is missing; send a prediction_id and its label.")
    prediction_id: Any = item["prediction_id"]
    if not isinstance(prediction_id, str):
        raise invalid(f"{where}.prediction_id", f"is {json_type(prediction_id)}, not a string.")
    try:
        return feedback_of(prediction_id, item["label"], target_of, now=now)
    except DataError as error:
        name = str(error).partition(" = ")[0].replace(" ", "_")
        raise RequestError(422, shorten(f"{where}: {error}", 500), field=f"{where}.{name}") from error
