"""The prediction log in this process: what is found again, in which files, and what is lost when there is no room."""

from __future__ import annotations

import json
import logging
import os
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from mlcluster.errors import DataError
from mlcluster.serve import NoRecords, PredictionLog, Predictor, build_app, find_record, new_prediction_id, read_records
from mlcluster.serve.openapi import invocation_example
from mlcluster.serve.records.stream import Rotation
from tests.registry.bundles import Task, sample_bundle
from tests.serve.answers import answered, eventually, labels_of, recorded
from tests.serve.app_client import AppClient


def test_what_is_no_id_is_refused(tmp_path) -> None:
    with pytest.raises(DataError, match="prediction id = "):
        find_record(tmp_path, "../etc/passwd")


def test_a_record_is_found_by_its_id_and_by_a_row_of_it_while_its_file_is_open_and_when_it_is_closed(tmp_path) -> None:
    sink = PredictionLog(tmp_path / "records")
    wanted = answered(2, seed=1)
    for one in (answered(), wanted, answered()):
        sink.write(one)
    (expected,) = recorded(wanted)
    sink.flush()
    assert [path.suffix for path in (tmp_path / "records").iterdir()] == [".open"]
    assert find_record(tmp_path / "records", wanted.id) == expected
    sink.close()
    assert [path.suffix for path in (tmp_path / "records").iterdir()] == [".parquet"]
    assert find_record(tmp_path / "records", wanted.id) == expected
    assert find_record(tmp_path / "records", f"{wanted.id}#1") == expected
    assert find_record(tmp_path / "records", new_prediction_id("demo", "3")) is None


def test_records_reach_the_disk_within_seconds_and_only_their_owner_reads_them(tmp_path) -> None:
    sink = PredictionLog(tmp_path)
    one = answered()
    sink.write(one)
    assert eventually(lambda: find_record(tmp_path, one.id) is not None)
    (path,) = tmp_path.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    sink.close()
    (path,) = tmp_path.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_is_closed_by_its_age_without_another_answer(tmp_path) -> None:
    sink = PredictionLog(tmp_path, rotation=Rotation(max_seconds=0.1))
    sink.write(answered())
    assert eventually(lambda: bool(list(tmp_path.glob("*.parquet"))))
    sink.close()


def test_many_files_are_passed_over_for_one_id(tmp_path, monkeypatch) -> None:
    sink = PredictionLog(tmp_path, rotation=Rotation(max_bytes=1))
    answers = []
    for _ in range(12):
        answers.append(answered(32))
        sink.write(answers[-1])
        sink.flush()
        time.sleep(0.003)  # the moments of files are milliseconds
    sink.close()
    assert len(list(tmp_path.glob("*.parquet"))) == 12
    opened = []
    read_table = pq.read_table
    monkeypatch.setattr(pq, "read_table", lambda path, **options: opened.append(path) or read_table(path, **options))
    for one in answers:
        assert find_record(tmp_path, one.id).id == one.id
    assert len(opened) == 12


def test_any_reader_of_parquet_reads_typed_columns(tmp_path) -> None:
    sink = PredictionLog(tmp_path)
    asked = [answered(3, seed=1), answered(1, seed=2)]
    for one in asked:
        sink.write(one)
    sink.close()
    (path,) = tmp_path.glob("*.parquet")
    frame = pd.read_parquet(path)
    assert frame["prediction_id"].tolist() == [asked[0].id] * 3 + [asked[1].id]
    assert frame["row"].tolist() == [0, 1, 2, 0]
    assert frame["input_age"].tolist() == [*asked[0].columns["age"], *asked[1].columns["age"]]
    assert frame["label"].tolist() == [*labels_of(asked[0]), *labels_of(asked[1])]
    assert frame["input_income"].dtype == "float64"
    assert str(frame["answered_at"].dtype) == "datetime64[ms, UTC]"
    assert set(frame["version"]) == {"3"}


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_a_request_of_many_rows_among_others_leaves_a_file_that_can_be_read(tmp_path, task: Task) -> None:
    sink = PredictionLog(tmp_path)
    asked = [answered(num_rows, seed=num_rows, task=task) for num_rows in (1, 101, 4, 0, 1)]
    for one in asked:
        sink.write(one)
    sink.close()
    (path,) = tmp_path.glob("*.parquet")
    assert pd.read_parquet(path)["num_rows"].tolist() == [1, 101, 4, 4, 4, 4, 0, 1]
    assert list(read_records(tmp_path)) == recorded(*asked)
    assert find_record(tmp_path, asked[1].id).digest == recorded(asked[1])[0].digest


def test_lines_of_earlier_versions_are_read_before_the_rest(tmp_path) -> None:
    old, half = (recorded(answered())[0] for _ in range(2))
    line = {name: value for name, value in asdict(old).items() if name not in ("request_id", "trace_id")} | {
        "digest": "0" * 64
    }
    text = json.dumps(line, separators=(",", ":")) + "\n" + f'{{"id":"{half.id}","model":"de'
    (tmp_path / "predictions-1700000000000000000-17-0badcafe.jsonl").write_text(text)
    sink = PredictionLog(tmp_path)
    new = answered()
    sink.write(new)
    sink.close()
    assert [record.id for record in read_records(tmp_path)] == [old.id, new.id]
    assert find_record(tmp_path, old.id).inputs == old.inputs
    assert find_record(tmp_path, half.id) is None


