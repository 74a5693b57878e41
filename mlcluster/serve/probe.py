"""The trial of a new version: it is asked as a client would ask it, before any client's request goes there."""

from __future__ import annotations

import http.client
import json
import math
import statistics
import time
from dataclasses import dataclass

from mlcluster.data import rows_to_table
from mlcluster.errors import ClusterError
from mlcluster.serve.front.haproxy_config import Address
from mlcluster.serve.front_only import FRONT_HEADER
from mlcluster.serve.openapi import example_row, infer_example
from mlcluster.serve.predictor import Predictor

_NUM_REQUESTS = 5
"""Few: they are recorded as the predictions that they are."""
_TOLERANCE = 1e-6
_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """A request whose answer is known."""

    path: str
    body: bytes
    scores: tuple[float, ...]
    """What the predictor says to it, of the last output, in one line."""
    limit_seconds: float
    """For the median of the answers."""

    @classmethod
    def of(cls, predictor: Predictor, *, limit_seconds: float) -> Probe:
        """The example row of the predictor's bundle, answered here."""
        prediction = predictor.predict(rows_to_table([example_row(predictor)], predictor.schema))
        return cls(
            path=f"/v2/models/{predictor.name}/versions/{predictor.version}/infer",
            body=json.dumps(infer_example(predictor)).encode(),
            scores=tuple(float(score) for score in prediction.scores.ravel()),
            limit_seconds=limit_seconds,
        )


def try_out(address: Address, probe: Probe, *, front_secret: str) -> float:
    """Sends the probe a few times; gives the median of the seconds that the answers took.

    Raises:
        ClusterError: it is not answered with 200, not with finite numbers, not with those that are known, or too late.
    """
    headers = {"content-type": "application/json", FRONT_HEADER: front_secret}
    connection = http.client.HTTPConnection(address.host, address.port, timeout=_TIMEOUT_SECONDS)
    seconds: list[float] = []
    try:
        for _ in range(_NUM_REQUESTS):
            started = time.perf_counter()
            connection.request("POST", probe.path, probe.body, headers)
            response = connection.getresponse()
            text = response.read()
            seconds.append(time.perf_counter() - started)
            problem = _problem(response.status, text, probe)
            if problem is not None:
                raise ClusterError(f"serve = the new version {problem} when it was tried; see the log of its replica.")
    except (OSError, http.client.HTTPException) as error:
        raise ClusterError(
            f"serve = the new version did not answer within {_TIMEOUT_SECONDS:g} s when it was tried "
            f"({error or type(error).__name__}); see the log of its replica."
        ) from error
    finally:
        connection.close()
    median = statistics.median(seconds)
    if median > probe.limit_seconds:
        raise ClusterError(
            f"serve.slowest_ms = {probe.limit_seconds * 1000:g} is less than the {median * 1000:.0f} ms that the new "
            "version takes for one row; raise it, or choose a smaller model."
        )
    return median


def _problem(status: int, text: bytes, probe: Probe) -> str | None:
    if status != 200:
        return f"answered {status}"
    try:
        outputs = json.loads(text)["outputs"]
        scores = [float(score) for score in outputs[-1]["data"]]
    except (ValueError, KeyError, TypeError, IndexError):
        return f"answered {text[:80]!r}, which holds no output"
    if not all(math.isfinite(score) for score in scores):
        return "answered numbers that are not finite"
    if not _is_close(scores, probe.scores):
        return f"answered {scores[:4]}, and its bundle says {list(probe.scores[:4])},"
    return None


def _is_close(scores: list[float], known: tuple[float, ...]) -> bool:
    return len(scores) == len(known) and all(
        math.isclose(score, expected, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
        for score, expected in zip(scores, known, strict=True)
    )
