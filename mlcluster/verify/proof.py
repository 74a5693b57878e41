"""What is known about one row: its class cannot change, here is how it changes, or neither was shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

ProofStatus = Literal["proved", "refuted", "unknown"]


@dataclass(frozen=True, slots=True)
class RowProof:
    """`example` is the model input (d,), float32, inside the row's box, whose class differs; only where refuted."""

    status: ProofStatus
    example: npt.NDArray[np.float32] | None = None

    @classmethod
    def proved(cls) -> RowProof:
        """No point of the box is of another class."""
        return cls("proved")

    @classmethod
    def refuted_by(cls, example: npt.NDArray[np.float32]) -> RowProof:
        """`example` lies in the box and is of another class."""
        return cls("refuted", example)

    @classmethod
    def unknown(cls) -> RowProof:
        """Neither was shown within the effort that a row is given."""
        return cls("unknown")
