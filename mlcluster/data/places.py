"""Where a table lies, as text: variables of the environment filled in to open it, credentials taken out to show it."""

from __future__ import annotations

import os
import re

from mlcluster.errors import DataError

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SECRET = re.compile(r"([?&][^=&\s]*(?:password|secret|token|signature|credential|sig)[^=&\s]*=)[^&\s]+", re.IGNORECASE)


def expanded(text: str, *, key: str) -> str:
    """`text` with each `${NAME}` replaced by that variable of the environment.

    Raises:
        DataError: one is not set.
    """

    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match[1])
        if found is None:
            shown = without_credentials(text)
            raise DataError(f"{key} = {shown} names the variable {match[1]}, which is not set; export {match[1]}.")
        return found

    return _VARIABLE.sub(value, text)


def without_credentials(text: str) -> str:
    """`s3://key:secret@bucket/x` without its key and secret, for messages, manifests and MLflow."""
    return _SECRET.sub(r"\1...", re.sub(r"://[^/\s]*@", "://", text))


def first_line(error: Exception, *, secret: str = "") -> str:
    """What an error says, in one short line without credentials; `secret` is a text that must not stand in it."""
    text = str(error)
    for part in re.findall(r"://[^/\s]*:([^/\s]+)@", secret):
        text = text.replace(part, "...")
    lines = [line.strip() for line in without_credentials(text).splitlines() if line.strip()]
    return lines[0][:160] if lines else type(error).__name__
