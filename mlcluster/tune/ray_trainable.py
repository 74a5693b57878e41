"""The worker of a study on Ray Tune: a process that trains one piece a step, and ends when the money for it does."""

from __future__ import annotations

import faulthandler
import json
import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray
from ray import tune

from mlcluster.errors import ClusterError
from mlcluster.train import Segment, TrialReport, warm_up

log = logging.getLogger(__name__)

Trainer = Callable[[Segment], TrialReport]
TrainerTogether = Callable[[Sequence[Segment]], Sequence[TrialReport]]


class PieceTrainable(tune.Trainable):
    """Trains one piece a step, inside a limit of seconds that holds whatever the training does."""

    def setup(
        self,
        config: dict[str, Any],
        trainers: tuple[Trainer, TrainerTogether | None],
        families: tuple[str, ...] = (),
    ) -> None:
        self._trainer, self._together = trainers
        self._piece: tuple[Segment, ...] = ()
        self._node_id = ray.get_runtime_context().get_node_id()
        _use_one_thread()
        try:
            warm_up(families, config["worker"])
        except ClusterError as error:
            log.warning("%s", error)  # whatever is trained here fails with the same words

    def hand(self, piece: tuple[Segment, ...]) -> None:
        """What the next step trains."""
        self._piece = piece

    def step(self) -> dict[str, Any]:
        return {"node_id": self._node_id, **self._step()}

    def _step(self) -> dict[str, Any]:
        piece, self._piece = self._piece, ()
        if not piece:
            return {"loss": math.inf}  # the first step: it is up, and may be handed something
        # A watchdog in C that asks neither the GIL nor the training: once what was paid for is used up the process is
        # gone, so that it never costs more than was reserved for it.
        paid_seconds = max(0.01, piece[0].deadline - time.time())
        faulthandler.dump_traceback_later(paid_seconds, exit=True, file=_devnull())
        try:
            reports = self._train(piece)
        except Exception as error:
            log.exception("training failed trial_id=%s", " ".join(segment.trial_id for segment in piece))
            return {"loss": math.inf, "error": f"{type(error).__name__}: {error}"}
        finally:
            faulthandler.cancel_dump_traceback_later()
        return {"loss": reports[0].loss, "reports": json.dumps([report.to_json() for report in reports])}

    def _train(self, piece: tuple[Segment, ...]) -> Sequence[TrialReport]:
        if len(piece) == 1 or self._together is None:
            return [self._trainer(segment) for segment in piece]
        return self._together(piece)


def _use_one_thread() -> None:
    """A slot is one CPU; torch would otherwise take them all."""
    import torch

    torch.set_num_threads(1)


def _devnull() -> Any:
    return Path(os.devnull).open("w")
