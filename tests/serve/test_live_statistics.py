"""What replicas count of what they are asked: over HTTP, for Prometheus, and after the window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mlcluster.data import ReferenceProfile, answer_columns, reference_profile
from mlcluster.registry import Bundle
from mlcluster.serve import PredictionLog, Predictor
from mlcluster.serve.http_app import AppContext, app_within
from mlcluster.serve.live_statistics import MAX_SERIES_CELLS, LiveStatistics, StatisticsBoard
from mlcluster.serve.metrics import Replica
from mlcluster.serve.records.answered import Answered
from mlcluster.serve.records.block import RecordBlock
from tests.registry.bundles import sample_bundle, sample_table
from tests.serve.answers import answered, layout
from tests.serve.app_client import AppClient

NOW_MS = 1_800_000_000_000


def bundle_with_reference(num_rows: int = 2_000) -> Bundle:
    bundle, table = sample_bundle(), sample_table(num_rows, seed=1)
    scores = Predictor(bundle).predict(table).scores
    return replace(
        bundle, reference=reference_profile(table, bundle.schema, answer_columns(scores, bundle.schema.target))
    )


@pytest.fixture(scope="module")
def reference() -> ReferenceProfile:
    found = bundle_with_reference().reference
    assert found is not None
    return found


class Watched:
    """An application that is watched, with its records in a folder."""

    def __init__(self, folder: Path, bundle: Bundle) -> None:
        board = StatisticsBoard(window_seconds=3600)
        self.sink = PredictionLog(folder, watch=board.add)
        context = AppContext(self.sink, replica=Replica(name="r1"), statistics=board)
        self.client = AppClient(app_within(context, Predictor(bundle)))

    def ask(self, table: pa.Table) -> None:
        answer = self.client.post("/invocations", json={"dataframe_records": table.to_pylist()})
        assert answer.status_code == 200, answer.text
        self.sink.flush()

    def statistics(self) -> dict[str, Any]:
        answer = self.client.get("/v2/models/demo/versions/3/statistics")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tmp_path, bundle_with_reference())
    yield made
    made.client.close()
    made.sink.close()


def batch_of(*answers: Answered) -> pa.RecordBatch:
    block = RecordBlock(answers[0].layout)
    for one in answers:
        block.add(one)
    return block.batch()


def test_rows_are_counted_by_feature_and_answer(watched: Watched) -> None:
    live = sample_table(90, seed=5)
    watched.ask(live)
    watched.ask(sample_table(20, seed=6))
    found = watched.statistics()
    assert (found["model"], found["version"], found["replica"]) == ("demo", "3", "r1")
    assert (found["num_rows"], found["num_reference_rows"], found["window_seconds"]) == (110, 2_000, 3600)
    features = {column["name"]: column for column in found["features"]}
    assert list(features) == ["income", "age", "city", "code", "member"]
    assert all(sum(column["counts"]) == 110 for column in (*found["features"], *found["answers"]))
    oslo = live["city"].to_pylist().count("Oslo") + sample_table(20, seed=6)["city"].to_pylist().count("Oslo")
    city = dict(zip(features["city"]["cells"], features["city"]["counts"], strict=True))
    assert city["Oslo"] == oslo
    assert all(column["drift"] < 0.1 for column in found["features"])
    assert [column["name"] for column in found["answers"]] == ["label", "probability_yes"]
    assert "/v2/models/demo/statistics" in watched.client.get("/openapi.json").json()["paths"]


def test_values_beyond_training_and_levels_that_it_did_not_have_show(watched: Watched) -> None:
    rows = sample_table(100, seed=7).set_column(2, "city", pa.array(["Nowhere"] * 100))
    watched.ask(rows.set_column(1, "age", pa.array([400] * 60 + [-1] * 40)))
    features = {column["name"]: column for column in watched.statistics()["features"]}
    age = features["age"]["counts"]
    assert (age[0], age[-2]) == (40, 60)
    assert features["city"]["counts"][-2:] == [100, 0]
    assert features["city"]["drift"] > 1
    assert features["member"]["drift"] < 0.1


@pytest.mark.parametrize("num_rows", [101, 1_000])
def test_requests_whose_values_are_not_kept_are_counted_as_small_ones_are(
    watched: Watched, tmp_path: Path, num_rows: int
) -> None:
    rows = sample_table(num_rows, seed=5)
    watched.ask(rows)
    small = Watched(tmp_path / "small", bundle_with_reference())
    for start in range(0, num_rows, 50):
        small.ask(rows.slice(start, 50))
    found, expected = watched.statistics(), small.statistics()
    small.client.close()
    small.sink.close()
    assert (found["num_rows"], found["num_rows_passed_over"]) == (num_rows, 0)
    assert [column["counts"] for column in found["features"]] == [column["counts"] for column in expected["features"]]
    assert [column["counts"] for column in found["answers"]] == [column["counts"] for column in expected["answers"]]


def test_of_a_very_large_request_rows_are_counted_that_are_spread_over_it(reference: ReferenceProfile) -> None:
    statistics = LiveStatistics(reference, sample_bundle().schema.target, window_seconds=60)
    table = sample_table(50_000, seed=5)
    is_late = pa.array([20] * 25_000 + [80] * 25_000)
    late = answered(50_000, columns=table.set_column(1, "age", is_late).to_pydict())
    statistics.add_large(late, now=5.0)
    found = statistics.to_json(late.at_ms)
    assert 6_000 < found["num_rows"] <= 8_192
    assert found["num_rows"] + found["num_rows_passed_over"] == 50_000
    (age,) = (column for column in found["features"] if column["name"] == "age")
    young, old = (count for count in age["counts"] if count)
    assert abs(young - old) <= 100
    statistics.add_large(late, now=9.5)
    assert statistics.to_json(late.at_ms)["num_rows"] == found["num_rows"]
    statistics.add_large(late, now=10.0)
    assert statistics.to_json(late.at_ms)["num_rows"] == 2 * found["num_rows"]


def test_an_answer_is_given_though_its_rows_cannot_be_counted(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("no room")

    monkeypatch.setattr(LiveStatistics, "add_large", fail)
    watched.ask(sample_table(101, seed=5))
    assert watched.statistics()["num_rows"] == 0


def test_prometheus_reads_counts_and_drift(watched: Watched) -> None:
    watched.ask(sample_table(100, seed=5))
    text = watched.client.get("/metrics").text
    labels = 'model="demo",replica="r1",side="input",version="3"'
    lines = [line for line in text.splitlines() if line.startswith("mlcluster_column_rows_total{") and "member" in line]
    assert sum(float(line.rpartition(" ")[2]) for line in lines) == 100
    assert any(f'column="member",{labels}' in line.replace('cell="True",', "") for line in lines)
    assert f'mlcluster_column_drift{{column="age",{labels}}}' in text
    assert 'column="probability_yes",model="demo",replica="r1",side="output"' in text


def test_without_a_reference_profile_there_are_no_statistics_and_all_else_goes_on(tmp_path: Path) -> None:
    plain = Watched(tmp_path, sample_bundle())
    plain.ask(sample_table(3))
    answer = plain.client.get("/v2/models/demo/statistics")
    assert (answer.status_code, "no reference profile" in answer.json()["detail"]) == (404, True)
    assert "mlcluster_column_rows" not in plain.client.get("/metrics").text
    plain.client.close()
    plain.sink.close()


def test_a_window_forgets_and_the_counts_since_the_start_do_not(reference: ReferenceProfile) -> None:
    statistics = LiveStatistics(reference, sample_bundle().schema.target, window_seconds=120)
    for place, minutes in enumerate((0, 1, 3)):
        statistics.add(batch_of(answered(10 + place, at_ms=NOW_MS + minutes * 60_000)))
    counts = [statistics.to_json(NOW_MS + int(minutes * 60_000))["num_rows"] for minutes in (1, 3, 4.5, 10)]
    assert counts == [33, 12, 12, 0]
    rows, *_ = statistics.collect((), (), NOW_MS)
    assert sum(sample.value for sample in rows.samples if sample.labels["column"] == "age") == 33


def test_a_number_of_levels_is_bounded_for_prometheus_and_whole_in_the_statistics() -> None:
    bundle = sample_bundle()
    table = sample_table(500, seed=1).set_column(2, "city", pa.array([f"c{row % 80}" for row in range(500)]))
    scores = Predictor(bundle).predict(sample_table(500, seed=1)).scores
    profile = reference_profile(table, bundle.schema, answer_columns(scores, bundle.schema.target))
    statistics = LiveStatistics(profile, bundle.schema.target, window_seconds=60)
    columns = sample_table(40, seed=2).to_pydict() | {"city": [f"c{row * 2}" for row in range(40)]}
    statistics.add(batch_of(answered(40, columns=columns, at_ms=NOW_MS)))
    rows, *_ = statistics.collect((), (), NOW_MS)
    city = {sample.labels["cell"]: sample.value for sample in rows.samples if sample.labels["column"] == "city"}
    assert len(city) == MAX_SERIES_CELLS
    assert sum(city.values()) == 40
    assert city["other"] > 20
    (described,) = [one for one in statistics.to_json(NOW_MS)["features"] if one["name"] == "city"]
    assert (len(described["levels"]), sum(described["counts"]), described["counts"][-2]) == (80, 40, 0)


def test_of_many_rows_within_five_seconds_the_first_ones_are_counted_and_the_rest_are_told_of(
    reference: ReferenceProfile,
) -> None:
    statistics = LiveStatistics(reference, sample_bundle().schema.target, window_seconds=120)
    block = RecordBlock(layout())
    for seed in range(50):
        block.add(answered(100, seed=seed, at_ms=NOW_MS))
    for now in (5.0, 7.4, 9.9, 10.0):
        statistics.add_block(block, now=now)
    found = statistics.to_json(NOW_MS)
    assert (found["num_rows"], found["num_rows_passed_over"]) == (15_000, 5_000)
    _, _, passed_over = statistics.collect((), (), NOW_MS)
    assert [(sample.name, sample.value) for sample in passed_over.samples] == [
        ("mlcluster_column_rows_passed_over_total", 5_000)
    ]
