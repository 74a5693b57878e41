"""Has the world moved?

In: what was answered, and the labels that came for it. Out: `LiveReport`, how good the live answers are, with bounds.
"""

from mlcluster.monitor.quality import LiveQuality, LiveReport, live_quality

__all__ = ["LiveQuality", "LiveReport", "live_quality"]
