from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa
import pytest

from mlcluster.registry import Bundle
from mlcluster.serve import Predictor, RequestLimits, build_app
from mlcluster.serve.records.answered import Answered
from mlcluster.serve.records.block import RecordBlock
from mlcluster.serve.records.layout import PredictionRecord, flat_table, records_of
from tests.registry.bundles import sample_bundle
from tests.serve.app_client import AppClient


class MemoryRecords:
    """Records in a list."""

    num_lost = 0

    def __init__(self) -> None:
        self.records: list[PredictionRecord] = []
        self.is_closed = False

    def write(self, answered: Answered) -> None:
        block = RecordBlock(answered.layout)
        block.add(answered)
        self.records += records_of(flat_table(pa.Table.from_batches([block.batch()])))

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture(scope="session")
def predictor() -> Predictor:
    return Predictor(sample_bundle())


@pytest.fixture
def records() -> MemoryRecords:
    return MemoryRecords()


@pytest.fixture
def start(records: MemoryRecords) -> Iterator[Callable[..., AppClient]]:
    """Makes a client of the app around a bundle."""
    clients: list[AppClient] = []

    def make(bundle: Bundle | None = None, limits: RequestLimits | None = None) -> AppClient:
        app = build_app(Predictor(bundle or sample_bundle()), record=records, limits=limits)
        clients.append(AppClient(app))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def client(start: Callable[..., AppClient]) -> AppClient:
    return start()
