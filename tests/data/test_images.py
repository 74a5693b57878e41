"""Columns of encoded images, from their bytes to the matrix that a model takes."""

from __future__ import annotations

import base64
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcluster.data import (
    DatasetSnapshot,
    FeatureColumn,
    ImageShape,
    LocalEngine,
    RowError,
    TableSchema,
    check_data,
    columns_to_table,
    conform,
    prepare,
    prepare_shards,
    profile,
)
from mlcluster.data.images import ImageHeader, decode_column, image_problems, read_header
from mlcluster.errors import DataError
from mlcluster.spec import DataSpec
from tests.data.image_tables import (
    SIDE,
    bar_table,
    encoded,
    image_table,
    png_that_claims,
    spoilt_table,
    write_bars,
)

LIMIT = 1 << 20
GREY = np.arange(12, dtype=np.uint8).reshape(3, 4)
COLOUR = np.arange(36, dtype=np.uint8).reshape(3, 4, 3) * 7


def spec_of(path: Path, **more: object) -> DataSpec:
    return DataSpec.model_validate({"source": str(path), "target": "shape", **more})


def snapshot_of(
    tmp_path: Path, table: pa.Table, *, row_group_size: int | None = None, **more: object
) -> DatasetSnapshot:
    spec = spec_of(write_bars(tmp_path, table, row_group_size=row_group_size), **more)
    return prepare(spec, base=tmp_path, folder=tmp_path / "snapshot", seed=0, engine=LocalEngine())


def pixels_of(data: bytes | None, shape: ImageShape) -> np.ndarray:
    decoded = decode_column(pa.chunked_array([pa.array([data], pa.binary())]), shape)
    return decoded.pixels.reshape(shape.height, shape.width, shape.channels)


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    has_colour=st.booleans(),
    suffix=st.sampled_from([".png", ".jpg"]),
)
def test_a_header_says_the_size_and_whether_there_is_colour(
    height: int, width: int, has_colour: bool, suffix: str
) -> None:
    image = np.random.default_rng(0).integers(0, 255, (height, width, 3) if has_colour else (height, width), np.uint8)
    header = ImageHeader(height=height, width=width, channels=3 if has_colour else 1)
    assert read_header(encoded(image, suffix)) == header


@given(
    data=st.binary(max_size=64),
    start=st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\xff\xd8\xff\xc0\0"]),
)
def test_any_bytes_have_a_header_or_none_and_break_nothing(data: bytes, start: bytes) -> None:
    header = read_header(start + data)
    assert header is None or (header.height > 0 and header.width > 0)
    assert set(image_problems([start + data], LIMIT)) <= {0}


def test_pixels_of_a_png_are_those_that_were_encoded() -> None:
    assert np.array_equal(pixels_of(encoded(GREY), ImageShape(height=3, width=4, channels=1))[..., 0], GREY)
    assert np.array_equal(pixels_of(encoded(COLOUR), ImageShape(height=3, width=4, channels=3)), COLOUR)


def test_grey_is_repeated_for_three_channels_and_colour_is_weighed_for_one() -> None:
    grey_as_colour = pixels_of(encoded(GREY), ImageShape(height=3, width=4, channels=3))
    assert (grey_as_colour == GREY[..., np.newaxis]).all()
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 0] = 200
    assert (pixels_of(encoded(red), ImageShape(height=2, width=2, channels=1)) == round(0.299 * 200)).all()


def test_other_sizes_are_averaged_or_stretched_and_deep_or_transparent_images_lose_what_is_too_much() -> None:
    small = pixels_of(encoded(np.repeat(np.repeat(GREY, 2, 0), 2, 1)), ImageShape(height=3, width=4, channels=1))
    assert np.array_equal(small[..., 0], GREY)
    flat = np.full((2, 3), 77, np.uint8)
    assert (pixels_of(encoded(flat), ImageShape(height=9, width=5, channels=1)) == 77).all()
    deep = GREY.astype(np.uint16) * 256 + 99
    assert np.array_equal(pixels_of(encoded(deep), ImageShape(height=3, width=4, channels=1))[..., 0], GREY)
    clear = np.dstack([COLOUR, np.full((3, 4), 9, np.uint8)])[..., [2, 1, 0, 3]]
    assert np.array_equal(pixels_of(encoded(clear), ImageShape(height=3, width=4, channels=3)), COLOUR)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_an_image_that_is_cut_short_is_a_problem_wherever_it_ends(suffix: str) -> None:
    data = encoded(np.random.default_rng(0).integers(0, 255, (24, 24, 3), np.uint8), suffix)
    for length in range(0, len(data) - 20, 37):
        assert image_problems([data[:length]], LIMIT), length
    assert image_problems([data, None], LIMIT) == {}


def test_a_bomb_is_refused_by_its_header_and_never_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    (problem,) = image_problems([png_that_claims(60_000, 60_000)], LIMIT).values()
    assert problem == f"has more pixels than data.image.max_pixels = {LIMIT}"


