"""What every section of a project file shares: frozen, and unknown keys refused."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, StringConstraints

Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,62}$")]
"""What a person calls something: it stands in paths, URLs and file names as it is."""


class Section(BaseModel):
    """A frozen part of the project file.

    A string form of a section is turned into its mapping form by a `before` validator, so that both are equal
    once they are read. Validators raise `ValueError` with `<problem>; <fix>`, and `load_spec` adds the file,
    the line, the key and the value.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
