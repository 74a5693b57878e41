"""A net that was trained on images, as it is served."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlcluster.cli.bundling import json_rows
from mlcluster.cli.data_stage import load_training_data
from mlcluster.data import DatasetSnapshot, LocalEngine, prepare
from mlcluster.registry import Bundle, to_onnx
from mlcluster.spec import AugmentSpec, DataSpec, default_configuration
from mlcluster.train import FAMILIES
from tests.data.image_tables import bar_table, write_bars
from tests.registry.bundles import sample_card


@dataclass(frozen=True, kw_only=True)
class ServedImages:
    """A trained net, its bundle, and what it said of the first test images when it was trained."""

    bundle: Bundle
    images: list[bytes]
    scores: np.ndarray

    @property
    def texts(self) -> list[str]:
        return [base64.b64encode(image).decode() for image in self.images]


def trained_on_bars(folder: Path) -> ServedImages:
    """A small net that tells bars that lie from those that stand."""
    spec = DataSpec(source=str(write_bars(folder, bar_table(200))), target="shape")
    snapshot = prepare(spec, base=folder, folder=folder / "snapshot", seed=0, engine=LocalEngine())
    family = FAMILIES["conv"]
    data = load_training_data(snapshot, ("conv",), augment=AugmentSpec(), seed=0)
    learner = family.build({**default_configuration(family.space), "width": 8}, data, 0)
    learner.advance(3)
    return ServedImages(
        bundle=bundle_of(snapshot, to_onnx(learner.structure())),
        images=snapshot.table("test", max_rows=3).column("picture").to_pylist(),
        scores=learner.scores(snapshot.matrices("test", "dense")[0][:3]),
    )


def bundle_of(snapshot: DatasetSnapshot, model: bytes) -> Bundle:
    return Bundle(
        model=model,
        transform=snapshot.transforms["dense"],
        schema=snapshot.schema,
        card=sample_card("binary", "3"),
        input_example=json_rows(snapshot.table("train", max_rows=2).select(["picture"])),
        evidence={},
    )