def test_without_opencv_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_bars(tmp_path, bar_table(20))
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(DataError, match=r"without OpenCV; install it: pip install 'mlcluster\[images\]'"):
        profile(spec_of(path), base=tmp_path)


def test_a_column_of_pngs_is_an_image_with_its_shape_and_train_pixels_are_standardised(tmp_path: Path) -> None:
    snapshot = snapshot_of(tmp_path, bar_table(300))
    (feature,) = snapshot.schema.features
    assert (feature.kind, feature.image) == ("image", ImageShape(height=SIDE, width=SIDE, channels=1))
    assert TableSchema.from_json(snapshot.schema.to_json()) == snapshot.schema
    dense, raw = (snapshot.matrices("train", encoding)[0] for encoding in ("dense", "ordinal"))
    assert dense.shape == (snapshot.num_rows["train"], SIDE * SIDE)
    assert dense.mean(dtype=np.float64) == pytest.approx(0, abs=1e-6)
    assert dense.std(dtype=np.float64) == pytest.approx(1, abs=1e-6)
    first = snapshot.table("train").column("picture")[0].as_py()
    assert np.array_equal(raw[0], (pixels_of(first, feature.image).ravel() / 255).astype(np.float32))
    assert snapshot.transforms["dense"].output_names[SIDE] == "picture[1,0,0]"


def test_a_schema_without_images_is_written_as_before_there_were_any() -> None:
    column = FeatureColumn(name="age", kind="number", arrow_type="int64", has_missing=False)
    assert column.to_json() == {"name": "age", "kind": "number", "arrow_type": "int64", "has_missing": False}


def test_row_groups_change_no_bit(tmp_path: Path) -> None:
    for name in ("one", "many"):
        (tmp_path / name).mkdir()
    one, many = (
        snapshot_of(tmp_path / name, bar_table(200), row_group_size=size) for name, size in (("one", None), ("many", 7))
    )
    assert one.transforms == many.transforms
    assert one.matrices("train", "dense")[0].tobytes() == many.matrices("train", "dense")[0].tobytes()


def test_a_row_alone_in_a_batch_and_as_base64_gives_the_same_bits(tmp_path: Path) -> None:
    snapshot = snapshot_of(tmp_path, bar_table(60))
    table, transform = snapshot.table("validation"), snapshot.transforms["dense"]
    batch = transform.apply(table)
    assert batch.tobytes() == snapshot.matrices("validation", "dense")[0].tobytes()
    for row in range(5):
        assert transform.apply(table.slice(row, 1)).tobytes() == batch[row].tobytes()
    pictures = table.column("picture").to_pylist()
    texts = [base64.b64encode(data).decode() for data in pictures]
    for values in (texts, pictures):
        served = columns_to_table({"picture": values}, snapshot.schema)
        assert transform.apply(served).tobytes() == batch.tobytes()
    assert transform.apply(conform(table, snapshot.schema)).tobytes() == batch.tobytes()


def test_a_struct_of_bytes_and_path_stands_for_its_bytes(tmp_path: Path) -> None:
    plain = bar_table(60)
    held = pa.array([{"bytes": data, "path": None} for data in plain.column("picture").to_pylist()])
    nested = plain.set_column(0, "picture", held)
    (tmp_path / "nested").mkdir()
    one, other = snapshot_of(tmp_path, plain), snapshot_of(tmp_path / "nested", nested)
    assert one.matrices("train", "dense")[0].tobytes() == other.matrices("train", "dense")[0].tobytes()
    assert conform(nested, other.schema).num_rows == 60


def test_images_that_cannot_be_read_are_bad_rows(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"data.source = images in picture is broken by 1 rows \(cannot be decoded; rows 3"
    ):
        snapshot_of(tmp_path, spoilt_table())
    snapshot = snapshot_of(tmp_path, spoilt_table(), bad_rows="quarantine")
    assert snapshot.quarantine().column("reason").to_pylist() == [
        "picture: cannot be decoded",
        "picture: is no PNG or JPEG",
        f"picture: has more pixels than data.image.max_pixels = {1 << 24}",
    ]
    assert sum(snapshot.num_rows.values()) == 77
    kept = snapshot_of(tmp_path, spoilt_table(), bad_rows="warn")
    assert sum(kept.num_rows.values()) == 80
    splits = [kept.matrices(split, "dense")[0] for split in ("train", "validation", "test")]
    assert (np.abs(np.concatenate(splits)).sum(axis=1) == 0).sum() == 4


