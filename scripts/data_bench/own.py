"""mlcluster: `prepare_shards`, on threads or on the Ray session that is there."""

from __future__ import annotations

from pathlib import Path

from data_bench.work import KEY, SEED, TARGET
from mlcluster.data import Engine, LocalEngine, prepare_shards
from mlcluster.spec import DataSpec


def run(source: Path, out: Path, num_threads: int = 2) -> None:
    """On threads of this process."""
    _prepare(source, out, LocalEngine(num_threads))


def run_on_ray(source: Path, out: Path) -> None:
    """On Ray's workers."""
    from mlcluster.data.ray_engine import RayDataEngine

    _prepare(source, out, RayDataEngine())


def _prepare(source: Path, out: Path, engine: Engine) -> None:
    spec = DataSpec(source=source.name, target=TARGET, key=KEY)
    prepare_shards(spec, base=source.parent, folder=out, seed=SEED, engine=engine)