def test_two_logs_share_a_folder_and_threads_lose_nothing(tmp_path) -> None:
    sinks = [PredictionLog(tmp_path, rotation=Rotation(max_bytes=40_000)) for _ in range(2)]

    def write(sink: PredictionLog) -> None:
        for number in range(700):
            sink.write(answered())
            if number % 100 == 0:
                sink.flush()

    threads = [threading.Thread(target=write, args=(sink,)) for sink in sinks for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for sink in sinks:
        sink.close()
    assert {path.suffix for path in tmp_path.iterdir()} == {".parquet"}
    ids = [record.id for record in read_records(tmp_path)]
    assert (len(ids), len(set(ids))) == (2_800, 2_800)
    assert sum(sink.num_lost for sink in sinks) == 0


def test_a_record_after_closing_is_still_written(tmp_path) -> None:
    sink = PredictionLog(tmp_path)
    sink.close()
    late = answered()
    sink.write(late)
    assert find_record(tmp_path, late.id).id == late.id


def test_a_folder_is_kept_below_its_limit_and_the_newest_records_stay(tmp_path) -> None:
    limit = 400_000
    sinks = [PredictionLog(tmp_path, max_bytes=limit) for _ in range(2)]
    (tmp_path / "feedback.jsonl").write_text("x" * limit)
    ids = []
    for _ in range(40):
        for sink in sinks:
            for seed in range(12):
                made = answered(40, seed=len(ids) + seed)
                ids.append(made.id)
                sink.write(made)
            sink.flush()
    for sink in sinks:
        sink.close()
    total = sum(path.stat().st_size for path in tmp_path.glob("predictions-*"))
    assert limit / 2 < total <= limit
    kept = [one.id for one in read_records(tmp_path)]
    assert len(kept) < len(ids)
    assert set(kept) >= set(ids[-100:])
    assert (tmp_path / "feedback.jsonl").stat().st_size == limit
    assert find_record(tmp_path, ids[0]) is None


def test_a_request_whose_record_cannot_be_made_is_lost_alone(tmp_path, caplog) -> None:
    sink = PredictionLog(tmp_path)
    good, bad = answered(), answered(columns={"income": [1.0]})
    for one in (good, bad):
        sink.write(one)
    sink.close()
    assert [record.id for record in read_records(tmp_path)] == [good.id]
    assert sink.num_lost == 1
    assert "lost a prediction record that could not be made" in caplog.text


def test_more_than_may_wait_is_lost_and_counted_rather_than_held(tmp_path, monkeypatch, caplog) -> None:
    monkeypatch.setattr("mlcluster.serve.records.prediction_log._MAX_WAITING", 10)
    sink = PredictionLog(tmp_path)
    sink._file_lock.acquire()  # the disk takes nothing
    for _ in range(25):
        sink.write(answered())
    lost = sink.num_lost
    sink._file_lock.release()
    sink.close()
    assert 0 < lost <= 15
    assert len(list(read_records(tmp_path))) == 25 - sink.num_lost
    assert f"lost {lost} prediction records: the disk is slower than the answers" in caplog.text


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 96 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_on_a_full_disk_answers_go_on_and_what_is_lost_is_counted(small_disk, caplog) -> None:
    predictor = Predictor(sample_bundle())
    sink = PredictionLog(small_disk, rotation=Rotation(max_bytes=30_000))
    client = AppClient(build_app(predictor, record=sink))
    ids = []
    with caplog.at_level(logging.WARNING):
        while sink.num_lost < 50 and len(ids) < 5_000:
            for _ in range(50):
                answer = client.post("/invocations", json=invocation_example(predictor))
                assert answer.status_code == 200
                ids.append(answer.headers["x-prediction-id"])
            sink.flush()
    assert f'mlcluster_records_lost_total{{model="demo",replica="",version="3"}} {sink.num_lost}.0' in (
        client.get("/metrics").text
    )
    assert "prediction records: [Errno 28] No space left on device" in caplog.text
    found = {record.id for record in read_records(small_disk)}
    assert len(found) == len(ids) - sink.num_lost
    assert ids[0] in found
    for path in small_disk.glob("*.parquet"):  # whoever keeps records may move them away
        path.unlink()
    sink.flush()
    answer = client.post("/invocations", json=invocation_example(predictor))
    sink.close()
    client.close()
    assert find_record(small_disk, answer.headers["x-prediction-id"]) is not None


def test_no_records_keeps_nothing() -> None:
    NoRecords().write(answered())
    NoRecords().close()
    assert NoRecords().num_lost == 0


def test_models_that_share_a_log_have_files_of_their_own(tmp_path) -> None:
    sink = PredictionLog(tmp_path)
    both = [answered(2, task="binary"), answered(2, task="regression"), answered(1, task="binary")]
    for one in both:
        sink.write(one)
    sink.close()
    assert len(list(tmp_path.glob("*.parquet"))) == 2
    assert {record.id for record in read_records(tmp_path)} == {one.id for one in both}
    assert find_record(tmp_path, both[1].id).outputs == {"value": labels_of(both[1], "regression")}