def test_profile_and_check_say_what_there_is_and_what_cannot_be_read(tmp_path: Path) -> None:
    table = pa.concat_tables([spoilt_table(), image_table([encoded(COLOUR)], ["lying"])])
    spec = spec_of(write_bars(tmp_path, table))
    found = profile(spec, base=tmp_path)
    (column,) = [one for one in found.columns if one.name == "picture"]
    assert column.kind == "image"
    # A header that is there counts, whatever follows it.
    assert [(one.label, one.count) for one in column.bars] == [(f"{SIDE} x {SIDE} grey", 77), ("3 x 4 RGB", 1)]
    assert column.image == ImageShape(height=SIDE, width=SIDE, channels=3)
    assert f"{SIDE} x {SIDE} grey 77" in found.summary()
    assert f"{SIDE} x {SIDE} grey" in found.to_html()
    broken = {one.value for one in found.findings if one.kind == "bad_rows"}
    assert broken == {1.0}
    assert sum(one.kind == "bad_rows" for one in found.findings) == 3
    checked = check_data(spec, base=tmp_path)
    assert sorted(rule.problem for rule in checked.broken)[0] == "cannot be decoded"
    assert checked.quarantine().num_rows == 3


def test_large_images_are_brought_down_and_the_project_file_may_say_to_what(tmp_path: Path) -> None:
    table = bar_table(40, side=100)
    assert snapshot_of(tmp_path, table).schema.only_image == ImageShape(height=64, width=64, channels=1)
    asked = snapshot_of(tmp_path, table, image="8x16").schema.only_image
    assert asked == ImageShape(height=8, width=16, channels=1)
    colour = snapshot_of(tmp_path, table, image={"channels": 3, "max_pixels": 10_000}).schema.only_image
    assert colour == ImageShape(height=64, width=64, channels=3, max_pixels=10_000)


@pytest.mark.parametrize("image", ["12", "axb", "0x4", {"height": 8}, {"channels": 2}, {"max_pixels": 0}, {"side": 3}])
def test_a_size_that_is_none_is_refused(image: object) -> None:
    with pytest.raises(ValueError, match="image"):
        spec_of(Path("bars.parquet"), image=image)


def test_what_is_asked_of_images_is_refused_where_there_are_none(tmp_path: Path) -> None:
    table = pa.table({"size": [1.0, 2.0] * 20, "shape": ["lying", "standing"] * 20})
    with pytest.raises(
        DataError, match=r"data.image = {'height': 8, 'width': 8} is about images, and no feature of bars"
    ):
        snapshot_of(tmp_path, table, image="8x8")


def test_a_column_of_other_bytes_is_refused_by_name(tmp_path: Path) -> None:
    table = bar_table(40).append_column("code", pa.array([b"%05d" % row for row in range(40)]))
    with pytest.raises(DataError, match=r"the column code of type binary, which is no PNG or JPEG; put it under"):
        snapshot_of(tmp_path, table)
    assert snapshot_of(tmp_path, table, exclude="code").schema.feature_names == ("picture",)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (17, r"picture = 17 in row 0 is no binary; send a PNG or a JPEG, in JSON as base64, or null"),
        ("not base64!", r"picture = 'not base64!' in row 0 is no binary"),
        (base64.b64encode(b"GIF89a").decode(), r"picture in row 0 is no PNG or JPEG; send"),
        (png_that_claims(40_000, 40_000), r"picture in row 0 has more pixels than"),
    ],
)
def test_a_row_with_no_image_is_refused_in_words(tmp_path: Path, value: object, problem: str) -> None:
    schema = snapshot_of(tmp_path, bar_table(40)).schema
    with pytest.raises(RowError, match=problem):
        columns_to_table({"picture": [value]}, schema)


def test_shards_hold_an_image_as_one_column_of_lists(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    spec = spec_of(write_bars(tmp_path, bar_table(40)))
    shards = prepare_shards(
        spec, base=tmp_path, folder=tmp_path / "ready", seed=0, engine=LocalEngine(), encoding="dense"
    )
    column = pq.read_table(shards.paths("train")[0]).column("picture")
    snapshot = prepare(spec, base=tmp_path, folder=tmp_path / "snapshot", seed=0, engine=LocalEngine())
    assert np.array_equal(np.stack(column.to_pylist()).astype(np.float32), snapshot.matrices("train", "dense")[0])


def test_equal_images_on_both_sides_of_a_split_are_found(tmp_path: Path) -> None:
    table = bar_table(60)
    twice = profile(spec_of(write_bars(tmp_path, pa.concat_tables([table, table]))), base=tmp_path)
    assert {"duplicate_rows", "split_overlap"} <= {finding.kind for finding in twice.findings}


def test_mnist_is_read_as_what_it_is(shared_data: Path, tmp_path: Path) -> None:
    spec = DataSpec(source=str(shared_data / "mnist_14k.parquet"), target="label", split="split")  # type: ignore[arg-type]
    snapshot = prepare(spec, base=tmp_path, folder=tmp_path / "snapshot", seed=0, engine=LocalEngine())
    assert snapshot.schema.only_image == ImageShape(height=28, width=28, channels=1)
    assert snapshot.num_rows["test"] == 2000
    center = snapshot.transforms["dense"].columns[0].center  # type: ignore[union-attr]
    assert center[0] == pytest.approx(0.1307, abs=0.002)  # as of the whole of MNIST
