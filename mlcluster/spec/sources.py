"""`data.sources` and `data.joins`: tables by name, and how they are put together."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from mlcluster.spec.base import Identifier, Section
from mlcluster.spec.spans import span_seconds

Normalisation = Literal["unicode", "case", "punctuation", "whitespace", "abbreviations"]
NORMALISATIONS: tuple[Normalisation, ...] = ("unicode", "case", "punctuation", "whitespace", "abbreviations")
"""In the order in which they are done, whatever the order in which they are written."""

_PASSWORD = re.compile(r"://[^/\s@]*:(?!\$\{)[^/\s@]+@|[?&](?:password|sslpassword|secret_key)=(?!\$\{)", re.IGNORECASE)
_FRESHNESS_UNITS = "mhdw"


def _without_password(text: str) -> str:
    if _PASSWORD.search(text):
        raise ValueError("holds a password; set a variable of the environment and write ${ITS_NAME} in its place")
    return text


def _with_unit(text: str) -> str:
    span_seconds(text, _FRESHNESS_UNITS)
    return text


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value,)


def _as_digest(text: str) -> str:
    if re.match(r"^[0-9a-fA-F]{64}$", text) is None:
        raise ValueError("is no SHA-256; give its 64 hex digits, as `mlcluster data show` prints them")
    return text.lower()


Place = Annotated[str, Field(min_length=1), AfterValidator(_without_password)]
"""A path, glob or URI. `${NAME}` stands for a variable of the environment; a password is refused."""
Sha256 = Annotated[str, AfterValidator(_as_digest)]


class SourceSpec(Section):
    """One table by name: either `path`, or `url` and `sql`. The string form is a path."""

    path: Place | None = None
    """Files (path, folder, glob, `s3://`, `gs://`), a file at `http(s)://`, or the folder of a Delta table."""
    url: Place | None = None
    """A data base: `sqlite:///file.db` or `postgresql://...`."""
    sql: Annotated[str, Field(min_length=1)] | None = None
    """The query whose rows are the table. It runs read-only."""
    version: Annotated[int, Field(ge=0)] | None = None
    """Of a Delta table; the current one when left out."""
    owner: str | None = None
    description: str | None = None
    fresh_within: Annotated[str, AfterValidator(_with_unit)] | None = None
    """Older than that is stale: `30m`, `12h`, `7d`, `2w`."""
    time: str | None = None
    """The column whose newest value says how fresh the table is; without it the files' own time does."""
    sha256: Annotated[tuple[Sha256, ...], BeforeValidator(_as_list)] = ()
    """The only contents that are let in, where given: of each file, or of a query's or Delta table's rows."""
    max_mb: Annotated[float, Field(gt=0)] = 4096.0
    """The most that is fetched over HTTP, in units of 10^6 bytes."""

    @model_validator(mode="before")
    @classmethod
    def _from_short_form(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> SourceSpec:
        if self.path is None and (self.url is None or self.sql is None):
            raise ValueError("says not where the table is; give a path, or url and sql")
        if self.path is not None and (self.url is not None or self.sql is not None):
            raise ValueError("has a path beside url or sql; give one or the other")
        if self.version is not None and self.path is None:
            raise ValueError("has a version, which only a Delta table has; remove it")
        return self

    @property
    def fresh_within_seconds(self) -> float | None:
        """`fresh_within` in seconds."""
        return None if self.fresh_within is None else span_seconds(self.fresh_within, _FRESHNESS_UNITS)


class JoinKey(Section):
    """A column of the rows so far, and the one of the other source that it is held against. Short form: one name."""

    left: Annotated[str, Field(min_length=1)]
    right: Annotated[str, Field(min_length=1)]

    @model_validator(mode="before")
    @classmethod
    def _from_short_form(cls, value: Any) -> Any:
        return {"left": value, "right": value} if isinstance(value, str) else value


class PlaceKey(Section):
    """Columns of latitude and longitude in degrees on either side, and how far apart two places may be."""

    left: tuple[str, str]
    right: tuple[str, str] | None = None
    """As on the left, when left out."""
    within_m: Annotated[float, Field(gt=0)]

    @property
    def on_right(self) -> tuple[str, str]:
        """The columns of the other source."""
        return self.right or self.left


class JoinSpec(Section):
    """Columns of another source, found by a key."""

    source: Identifier
    on: Annotated[tuple[JoinKey, ...], BeforeValidator(_as_list)] = ()
    place: PlaceKey | None = None
    """In place of `on`: the nearest row of the other source within a distance."""
    how: Literal["left", "inner"] = "left"
    """`left` keeps rows that find nothing, `inner` leaves them out."""
    normalise: Annotated[tuple[Normalisation, ...], BeforeValidator(_as_list)] = ()
    """What two spellings of one key may differ in. Keys that agree as they stand are matched first."""
    abbreviations: dict[str, str] = Field(default_factory=dict)
    """Added to the built-in ones: `{bldg: building}`."""
    near: Annotated[float, Field(ge=0.5, lt=1)] | None = None
    """Also match keys to the nearest one that is at least so similar (0.5 to 1), for slips of the pen."""
    min_match: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The least share of rows that must find their key; the run fails below it."""
    max_fan_out: Annotated[int, Field(ge=1)] = 1
    """The most rows that one row may find; the run fails above it."""
    columns: Annotated[tuple[str, ...], BeforeValidator(_as_list)] = ()
    """Which columns are taken; all but the key when left out."""
    prefix: str = ""
    """Put before the names of the columns that are taken."""

    @field_validator("normalise", mode="after")
    @classmethod
    def _in_order(cls, value: tuple[Normalisation, ...]) -> tuple[Normalisation, ...]:
        return tuple(name for name in NORMALISATIONS if name in value)

    @model_validator(mode="after")
    def _check(self) -> JoinSpec:
        if bool(self.on) == (self.place is not None):
            raise ValueError("needs either on, the columns of its key, or place; give one of them")
        if self.place is not None and (self.normalise or self.near is not None):
            raise ValueError("normalises a place, which has no spelling; remove normalise and near")
        if self.abbreviations and "abbreviations" not in self.normalise:
            raise ValueError("has abbreviations that nothing uses; add abbreviations to its normalise")
        return self

    @property
    def left_columns(self) -> tuple[str, ...]:
        """What the rows so far are held against."""
        return self.place.left if self.place is not None else tuple(key.left for key in self.on)

    @property
    def right_columns(self) -> tuple[str, ...]:
        """What the other source is held against."""
        return self.place.on_right if self.place is not None else tuple(key.right for key in self.on)
