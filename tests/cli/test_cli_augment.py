"""`data augment`, and a project whose train split is augmented, as a person runs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mlcluster.cli.augmenting import compared
from mlcluster.cli.data_stage import load_training_data
from mlcluster.cli.planning import guess_sizes
from mlcluster.cli.project import Project
from mlcluster.data import DatasetSnapshot, LocalEngine, prepare
from mlcluster.spec import AugmentSpec
from mlcluster.train import FAMILIES, ArmScores
from tests.cli.projects import end_ray_of, make_project, run_here, run_process

PLANTED = """
    project: planted
    data:
      source: data/table.parquet
      target: answer
      sensitive: region
      augment: {oversample: {region=north: 0.3}, coverage: {columns: [region, z], min_rows: 40, bins: 2}}
    models: [linear, tree]
"""


def planted_table(num_rows: int = 4000) -> pa.Table:
    """In 2 % of the rows, those of the north, `x` speaks for the other answer."""
    rng = np.random.default_rng(0)
    x, z, is_north = rng.normal(size=num_rows), rng.normal(size=num_rows), rng.random(num_rows) < 0.02
    signal = np.where(is_north, -x, x) + rng.normal(scale=0.3, size=num_rows)
    region = np.where(is_north, "north", rng.choice(["south", "east", "west"], num_rows))
    answer = np.where(signal > 0.8, "yes", "no")
    return pa.table({"row": np.arange(num_rows) * 1.0, "x": x, "z": z, "region": region, "answer": answer})


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    return make_project(tmp_path / "demo", PLANTED, planted_table())


def snapshot_of(folder: Path) -> DatasetSnapshot:
    spec = Project.load(folder / "mlcluster.yaml").spec
    return prepare(spec.data, base=folder, folder=folder / "snapshot", seed=0, engine=LocalEngine())


def train_and_validation(snapshot: DatasetSnapshot, augment: AugmentSpec, seed: int = 0) -> Any:
    return load_training_data(snapshot, ("linear", "tree"), augment=augment, seed=seed)


def test_it_tells_rows_before_and_after_and_thin_cells_with_exact_counts(planted: Path) -> None:
    told = run_here(planted, "data", "augment", "--json").json
    snapshot = snapshot_of(planted)
    train = snapshot.table("train")
    region, z = np.array(train.column("region").to_pylist()), train.column("z").to_numpy()
    num_north = int((region == "north").sum())
    assert told["groups"]["region=north"]["before"] == num_north
    assert told["groups"]["region=north"]["after"] == num_north + told["extra_rows"]
    assert told["groups"]["region=north"]["after"] == pytest.approx(
        0.3 * (told["train_rows"] + told["extra_rows"]), abs=1
    )
    cells = {tuple(cell["levels"]): cell["num_rows"] for cell in told["thin_cells"]}
    assert len(cells) == 2
    for (level, span), count in cells.items():
        low, high = (float(word) for word in span.split(".."))
        is_lowest = low <= z.min() + 1e-3
        # Ends are written to six digits.
        inside = (z <= high + 1e-5) & ((z > low + 1e-5) | is_lowest)
        assert level == "north"
        assert count == pytest.approx(int((inside & (region == "north")).sum()), abs=1)
    text = run_here(planted, "data", "augment").stdout
    assert f"  region=north: {num_north} -> " in text
    assert "region = north and z = " in text


def test_augmented_rows_are_train_rows_and_no_others(planted: Path) -> None:
    """`row` is a feature, so that each row can be told by its number in the matrices of trees."""
    snapshot = snapshot_of(planted)
    plain = train_and_validation(snapshot, AugmentSpec())
    data = train_and_validation(snapshot, AugmentSpec(oversample={"region=north": 0.3}, noise=0.1, mixup=0.2))
    ids = {split: set(snapshot.table(split).column("row").to_pylist()) for split in ("train", "validation", "test")}
    added = data.train["ordinal"].features[snapshot.num_rows["train"] :, 0].tolist()
    assert len(added) > 500
    assert set(added) <= ids["train"]
    assert not set(added) & (ids["validation"] | ids["test"])
    for encoding in ("ordinal", "dense"):
        assert np.array_equal(data.validation[encoding].features, plain.validation[encoding].features, equal_nan=True)
        assert np.array_equal(
            data.train[encoding].features[: len(plain.train[encoding])], plain.train[encoding].features
        )


def test_a_run_s_seed_says_which_rows_are_added(planted: Path) -> None:
    snapshot = snapshot_of(planted)
    for augment in (
        AugmentSpec(oversample={"region=north": 0.1}),
        AugmentSpec(oversample={"yes": 0.4}, interpolate=True),
    ):
        one, again, other = (train_and_validation(snapshot, augment, seed).train["ordinal"] for seed in (1, 1, 2))
        assert np.array_equal(one.features, again.features)
        assert not np.array_equal(one.features, other.features)


def test_nets_and_trees_learn_from_the_same_added_rows(planted: Path) -> None:
    snapshot = snapshot_of(planted)
    data = train_and_validation(snapshot, AugmentSpec(oversample={"region=north": 0.3}, interpolate=True))
    added = slice(snapshot.num_rows["train"], None)
    raw, dense = (data.train[encoding].features[added] for encoding in ("ordinal", "dense"))
    place = snapshot.transforms["dense"].feature_slices["x"].start
    encoding = snapshot.transforms["dense"].columns[1]
    inside = (raw[:, 1] > encoding.low) & (raw[:, 1] < encoding.high)  # type: ignore[union-attr]
    assert dense[inside, place] == pytest.approx((raw[inside, 1] - encoding.center) / encoding.scale, abs=0.02)  # type: ignore[union-attr]
    assert (dense[:, snapshot.transforms["dense"].output_names.index("region=north")] == 1).all()


def test_oversampling_raises_the_recall_of_a_planted_thin_slice(planted: Path) -> None:
    done = run_here(planted, "data", "augment", "--ablation", "--family", "tree", "--json")
    arms = done.json["ablation"]["arms"]
    assert list(arms) == ["none", "oversample", "interpolate"]
    assert arms["none"]["recall"]["region=north"]["difference"] == 0
    for name in ("oversample", "interpolate"):
        recall = arms[name]["recall"]["region=north"]
        assert recall["low"] > 0
        assert recall["verdict"] == "helped"
        assert arms[name]["recall"]["others"]["difference"] > -0.03
    assert done.json["ablation"]["splits_anew"] is True
    assert done.stderr.count("is done") == 5


def test_an_ablation_is_the_same_for_the_same_seeds_and_another_for_others(planted: Path) -> None:
    words = ["data", "augment", "--ablation", "--family", "tree", "--seeds", "2", "--json", "--seed"]
    one, again, other = (run_here(planted, *words, seed).json["ablation"]["arms"] for seed in ("3", "3", "8"))
    assert one == again
    assert one != other


def test_without_an_augmentation_a_usual_dose_of_each_is_tried(tmp_path: Path) -> None:
    text = PLANTED.replace("augment: {oversample: {region=north: 0.3}, coverage", "augment: {coverage")
    folder = make_project(tmp_path / "demo", text, planted_table(400))
    done = run_here(folder, "data", "augment", "--ablation", "--family", "linear", "--seeds", "2")
    assert done.code == 0
    names = {line.split()[0] for line in done.stdout.splitlines() if "roc_auc" in line}
    assert {"none", "noise", "mixup", "all"} <= names


def test_a_metric_that_is_better_when_lower_helps_when_it_falls() -> None:
    high, low = ([ArmScores(metric=value, group_recall={}) for value in values] for values in ([2.0, 2.1], [1.0, 1.1]))
    found = compared(low, high, "rmse", test_per_train_rows=None)["metric"]
    assert (found["mean"], found["verdict"]) == (1.05, "helped")
    assert compared(high, low, "rmse", test_per_train_rows=None)["metric"]["verdict"] == "hurt"


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("oversample: {noth: 0.3}", "data.augment.oversample = 'noth' is no class of answer and no level of a feature"),
        ("oversample: {regio=north: 0.3}", "name one like region=..."),
        ("oversample: {region=nowhere: 0.3}", "'region=nowhere' has no row; name a level that region has."),
        ("oversample: {yes: 0.6, region=north: 0.5}", "adds up to 1.1, which leaves no row to others"),
        ("noise: -1", "data.augment.noise = -1"),
        ("noisy: 1", "data.augment.noisy"),
        ("coverage: {columns: [region, nothing]}", "data.augment.coverage.columns = nothing is no column"),
        ("coverage: {columns: [region]}", "makes no pair"),
    ],
)
def test_what_cannot_be_done_is_one_line(tmp_path: Path, setting: str, complaint: str) -> None:
    text = PLANTED[: PLANTED.index("      augment:")] + f"      augment: {{{setting}}}\n"
    done = run_here(make_project(tmp_path / "demo", text, planted_table(300)), "data", "augment")
    assert done.code == 2
    assert complaint in done.complaint


def test_a_plan_refuses_a_group_that_there_is_not_before_anything_is_spent(planted: Path) -> None:
    done = run_here(planted, "plan", "--set", "data.augment.oversample={regoin=north: 0.2}")
    assert done.code == 2
    assert "'regoin=north' is no class of answer" in done.complaint


def test_the_ablation_of_trees_leaves_out_what_is_for_nets(planted: Path) -> None:
    words = ["data", "augment", "--ablation", "--family", "tree", "--seeds", "2", "--set", "data.augment.noise=0.1"]
    assert list(run_here(planted, *words, "--json").json["ablation"]["arms"]) == ["none", "oversample", "interpolate"]
    refused = run_here(planted, *words, "--set", "data.augment.oversample={}")
    assert refused.code == 2
    assert "--family = tree has nothing to try" in refused.stderr


def test_a_plan_knows_that_augmented_epochs_take_longer_and_says_who_learns_without(planted: Path) -> None:
    project = Project.load(planted / "mlcluster.yaml", overrides=["data.augment.noise=0.1"])
    assert project.notes() == ("data.augment.noise and mixup are for nets; tree learn without",)
    plain = Project.load(planted / "mlcluster.yaml")
    assert plain.notes() == ()
    profile, seconds = plain.profile(), []
    for augment in (plain.spec.data.augment, project.spec.data.augment):
        size = guess_sizes(profile, augment)["dense"]
        seconds.append(FAMILIES["linear"].nominal_seconds({"batch_size": 256}, size, 1))
    assert seconds[1] > seconds[0]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_search_learns_from_augmented_rows_and_its_winner_is_verified(planted: Path) -> None:
    settings = ["data.augment.noise=0.1", "data.augment.mixup=0.2", "tune.budget.minutes=0.5", "models=[linear, mlp]"]
    words = [word for setting in settings for word in ("--set", setting)]
    try:
        done = run_process(planted, "verify", *words)
        replayed = run_process(planted, "tune", "--replay", *words)
    finally:
        end_ray_of(planted)
    assert done.code == 0, done.stderr
    assert "train rows more by oversampling, nets see noise 0.1 and mixup 0.2 in each epoch" in done.stderr
    assert replayed.code == 0, replayed.stdout + replayed.stderr
