"""The benchmark of augmentation runs what `data augment --ablation` runs, on the tables that it names."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import bench_augment
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest


def test_it_writes_each_variant_of_a_table_with_its_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    age = rng.normal(size=300)
    income = np.where(age + rng.normal(size=300) > 1, ">50K", "<=50K")
    table = pa.table({"age": age, "fnlwgt": age, "split": ["train"] * 300, "income": income})
    pq.write_table(table, tmp_path / "adult.parquet")
    out = tmp_path / "augment.json"
    words = ["--data", str(tmp_path), "--tables", "adult", "--families", "linear", "--seeds", "2", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["bench_augment.py", *words])
    bench_augment.main()
    written = json.loads(out.read_text())
    (run,) = written["runs"]
    assert str(tmp_path) not in json.dumps(written)
    assert (run["table"], run["metric"], run["num_seeds"]) == ("adult", "roc_auc", 2)
    assert list(run["arms"]) == ["none", "noise", "mixup", "oversample", "interpolate", "all"]
    gained = run["arms"]["oversample"]["recall"][">50K"]
    assert gained["low"] <= gained["difference"] <= gained["high"]
    assert gained["difference"] > 0
    assert "adult linear with its defaults" in capsys.readouterr().out


@pytest.mark.parametrize("table", bench_augment.TABLES)
def test_its_tables_are_the_public_ones(table: str, shared_data: Path) -> None:
    columns = pq.read_schema(shared_data / f"{table}.parquet").names
    setting = bench_augment.TABLES[table]
    assert {setting["target"], *setting.get("exclude", ())} <= set(columns)
