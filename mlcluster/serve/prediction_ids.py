"""The names of answers: an id leads to a model, a version and a moment by itself, and `#i` after it to row i."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from mlcluster.errors import DataError
from mlcluster.serve.random_bytes import RandomBytes

_ID = re.compile(
    r"^(?P<model>[A-Za-z0-9_-]+)\.(?P<version>[A-Za-z0-9_-]+)\.(?P<uid>[0-9a-f]{32})(?:#(?P<row>[0-9]{1,9}))?$"
)
_VERSION_AND_VARIANT = (0x7 << 76) | (0b10 << 62)
_DRAWN = (0xFFF << 64) | (2**62 - 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictionId:
    """The parts of a prediction id; `row` is None when it names the whole request."""

    model: str
    version: str
    uid: str
    row: int | None = None

    @property
    def request_id(self) -> str:
        """The id without its row: the one that records bear."""
        return f"{self.model}.{self.version}.{self.uid}"

    @property
    def milliseconds(self) -> int:
        """When it was given, since 1970."""
        return int(self.uid[:12], 16)


class PredictionIds:
    """Fresh ids `<model>.<version>.<32 hex digits>`: milliseconds since 1970, then 74 random bits, as in UUID 7."""

    def __init__(self, model: str, version: str) -> None:
        self._start = f"{'.'.join(id_words(model, version))}."
        self._random = RandomBytes()

    def next(self, milliseconds: int) -> str:
        """One of that moment."""
        drawn = int.from_bytes(self._random.take(10), "big")
        uid = (milliseconds << 80) | (drawn & _DRAWN) | _VERSION_AND_VARIANT
        return f"{self._start}{uid:032x}"


def id_words(model: str, version: str) -> tuple[str, str]:
    """How a model and its version stand in ids."""
    return _word(model), _word(version)


def new_prediction_id(model: str, version: str) -> str:
    """One fresh id of now; see `PredictionIds`."""
    return PredictionIds(model, version).next(time.time_ns() // 1_000_000)


def parse_prediction_id(text: str) -> PredictionId:
    """The parts of an id, with or without `#row`.

    Raises:
        DataError: the text is no prediction id.
    """
    match = _ID.match(text)
    if match is None:
        raise DataError(f"prediction id = {text[:80]!r} is none; copy it from the x-prediction-id of an answer.")
    row = None if match["row"] is None else int(match["row"])
    return PredictionId(model=match["model"], version=match["version"], uid=match["uid"], row=row)


def _word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", text) or "_"
