"""A cloud's notice that a spot machine is taken away: heard in each cloud's own words, told to Ray once."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from mlcluster.cluster.spot_notice import NOTICES, Cloud, Metadata, Notice, watch
from tests.cluster.metadata_service import (
    AZURE_EVENTS,
    AZURE_NAME,
    GCP_PREEMPTED,
    INSTANCE_ACTION,
    REBALANCE,
    Service,
    azure_events,
    metadata_service,
)

ACTION = json.dumps({"action": "terminate", "time": "2017-09-18T08:22:00Z"})
ACTION_AT = 1505722920.0
NOT_BEFORE, NOT_BEFORE_AT = "Mon, 19 Sep 2016 18:29:47 GMT", 1474309787.0


@pytest.fixture
def service() -> Iterator[Service]:
    with metadata_service() as found:
        yield found


def look(service: Service, cloud: Cloud, now: float = 1000.0) -> Notice | None:
    return NOTICES[cloud](Metadata(service.url)).look(now)


def test_where_nothing_is_to_happen_no_cloud_has_a_notice(service: Service) -> None:
    service.documents = {GCP_PREEMPTED: "FALSE", AZURE_EVENTS: '{"DocumentIncarnation": 1, "Events": []}'}
    assert [look(service, cloud) for cloud in NOTICES] == [None, None, None]


def test_aws_says_when_and_is_asked_with_a_token(service: Service) -> None:
    service.documents[INSTANCE_ACTION] = ACTION
    assert look(service, "aws") == Notice(text="EC2 will terminate it at 2017-09-18T08:22:00Z", until=ACTION_AT)
    assert service.asked == ["PUT /latest/api/token", f"GET {INSTANCE_ACTION}"]


def test_a_token_that_has_expired_is_renewed_and_one_that_has_not_is_used_again(service: Service) -> None:
    notices = NOTICES["aws"](Metadata(service.url))
    assert notices.look(0.0) is None
    assert notices.look(0.0) is None
    assert len(service.tokens) == 1
    service.tokens.append("another")
    service.documents[INSTANCE_ACTION] = ACTION
    found = notices.look(0.0)
    assert found is not None
    assert (found.until, len(service.tokens)) == (ACTION_AT, 3)


def test_a_rebalance_is_no_moment_and_an_interruption_counts_before_it(service: Service) -> None:
    service.documents[REBALANCE] = json.dumps({"noticeTime": "2020-10-27T08:22:00Z"})
    assert look(service, "aws") == Notice(text="EC2 recommends a rebalance since 2020-10-27T08:22:00Z", until=None)
    service.documents[INSTANCE_ACTION] = ACTION
    found = look(service, "aws")
    assert found is not None
    assert found.until == ACTION_AT


def test_google_leaves_half_a_minute(service: Service) -> None:
    service.documents[GCP_PREEMPTED] = "TRUE"
    assert look(service, "gcp", now=1000.0) == Notice(text="Compute Engine preempts it", until=1030.0)


def test_azure_tells_of_all_machines_of_a_set_and_of_other_events(service: Service) -> None:
    service.documents = {AZURE_NAME: "workers_1"}
    service.documents[AZURE_EVENTS] = azure_events("Preempt", "workers_0", not_before=NOT_BEFORE)
    assert look(service, "azure") is None
    service.documents[AZURE_EVENTS] = azure_events("Reboot", "workers_1", not_before=NOT_BEFORE)
    assert look(service, "azure") is None
    service.documents[AZURE_EVENTS] = azure_events("Preempt", "workers_0", "workers_1", not_before=NOT_BEFORE)
    found = look(service, "azure")
    assert found == Notice(text=f"Azure preempts it not before {NOT_BEFORE}", until=NOT_BEFORE_AT)
    service.documents[AZURE_EVENTS] = azure_events("Preempt", "workers_1", not_before="")
    found = look(service, "azure", now=7.0)
    assert found is not None
    assert found.until == 7.0


class Script:
    """What a cloud tells, look by look; an error is raised."""

    def __init__(self, *told: Notice | Exception | None) -> None:
        self.told = list(told)

    def look(self, now: float) -> Notice | None:
        found = self.told.pop(0)
        if isinstance(found, Exception):
            raise found
        return found


def test_each_notice_that_says_more_is_told_once_and_the_final_one_ends_the_watch() -> None:
    likely, sure = Notice(text="rebalance", until=None), Notice(text="terminate", until=100.0)
    script = Script(None, OSError("no route"), likely, likely, json.JSONDecodeError("cut", "", 0), sure)
    told: list[Notice] = []
    waits: list[float] = []
    assert watch(script, told.append, clock=lambda: 0.0, wait=waits.append) == sure
    assert told == [likely, sure]
    assert waits == [5.0] * 5
