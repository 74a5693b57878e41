"""`--name`: a run is gone on with under its name, wherever it stands among the others, and by its own configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlcluster.cli.workspace import Workspace
from mlcluster.errors import SpecError
from tests.cli.projects import run_here

KEY, OTHER = "0123456789ab", "ba9876543210"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(root=tmp_path)


def test_a_named_run_is_gone_on_with_though_others_came_after_it(workspace: Workspace) -> None:
    first = workspace.open_run(KEY, fresh=False, name="nightly")
    workspace.open_run(OTHER, fresh=False)
    assert workspace.open_run(KEY, fresh=False, name="nightly") == first
    assert first.name == "nightly"


def test_a_second_name_is_a_second_run_of_the_same_configuration(workspace: Workspace) -> None:
    first = workspace.open_run(KEY, fresh=False, name="one")
    second = workspace.open_run(KEY, fresh=False, name="two")
    assert (first.number, second.number) == (1, 2)
    assert workspace.open_run(KEY, fresh=False) == second


def test_the_name_of_another_configuration_is_refused(workspace: Workspace) -> None:
    workspace.open_run(KEY, fresh=False, name="nightly")
    with pytest.raises(
        SpecError, match=f"--name = nightly is the name of run 0001-{KEY}, whose data, models, .* give another name"
    ):
        workspace.open_run(OTHER, fresh=False, name="nightly")
    assert len(workspace.runs()) == 1


def test_a_name_is_not_given_twice_by_fresh(workspace: Workspace) -> None:
    workspace.open_run(KEY, fresh=False, name="nightly")
    with pytest.raises(
        SpecError, match=r"--name = nightly is the name of run 0001-.*; give the --fresh one another name"
    ):
        workspace.open_run(KEY, fresh=True, name="nightly")


@pytest.mark.parametrize("name", ["", "../up", "a b", "-x", "a" * 64])
def test_what_is_no_name_is_refused_before_anything_is_read(tmp_path: Path, name: str) -> None:
    refused = run_here(tmp_path, "tune", "--name", name)
    assert refused.code == 2
    assert "is no name for a run; use letters, digits, . _ and -." in refused.stderr
