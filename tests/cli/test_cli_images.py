"""A project whose feature is an image, as a person runs it: profile, plan, ablation, search and endpoint."""

from __future__ import annotations

import base64
import csv
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlcluster.cli.planning import guess_sizes
from mlcluster.cli.project import Project
from mlcluster.data import ImageShape
from mlcluster.spec import AugmentSpec, ImageAugmentSpec
from tests.cli.projects import Outcome, end_ray_of, free_ports, make_project, run_here, run_process
from tests.data.image_tables import SIDE, bar_table

BARS = """
    project: bars
    data:
      source: data/table.parquet
      target: shape
      augment: {images: {crop: 1, flip: true}}
    models: [conv]
    tune: {metric: accuracy, budget: {minutes: 0.5}}
"""


@pytest.fixture
def bars(tmp_path: Path) -> Path:
    return make_project(tmp_path / "bars", BARS, bar_table(240))


def test_a_profile_says_which_images_there_are_and_which_cannot_be_read(bars: Path) -> None:
    table = bar_table(240)
    pictures = table.column("picture").to_pylist()
    pictures[5] = pictures[5][:70]
    pq.write_table(table.set_column(0, "picture", pa.array(pictures)), bars / "data" / "table.parquet")
    told = run_here(bars, "data", "profile")
    assert f"{SIDE} x {SIDE} grey 240" in told.stdout
    assert "picture: cannot be decoded in 1 rows (5; first value 70 bytes); they are kept" in told.stdout
    refused = run_here(bars, "plan")
    assert refused.code == 2
    assert "images in picture is broken by 1 rows (cannot be decoded; rows 5" in refused.complaint
    assert run_here(bars, "plan", "--set", "data.bad_rows=quarantine").code == 0


def test_a_plan_counts_the_work_of_convolutions_and_of_moving_images(bars: Path) -> None:
    project = Project.load(bars / "mlcluster.yaml")
    profile, shape = project.profile(), ImageShape(height=SIDE, width=SIDE, channels=1)
    plain, moved = (guess_sizes(profile, augment)["dense"] for augment in (AugmentSpec(), project.spec.data.augment))
    assert (plain.image, plain.columns, plain.draws_per_row) == (shape, SIDE * SIDE, 0)
    assert moved.draws_per_row == SIDE * SIDE // 6
    assert "models  conv" in run_here(bars, "plan").stdout


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (["data.exclude=picture"], "leaves no feature"),
        (["verify=[certified(eps=0.01) >= 0.5]"], "and picture is an image, of which nothing is proved; drop it."),
        (["data.image=12y12"], "data.image = 12y12 is no size; write height and width like 32x32"),
        (["data.augment.images.tilt=3"], "data.augment.images.tilt"),
        (["data.augment.images.rotate=300"], "data.augment.images.rotate = 300"),
    ],
)
def test_what_cannot_be_done_is_one_line_before_anything_is_spent(
    bars: Path, settings: list[str], complaint: str
) -> None:
    done = run_here(bars, "plan", *(word for setting in settings for word in ("--set", setting)))
    assert done.code == 2
    assert complaint in done.complaint


def test_conv_is_refused_on_tables_and_beside_other_features(tmp_path: Path) -> None:
    table = bar_table(120)
    both = table.append_column("weight", pa.array(np.arange(120) * 1.0))
    folder = make_project(tmp_path / "both", BARS, both)
    assert "put weight under data.exclude, or take conv out." in run_here(folder, "plan").complaint
    assert run_here(folder, "plan", "--set", "data.exclude=weight").code == 0
    # Nets and trees see pixels as numbers beside the others.
    assert run_here(folder, "plan", "--set", "models=[linear, tree, mlp]").code == 0
    numbers = make_project(tmp_path / "numbers", BARS, both.drop_columns(["picture"]))
    refused = run_here(numbers, "plan").complaint
    assert "data.augment.images = {'crop': 1, 'flip': True} moves images, and no feature is one; drop it." in refused


def test_an_ablation_tries_what_is_asked_of_images_piece_by_piece(bars: Path) -> None:
    words = ["data", "augment", "--ablation", "--seeds", "2", "--train-rows", "60", "--json", "--family"]
    told = run_here(bars, *words, "conv").json
    assert told["covered_columns"] == []
    assert list(told["ablation"]["arms"]) == ["none", "crop", "flip", "all"]
    assert told["ablation"]["train_rows"] == 60
    one, again, other = (run_here(bars, *words, "linear", "--seed", seed).json["ablation"] for seed in ("0", "0", "5"))
    assert one == again
    assert one != other
    text = run_here(bars, "data", "augment").stdout
    assert "nets, in each epoch: images with crop 1, flip" in text


def test_without_an_augmentation_images_get_a_usual_dose_without_a_mirror(bars: Path) -> None:
    words = ["data", "augment", "--ablation", "--family", "linear", "--seeds", "2", "--set", "data.augment={}"]
    arms = run_here(bars, *words, "--train-rows", "40", "--json").json["ablation"]["arms"]
    assert list(arms) == ["none", "mixup", "crop", "affine", "cutout", "all"]
    images = ImageAugmentSpec.model_validate(arms["all"]["augment"]["images"])
    assert not images.flip
    assert images.rotate == 10


