"""Where data work runs."""

from __future__ import annotations

from mlcluster.data import Engine, EngineBySize


def data_engine() -> Engine:
    """Threads for a small table; the Ray that this process is connected to, for a large one."""

    def large() -> Engine:
        from mlcluster.data.ray_engine import RayDataEngine

        return RayDataEngine()

    return EngineBySize(large)
