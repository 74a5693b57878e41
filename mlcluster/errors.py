"""What can go wrong, split by what the caller should do about it.

MlclusterError
├── SpecError         the project file, a flag or a setting is wrong: edit it    (exit code 2, never retried)
├── DataError         the data is not what the project file says: fix either    (exit code 2, never retried)
├── ClusterError      Ray, MLflow or the machine did not do its part             (exit code 2, may be retried)
├── GateFailed        the winner does not meet a requirement                     (exit code 3)
├── BudgetExhausted   the money or the minutes are spent, no usable result       (exit code 5)
└── BundleError       a served artifact is damaged, foreign or altered           (exit code 2, never retried)

A message reads `<key> = <value> <problem>; <fix>.`: what was wrong, where, and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class MlclusterError(Exception):
    """Base of every error that is the user's to act on; printed as one line, without a traceback."""

    exit_code = 2


class SpecError(MlclusterError):
    """The project file, a flag or a setting is wrong. Never retried."""


class DataError(MlclusterError):
    """The data is unreadable, or is not what the project file says. Never retried."""


class ClusterError(MlclusterError):
    """Ray, MLflow or the machine did not do its part. May be retried."""


class BundleError(MlclusterError):
    """A served artifact is damaged, foreign or altered; nothing in it was run. Never retried."""


class GateFailed(MlclusterError):  # noqa: N818 - an outcome, named as users know it
    """The winner does not meet a requirement of `verify:`. `summary` is what the run has come to, as plain JSON."""

    exit_code = 3

    def __init__(self, message: str, *, summary: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.summary = summary


class BudgetExhausted(MlclusterError):  # noqa: N818 - likewise
    """The money or the minutes were spent before there was a usable result."""

    exit_code = 5
