"""Whatever stands in a cluster file, the check says what is wrong with it, and never breaks."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlcluster.cli.cluster_checking import check_cluster
from mlcluster.errors import MlclusterError
from mlcluster.spec import ProjectSpec
from tests.cluster.files import FOLDER

NUM_DAMAGES = 30
"""Of each file; 400 were tried once."""
WRONG: list[Any] = [None, "x", -1, 0, 3.5, True, [], {}, ["x"], {"x": 1}]
FILES = [*FOLDER.glob("*.yaml"), *FOLDER.glob("kuberay/*.yaml")]
SPEC = ProjectSpec.model_validate({"data": {"source": "t.csv", "target": "y"}, "workers": "both", "models": ["mlp"]})


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def damaged(documents: list[Any], rng: random.Random) -> list[Any]:
    """One value put in place of another, or a key taken out."""
    made = copy.deepcopy(documents)
    *way, last = rng.choice(list(places(made[0])))
    inner = made[0]
    for part in way:
        inner = inner[part]
    if isinstance(inner, dict) and rng.random() < 0.2:
        del inner[last]
    else:
        inner[last] = rng.choice(WRONG)
    return made


@pytest.mark.timeout(180)
@pytest.mark.parametrize("path", [path for path in FILES if path.name != "prices.yaml"], ids=lambda path: path.name)
def test_a_damaged_file_is_told_of_and_breaks_nothing(path: Path, tmp_path: Path) -> None:
    documents = list(yaml.safe_load_all(path.read_text()))
    (tmp_path / "prices.yaml").write_text((FOLDER / "prices.yaml").read_text())
    rng = random.Random(path.name)
    for _ in range(NUM_DAMAGES):
        made = damaged(documents, rng)
        (tmp_path / path.name).write_text(yaml.safe_dump_all(made, sort_keys=False))
        try:
            report = check_cluster(tmp_path / path.name, spec=SPEC)
        except MlclusterError as error:
            assert "\n" not in str(error).strip()
        else:
            assert report.to_json()["findings"] is not None
