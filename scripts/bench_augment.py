"""Does augmentation help? Each of the project's augmentations against none, on real tables, with 95 % intervals.

    .venv/bin/python scripts/bench_augment.py --data DIR --out augment.json [--seeds 5] [--families linear,mlp,conv]

DIR holds adult, bank_marketing, bike_sharing_hourly (the public tables of UCI) and mnist_14k (12,000 and 2,000 digits
of MNIST as PNG) as Parquet. What runs is `mlcluster data augment --ablation`: a family with its defaults, scored on the
validation split. Tables get noise 0.1, mixup 0.2, and the rare class of adult and bank oversampled to half of the rows;
digits, which are for conv and few train rows, get crops of 2 pixels, affine maps and cutout.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench_files import provenance, say, write_document

from mlcluster.cli.augmenting import Augmenting
from mlcluster.cli.augmenting_text import ablation_text
from mlcluster.data import LocalEngine
from mlcluster.spec import ProjectSpec

TABLES: dict[str, dict[str, Any]] = {
    "adult": {
        "target": "income",
        "exclude": ["fnlwgt", "split"],
        "augment": {"noise": 0.1, "mixup": 0.2, "oversample": {">50K": 0.5}},
    },
    "bank_marketing": {
        "target": "y",
        "exclude": ["duration"],
        "augment": {"noise": 0.1, "mixup": 0.2, "oversample": {"yes": 0.5}},
    },
    "bike_sharing_hourly": {
        "target": "cnt",
        "exclude": ["casual", "registered", "instant", "dteday"],
        "augment": {"noise": 0.1, "mixup": 0.2},
    },
    "mnist_14k": {
        "target": "label",
        "split": "split",
        "augment": {
            "images": {"crop": 2, "rotate": 10, "translate": 0.05, "scale": 0.1, "shear": 5, "cutout": 0.3},
        },
    },
}
METRICS = {"mnist_14k": "accuracy"}
"""Where it is not the task's own."""
TRAIN_ROWS: dict[str, tuple[int | None, ...]] = {"mnist_14k": (500, 1000, 2000)}
NETS = ("linear", "mlp")


def main() -> None:
    """Runs what was asked for, prints a table each, writes the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the real tables")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tables", default=",".join(TABLES), help="which, by commas")
    parser.add_argument("--families", default="linear,mlp,boosting,conv", help="which, by commas")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    runs: list[dict[str, Any]] = []
    for table in options.tables.split(","):
        for family in options.families.split(","):
            for train_rows in TRAIN_ROWS.get(table, (None,)) if is_tried(table, family) else ():
                found = ablation(table, family, data=options.data, num_seeds=options.seeds, train_rows=train_rows)
                runs.append({"table": table, **found})
                print(table, ablation_text(found), flush=True)
                if options.out:
                    made = provenance("bench_augment.py", ["torch", "scikit-learn"])
                    write_document(options.out, {"made": made}, runs)


def is_tried(table: str, family: str) -> bool:
    """Images are for conv alone here; the others take what a table has for them."""
    if "images" in TABLES[table]["augment"] or family == "conv":
        return "images" in TABLES[table]["augment"] and family == "conv"
    return family in NETS or "oversample" in TABLES[table]["augment"]


def ablation(table: str, family: str, *, data: Path, num_seeds: int, train_rows: int | None) -> dict[str, Any]:
    """One table and family, each seed with a split of its own."""
    source = (data / f"{table}.parquet").absolute()
    spec = ProjectSpec.model_validate(
        {"data": {"source": str(source), **TABLES[table]}, "tune": {"metric": METRICS.get(table)}}
    )
    with tempfile.TemporaryDirectory() as work:
        augmenting = Augmenting(spec=spec, folder=data, seed=0, engine=LocalEngine(), work=Path(work))
        return augmenting.ablation(
            family, num_seeds=num_seeds, train_rows=train_rows, say=lambda line: say(f"{table} {family}: {line}")
        )


if __name__ == "__main__":
    main()
