"""What a cloud tells a spot machine before it takes it away, out of the metadata service that each machine has.

- AWS: `spot/instance-action` two minutes before, and `events/recommendations/rebalance` where the risk has risen, both
  404 until then; over IMDSv2, so with a token (EC2 User Guide, "Spot Instance interruption notices").
- Google Cloud: `instance/preempted` turns TRUE about 30 s before (Compute Engine, "Spot VMs").
- Azure: a scheduled event `Preempt`, at least 30 s before, for this machine among others ("Scheduled Events for Linux
  VMs").
"""

from __future__ import annotations

import email.utils
import json
import logging
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

log = logging.getLogger(__name__)

Cloud = Literal["aws", "gcp", "azure"]
ADDRESS = "http://169.254.169.254"
"""Of the metadata service, in each of the three."""
LOOK_SECONDS = 5.0
"""As AWS recommends."""
GCP_NOTICE_SECONDS = 30.0
_TIMEOUT_SECONDS = 3.0
_TOKEN_SECONDS = 21_600
_NOT_FOUND, _UNAUTHORIZED = 404, 401


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """`until` is when the machine goes, in seconds since the epoch; None where that is only likely, and no moment."""

    text: str
    until: float | None


class Notices(Protocol):
    """What one cloud tells."""

    def look(self, now: float) -> Notice | None:
        """The notice that there is at that moment.

        Raises:
            OSError: the metadata service does not answer.
        """


class Metadata:
    """A machine's metadata service; 404 is None."""

    def __init__(self, address: str = ADDRESS) -> None:
        self._address = address

    def get(self, path: str, headers: Mapping[str, str]) -> str | None:
        return self._ask("GET", path, headers)

    def put(self, path: str, headers: Mapping[str, str]) -> str | None:
        return self._ask("PUT", path, headers)

    def _ask(self, method: str, path: str, headers: Mapping[str, str]) -> str | None:
        request = urllib.request.Request(self._address + path, method=method, headers=dict(headers))  # noqa: S310
        # The service is on the machine itself: no proxy stands before it.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=_TIMEOUT_SECONDS) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            if error.code == _NOT_FOUND:
                return None
            raise


class AwsNotices:
    """Interruption before rebalance: where both are there, the machine goes."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata
        self._token: str | None = None

    def look(self, now: float) -> Notice | None:  # noqa: ARG002 - it says when
        action = self._get("/latest/meta-data/spot/instance-action")
        if action is not None:
            told = json.loads(action)
            return Notice(text=f"EC2 will {told['action']} it at {told['time']}", until=_moment(told["time"]))
        rebalance = self._get("/latest/meta-data/events/recommendations/rebalance")
        if rebalance is None:
            return None
        return Notice(text=f"EC2 recommends a rebalance since {json.loads(rebalance)['noticeTime']}", until=None)

    def _get(self, path: str) -> str | None:
        try:
            return self._metadata.get(path, self._headers())
        except urllib.error.HTTPError as error:
            if error.code != _UNAUTHORIZED:
                raise
        self._token = None  # it had expired
        return self._metadata.get(path, self._headers())

    def _headers(self) -> dict[str, str]:
        if self._token is None:
            lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_SECONDS)}
            self._token = self._metadata.put("/latest/api/token", lifetime)
        return {"X-aws-ec2-metadata-token": self._token or ""}


class GcpNotices:
    """It gives no moment: 30 s after it was first seen is what the documentation leaves."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata

    def look(self, now: float) -> Notice | None:
        told = self._metadata.get("/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"})
        if told is None or told.strip() != "TRUE":
            return None
        return Notice(text="Compute Engine preempts it", until=now + GCP_NOTICE_SECONDS)


class AzureNotices:
    """Events are those of a whole scale set or availability set; what is of another machine is passed over."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata
        self._name: str | None = None

    def look(self, now: float) -> Notice | None:
        told = self._metadata.get("/metadata/scheduledevents?api-version=2020-07-01", {"Metadata": "true"})
        for event in json.loads(told or '{"Events": []}')["Events"]:
            if event["EventType"] == "Preempt" and self._own_name() in event["Resources"]:
                # An event that has begun has no moment any more.
                until = email.utils.parsedate_to_datetime(event["NotBefore"]).timestamp() if event["NotBefore"] else now
                return Notice(text=f"Azure preempts it not before {event['NotBefore'] or 'now'}", until=until)
        return None

    def _own_name(self) -> str | None:
        if self._name is None:
            path = "/metadata/instance/compute/name?api-version=2021-02-01&format=text"
            self._name = self._metadata.get(path, {"Metadata": "true"})
        return self._name


NOTICES: Mapping[Cloud, Callable[[Metadata], Notices]] = {"aws": AwsNotices, "gcp": GcpNotices, "azure": AzureNotices}


def watch(
    notices: Notices, drain: Callable[[Notice], None], *, clock: Callable[[], float], wait: Callable[[float], None]
) -> Notice:
    """Looks every few seconds; `drain` is told of each notice that says more than the last. Ends with the final one.

    A service that does not answer, or not as documented, is asked again.
    """
    last: Notice | None = None
    while True:
        try:
            found = notices.look(clock())
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.debug("metadata service: %s", error)
            found = None
        if found is not None and (last is None or found.until is not None):
            log.warning("spot notice: %s", found.text)
            drain(found)
            last = found
        if last is not None and last.until is not None:
            return last
        wait(LOOK_SECONDS)


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
