"""Where data work runs."""

from __future__ import annotations

from pathlib import Path

from mlcluster.data import Engine, EngineBySize, LocalEngine


def data_engine(folder: Path) -> Engine:
    """Threads for a small table; the Ray that this process is connected to, for a large one.

    Each node writes its part into `folder`: where one of them does not see it, a large table takes threads as well.
    """

    def large() -> Engine:
        from mlcluster.data.ray_engine import RayDataEngine, is_shared

        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return RayDataEngine() if is_shared(folder) else LocalEngine()

    return EngineBySize(large)
