from __future__ import annotations

import json
import logging
import os
import stat
import threading
import time
from functools import partial

import pytest

from mlcluster.errors import DataError
from mlcluster.serve import JsonlRecordSink, NoRecords, find_record, new_prediction_id, parse_prediction_id
from mlcluster.serve.records import PredictionRecord, read_records


def record(prediction_id: str | None = None) -> PredictionRecord:
    return PredictionRecord(
        id=prediction_id or new_prediction_id("demo", "3"),
        model="demo",
        version="3",
        trial_id="t-1",
        received_at="2026-01-01T00:00:00.000+00:00",
        num_rows=1,
        latency_ms=0.5,
        digest="0" * 64,
        inputs={"city": ["Ħal Qormi", None]},
        outputs={"label": ["yes"]},
    )


def test_ids_sort_by_time_and_never_repeat() -> None:
    ids = [new_prediction_id("demo", "3") for _ in range(1_000)]
    assert len(set(ids)) == 1_000
    time.sleep(0.002)
    assert new_prediction_id("demo", "3") > max(ids)
    uid = parse_prediction_id(ids[0]).uid
    assert uid[12] == "7"
    assert uid[16] in "89ab"


def test_an_id_is_read_with_and_without_its_row() -> None:
    text = new_prediction_id("my-model", "12")
    assert parse_prediction_id(text).row is None
    parts = parse_prediction_id(f"{text}#17")
    assert (parts.model, parts.version, parts.row, parts.request_id) == ("my-model", "12", 17, text)


def test_a_name_that_would_break_the_id_is_made_plain() -> None:
    assert parse_prediction_id(new_prediction_id("a.b c/ü", "1.0")).model == "a_b_c__"


@pytest.mark.parametrize("text", ["", "demo", "demo.3.xyz", "demo.3." + "0" * 32 + "#x", "../etc/passwd"])
def test_what_is_no_id_is_refused(text, tmp_path) -> None:
    with pytest.raises(DataError, match="prediction id = "):
        find_record(tmp_path, text)


def test_a_record_is_found_by_its_id_and_by_a_row_of_it(tmp_path) -> None:
    sink = JsonlRecordSink(tmp_path / "records")
    wanted = record()
    for one in (record(), wanted, record()):
        sink.write(partial(lambda written: written, one))
    sink.close()
    assert find_record(tmp_path / "records", wanted.id) == wanted
    assert find_record(tmp_path / "records", f"{wanted.id}#0") == wanted
    assert find_record(tmp_path / "records", new_prediction_id("demo", "3")) is None


def test_records_reach_the_disk_within_seconds_and_only_their_owner_reads_them(tmp_path) -> None:
    sink = JsonlRecordSink(tmp_path)
    sink.write(record)
    deadline = time.monotonic() + 10
    while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    (path,) = tmp_path.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    sink.close()


def test_two_sinks_write_two_files_and_threads_lose_nothing(tmp_path) -> None:
    sinks = [JsonlRecordSink(tmp_path) for _ in range(2)]

    def write(sink: JsonlRecordSink) -> None:
        for _ in range(700):
            sink.write(record)

    threads = [threading.Thread(target=write, args=(sink,)) for sink in sinks for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for sink in sinks:
        sink.close()
    lines = [line for path in tmp_path.iterdir() for line in path.read_text().splitlines()]
    assert len(list(tmp_path.iterdir())) == 2
    assert len({json.loads(line)["id"] for line in lines}) == 2_800


def test_a_record_after_closing_is_still_written(tmp_path) -> None:
    sink = JsonlRecordSink(tmp_path)
    sink.close()
    late = record()
    sink.write(lambda: late)
    assert find_record(tmp_path, late.id) == late


def test_a_line_that_a_killed_process_left_half_is_passed_over(tmp_path) -> None:
    half, whole = record(), record()
    text = f'{{"id":"{half.id}","model":"de'
    (tmp_path / "predictions-0-1-a.jsonl").write_text(text)
    sink = JsonlRecordSink(tmp_path)
    sink.write(lambda: whole)
    sink.close()
    assert find_record(tmp_path, half.id) is None
    assert find_record(tmp_path, whole.id) == whole


def test_a_full_disk_loses_records_with_a_warning_and_not_answers(tmp_path, monkeypatch, caplog) -> None:
    sink = JsonlRecordSink(tmp_path)

    def fail(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "open", fail)
    sink.write(record)
    with caplog.at_level(logging.WARNING):
        sink.close()
    assert "lost 1 prediction records" in caplog.text


def test_no_records_keeps_nothing() -> None:
    NoRecords().write(record)
    NoRecords().close()


def test_a_folder_is_kept_below_its_limit_and_the_newest_records_stay(tmp_path) -> None:
    limit = 200_000
    sinks = [JsonlRecordSink(tmp_path, max_bytes=limit) for _ in range(2)]
    (tmp_path / "feedback.jsonl").write_text("x" * limit)
    ids = []
    for _ in range(60):
        for sink in sinks:
            for _ in range(20):
                made = record()
                ids.append(made.id)
                sink.write(partial(lambda written: written, made))
            sink.flush()
    for sink in sinks:
        sink.close()
    files = sorted(tmp_path.glob("predictions-*.jsonl"))
    total = sum(path.stat().st_size for path in files)
    assert limit / 2 < total <= limit
    assert len(files) > 4
    kept = [one.id for one in read_records(tmp_path)]
    assert len(kept) < len(ids)
    assert set(kept) >= set(ids[-200:])
    assert (tmp_path / "feedback.jsonl").stat().st_size == limit
    assert find_record(tmp_path, ids[0]) is None
