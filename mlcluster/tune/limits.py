"""What serving a model may need at most, and what breaks it."""

from __future__ import annotations

from dataclasses import dataclass

from mlcluster.train import Measured


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """At most this much; None is no limit."""

    p99_ms: float | None = None
    model_mb: float | None = None

    def violation(self, measured: Measured | None) -> str | None:
        """What breaks a limit, with both numbers; None where nothing does, or nothing was measured."""
        if measured is None:
            return None
        if self.p99_ms is not None and measured.p99_ms > self.p99_ms:
            return f"needs {measured.p99_ms:.3g} ms at p99, over tune.limits.p99_ms = {self.p99_ms:g}"
        if self.model_mb is not None and measured.model_mb > self.model_mb:
            return f"needs {measured.model_mb:.3g} MB, over tune.limits.model_mb = {self.model_mb:g}"
        return None
