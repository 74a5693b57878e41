"""What tests of the command line share: a project, and one with a study in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlcluster.tune import StudyResult
from tests.cli.projects import make_project, plant_study

PLAIN = """
    project: demo
    data: {source: data/table.parquet, target: answer}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The folder of a project that was never run."""
    return make_project(tmp_path / "demo", PLAIN)


@pytest.fixture
def result(project: Path) -> StudyResult:
    """What a study has found that the project then has."""
    return plant_study(project)
