"""mlcluster: from a table, a requirement and a sum of money to a served model, on Ray.

The public names are `Project` (everything that the command line does, from Python) and the errors.
The rooms of the package, in the order in which data flows, are listed in the README.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlcluster.errors import MlclusterError

if TYPE_CHECKING:
    from mlcluster.cli.project import Project

__version__ = "0.1.0"
__all__ = ["MlclusterError", "Project", "__version__"]


def __getattr__(name: str) -> Any:
    # Late, so that a worker which imports one room does not import them all.
    if name == "Project":
        from mlcluster.cli.project import Project

        return Project
    raise AttributeError(f"module 'mlcluster' has no attribute {name!r}")
