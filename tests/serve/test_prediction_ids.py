from __future__ import annotations

import time

import pytest

from mlcluster.errors import DataError
from mlcluster.serve import find_record, new_prediction_id, parse_prediction_id


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


def test_an_id_bears_its_moment() -> None:
    before = time.time_ns() // 1_000_000
    assert before <= parse_prediction_id(new_prediction_id("demo", "3")).milliseconds <= time.time_ns() // 1_000_000
