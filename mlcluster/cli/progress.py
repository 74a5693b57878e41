"""What a person sees on stderr while a run goes on: one line a stage, and a live line in a terminal."""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import TextIO

from mlcluster.tune import Study

_SECONDS_BETWEEN_PLAIN_LINES = 15.0


class Progress:
    """Rewrites one line in a terminal; elsewhere it writes a line now and then. Stays silent when `quiet`."""

    def __init__(self, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._is_live = self._stream.isatty()
        self._has_open_line = False
        self._last_plain = 0.0

    def say(self, text: str) -> None:
        """A line that stays."""
        if self._quiet:
            return
        self._close_line()
        self._stream.write(text + "\n")
        self._stream.flush()

    def stage(self, name: str, text: str = "") -> None:
        """The beginning of a stage."""
        self.say(f"{name:<8} {text}".rstrip())

    def study(self, study: Study) -> None:
        """Where the search stands."""
        states = Counter(str(trial.state) for trial in study.trials)
        counts = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
        best = f"best {study.plan.metric} {study.best.value:.4f}" if study.best else "no score yet"
        self.live(
            f"tune     {len(study.trials)} trials ({counts}), {best}, "
            f"${study.usd_so_far:.4f} spent, {study.seconds_left:.0f} s left at most"
        )

    def live(self, text: str) -> None:
        """Where long work stands."""
        if self._quiet:
            return
        if self._is_live:
            self._stream.write("\r\x1b[2K" + text)
            self._has_open_line = True
        elif time.monotonic() - self._last_plain >= _SECONDS_BETWEEN_PLAIN_LINES:
            self._last_plain = time.monotonic()
            self._stream.write(text + "\n")
        self._stream.flush()

    def _close_line(self) -> None:
        if self._has_open_line:
            self._stream.write("\n")
            self._has_open_line = False
