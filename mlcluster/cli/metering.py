"""Stages that are paid for by the second: reserved at their worst case, stopped when the money is used up."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from mlcluster.cost import Ledger, NoNodeLog
from mlcluster.errors import BudgetExhausted

_MARGIN_SECONDS = 1.0
"""Kept back of each reservation: a signal waits for the call that is running."""


class StageMeter:
    """Bills each stage for the nodes that it holds."""

    def __init__(self, ledger: Ledger, *, usd_per_second: float, nodes: NoNodeLog | None = None) -> None:
        self._ledger = ledger
        self._nodes = nodes or NoNodeLog()
        self._usd_per_second = usd_per_second

    def reserve(self, stage: str, *, worst_case_seconds: float) -> None:
        """Sets the worst case aside, so that no earlier stage can spend it.

        Raises:
            BudgetExhausted: it does not fit under the cap.
        """
        usd = worst_case_seconds * self._usd_per_second
        if not self._ledger.try_reserve(stage, usd, at=time.time()):
            raise BudgetExhausted(
                f"tune.budget.usd = {self._ledger.cap_usd:g} leaves ${self._ledger.free_usd:.4f}, and {stage} may cost "
                f"${usd:.4f}; raise it, or start anew with --fresh."
            )

    @contextmanager
    def running(self, stage: str) -> Iterator[None]:
        """The stage itself, which `reserve` has paid for; more is reserved while there is more.

        Raises:
            BudgetExhausted: the stage outlasted all that was reserved, and nothing was free.
        """
        started = time.time()
        self._ledger.start(stage, at=started)
        self._nodes.begin_stage(stage)
        try:
            with self._alarm(stage, started):
                yield
        finally:
            self._nodes.end_stage(stage)
            seconds = time.time() - started
            usd = min(seconds * self._usd_per_second, self._ledger.reserved_on(stage))
            self._ledger.settle(stage, usd, seconds=seconds, at=time.time())

    @contextmanager
    def _alarm(self, stage: str, started: float) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def on_alarm(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a signal handler
            more_usd = self._ledger.reserved_on(stage) / 2
            if not self._ledger.try_reserve(stage, more_usd, at=time.time()):
                raise BudgetExhausted(
                    f"{stage} outlasted the {time.time() - started:.0f} s that were paid for, and the cap of "
                    f"${self._ledger.cap_usd:g} leaves no more; raise tune.budget.usd."
                )
            self._set_timer(stage, started)

        previous = signal.signal(signal.SIGALRM, on_alarm)
        self._set_timer(stage, started)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)

    def _set_timer(self, stage: str, started: float) -> None:
        paid_seconds = self._ledger.reserved_on(stage) / self._usd_per_second
        left = started + paid_seconds - time.time() - _MARGIN_SECONDS
        signal.setitimer(signal.ITIMER_REAL, max(0.1, left))