def test_rows_are_left_out_or_counted_but_not_both(bars: Path) -> None:
    words = ["data", "augment", "--ablation", "--family", "conv", "--seeds", "2", "--train-rows"]
    refused = run_here(bars, *words, "50", "--set", "data.augment.oversample={lying: 0.6}")
    assert "--train-rows = 50 leaves rows out, and data.augment.oversample counts them" in refused.stderr
    too_many = run_here(bars, *words, "5000")
    assert "--train-rows = 5000 is above the" in too_many.stderr
    assert (refused.code, too_many.code) == (2, 2)


def test_a_queue_of_images_to_label_lies_beside_them_and_its_answers_are_taken_in(tmp_path: Path) -> None:
    table = bar_table(60)
    shapes = [shape if row % 3 else None for row, shape in enumerate(table.column("shape").to_pylist())]
    folder = make_project(tmp_path / "bars", BARS, table.set_column(1, "shape", pa.array(shapes)))
    assert run_here(folder, "data", "label", "--next", "4").code == 0
    with (folder / "queue.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        assert (folder / row["picture"]).read_bytes() == table.column("picture")[int(row["row"])].as_py()
        row["label"] = "lying"
    with (folder / "queue.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert run_here(folder, "data", "label", "--add", "queue.csv").code == 0
    assert "shape is filled in from answers in 4 rows" in run_here(folder, "data", "profile").stdout


@dataclass(frozen=True, kw_only=True)
class Served:
    """A project of bars after `mlcluster run`."""

    folder: Path
    port: int
    outcome: Outcome


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    port = free_ports(1)[0]
    folder = make_project(tmp_path_factory.mktemp("bars") / "bars", BARS, bar_table(600))
    try:
        outcome = run_process(folder, "run", "--json", "--port", str(port), "--set", "verify=[accuracy >= 0.7]")
        assert outcome.code == 0, outcome.stderr
        yield Served(folder=folder, port=port, outcome=outcome)
    finally:
        end_ray_of(folder)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.filterwarnings("default")
def test_a_run_ends_with_an_endpoint_that_takes_images_in_each_way(served: Served) -> None:
    assert served.outcome.json["family"] == "conv"
    assert "nets see images with crop 1, flip in each epoch" in served.outcome.stderr
    table = bar_table(8, seed=9)
    pq.write_table(table, served.folder / "rows.parquet")
    predicted = run_here(served.folder, "predict", "--json", "rows.parquet").json["predictions"]
    images = table.column("picture").to_pylist()
    texts = [base64.b64encode(image).decode() for image in images]
    url = f"http://127.0.0.1:{served.port}"
    as_text = httpx.post(f"{url}/invocations", json={"inputs": {"picture": texts}}, timeout=60)
    assert as_text.json()["predictions"] == [one["label"] for one in predicted]
    block = b"".join(struct.pack("<I", len(image)) + image for image in images)
    tensor: dict[str, Any] = {"name": "picture", "datatype": "BYTES", "shape": [8]}
    sent = {"inputs": [{**tensor, "parameters": {"binary_data_size": len(block)}}]}
    head = httpx.Request("POST", url, json=sent).content
    answer = httpx.post(
        f"{url}/v2/models/bars/infer",
        content=head + block,
        headers={"inference-header-content-length": str(len(head))},
        timeout=60,
    ).json()
    (shares,) = (output["data"] for output in answer["outputs"] if output["name"] == "probabilities")
    assert np.reshape(shares, (8, 2)).tolist() == [list(one["probabilities"].values()) for one in predicted]
    refused = httpx.post(f"{url}/invocations", json={"inputs": {"picture": ["bm8="]}}, timeout=60)
    assert (refused.status_code, refused.json()["field"]) == (422, "picture")


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("default")
def test_mlflow_loads_what_was_registered_and_it_takes_bytes(served: Served) -> None:
    import mlflow

    table = bar_table(8, seed=9)
    pq.write_table(table, served.folder / "rows.parquet")
    predicted = run_here(served.folder, "predict", "--json", "rows.parquet").json["predictions"]
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{served.folder / 'mlflow.db'}")
    try:
        model = mlflow.pyfunc.load_model("models:/bars@champion")
        assert model.predict(table.select(["picture"]).to_pandas()) == [one["label"] for one in predicted]
    finally:
        mlflow.set_tracking_uri(before)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_cropping_helps_a_net_that_learns_from_few_digits_of_mnist(shared_data: Path, tmp_path: Path) -> None:
    text = f"""
        data:
          source: {shared_data / "mnist_14k.parquet"}
          target: label
          split: split
          augment: {{images: {{crop: 2}}}}
        models: [conv]
        tune: {{metric: accuracy}}
    """
    folder = make_project(tmp_path / "digits", text)
    words = ["data", "augment", "--ablation", "--family", "conv", "--seeds", "2", "--train-rows", "200", "--json"]
    arms = run_here(folder, *words).json["ablation"]["arms"]
    assert arms["crop"]["metric"]["difference"] > 0.01
    assert arms["crop"]["metric"]["mean"] > 0.85
