"""`data.image:`: how a column of encoded images becomes pixels."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mlcluster.spec.base import Section

_SIZE = re.compile(r"^\s*(?P<height>\d+)\s*x\s*(?P<width>\d+)\s*$")
Side = Annotated[int, Field(ge=1, le=1024)]


class ImageSpec(Section):
    """What images are brought to. The short form `32x32` gives height and width.

    Left out, the size is the most frequent one of the train rows, its longer side brought down to 64, and there is one
    channel where no train image has colour, else three.
    """

    height: Side | None = None
    width: Side | None = None
    channels: Literal[1, 3] | None = None
    max_pixels: Annotated[int, Field(ge=1)] = 1 << 24
    """Of one image as its header says; one with more is a bad row, and is never decoded."""

    @model_validator(mode="before")
    @classmethod
    def _from_short_form(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        match = _SIZE.match(value)
        if match is None:
            raise ValueError("is no size; write height and width like 32x32")
        return {side: int(match[side]) for side in ("height", "width")}

    @model_validator(mode="after")
    def _check(self) -> ImageSpec:
        if (self.height is None) != (self.width is None):
            raise ValueError("gives one side of the size; give height and width, or neither")
        return self
