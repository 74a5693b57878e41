from __future__ import annotations

import hashlib
import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from mlcluster.data import answer_columns, reference_profile
from mlcluster.errors import BundleError
from mlcluster.registry import Bundle
from mlcluster.registry import bundle as bundle_module
from mlcluster.registry.onnx_export import IR_VERSION, OPSET
from tests.registry.bundles import sample_bundle, sample_table

NAMES = (
    "card.json",
    "evidence.json",
    "input_example.json",
    "manifest.json",
    "model.onnx",
    "schema.json",
    "transform.json",
)


class _Bomb:
    """Says on disk that it was unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return sample_bundle().files()


def rehashed(files: dict[str, bytes]) -> dict[str, bytes]:
    """The files with a manifest that vouches for them: what someone who can write the folder would leave."""
    entries = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        for name, data in files.items()
        if name != "manifest.json"
    }
    return files | {"manifest.json": json.dumps({"format": bundle_module.FORMAT, "files": entries}).encode()}


def onnx_bytes(*nodes: onnx.NodeProto, domain: str = "", functions=(), initializers=()) -> bytes:
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("scores", TensorProto.DOUBLE, ["N", 2])],
        list(initializers),
    )
    opsets = [helper.make_opsetid("", OPSET), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(
        graph, opset_imports=opsets, ir_version=IR_VERSION, functions=list(functions)
    ).SerializeToString()


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("encoding", ["dense", "ordinal"])
def test_a_bundle_that_is_written_reads_back_equal(task, encoding, tmp_path) -> None:
    bundle = sample_bundle(task, encoding)
    bundle.write(tmp_path / "bundle")
    again = Bundle.read(tmp_path / "bundle")
    assert again == bundle
    assert again.digest == bundle.digest
    assert again.files() == bundle.files()


def test_equal_bundles_have_equal_digests_and_a_version_changes_them() -> None:
    assert sample_bundle().digest == sample_bundle().digest
    assert sample_bundle().with_version("4").digest != sample_bundle().digest
    assert sample_bundle().with_version("4").card.version == "4"


def test_a_reference_profile_is_a_file_of_its_own_which_earlier_bundles_lack(tmp_path) -> None:
    bundle = sample_bundle()
    table = sample_table(200)
    answers = answer_columns(np.tile([0.25, 0.75], (200, 1)), bundle.schema.target)
    full = replace(bundle, reference=reference_profile(table, bundle.schema, answers))
    full.write(tmp_path / "bundle")
    assert Bundle.read(tmp_path / "bundle") == full
    files = full.files()
    assert files.keys() - bundle.files().keys() == {"reference.json"}
    with pytest.raises(BundleError, match="does not list the files"):
        Bundle.from_files({name: data for name, data in files.items() if name != "reference.json"})
    with pytest.raises(BundleError, match="does not list the files"):
        Bundle.from_files(bundle.files() | {"reference.json": files["reference.json"]})


def test_a_bundle_is_not_written_over_other_files(tmp_path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match="already holds files"):
        sample_bundle().write(tmp_path)


def test_a_number_that_json_lacks_is_named_with_its_file() -> None:
    bundle = sample_bundle()
    broken = Bundle(
        model=bundle.model,
        transform=bundle.transform,
        schema=bundle.schema,
        card=bundle.card,
        input_example=bundle.input_example,
        evidence={"bound": float("nan")},
    )
    with pytest.raises(BundleError, match=r"evidence\.json would hold"):
        broken.files()


@given(data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flipped_byte_anywhere_is_refused(files, data) -> None:
    name = data.draw(st.sampled_from(NAMES))
    at = data.draw(st.integers(0, len(files[name]) - 1))
    flipped = bytearray(files[name])
    flipped[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BundleError, match="manifest" if name == "manifest.json" else name):
        Bundle.from_files(files | {name: bytes(flipped)})


@pytest.mark.parametrize("name", NAMES)
def test_a_truncated_file_is_named(files, name) -> None:
    with pytest.raises(BundleError, match=name):
        Bundle.from_files(files | {name: files[name][:-1]})


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_named(files, name) -> None:
    with pytest.raises(BundleError, match=f"{name} is missing"):
        Bundle.from_files({other: data for other, data in files.items() if other != name})


@pytest.mark.parametrize("name", ["code.py", "model.pkl", "../escape.json", "Model.onnx"])
def test_a_foreign_file_is_named(files, name) -> None:
    with pytest.raises(BundleError, match="is no file of a bundle"):
        Bundle.from_files(files | {name: b"x"})


@pytest.mark.parametrize("name", NAMES)
def test_a_pickle_in_the_place_of_a_file_is_never_unpickled(files, name, tmp_path) -> None:
    trace = tmp_path / "unpickled"
    bomb = files | {name: pickle.dumps(_Bomb(trace))}
    with pytest.raises(BundleError, match=name):
        Bundle.from_files(bomb)
    if name != "manifest.json":
        with pytest.raises(BundleError, match=name):
            Bundle.from_files(rehashed(bomb))
    assert not trace.exists()


def test_a_file_above_its_size_limit_is_not_parsed(files, monkeypatch) -> None:
    monkeypatch.setattr(bundle_module, "SIZE_LIMITS", {**bundle_module.SIZE_LIMITS, "evidence.json": 4})
    with pytest.raises(BundleError, match=r"evidence\.json has \d+ bytes, above its limit of 4"):
        Bundle.from_files(files)


def test_links_and_folders_are_refused(files, tmp_path) -> None:
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "card.json").unlink()
    (tmp_path / "card.json").symlink_to("/etc/hostname")
    with pytest.raises(BundleError, match=r"card\.json is no plain file"):
        Bundle.read(tmp_path)
    (tmp_path / "card.json").unlink()
    (tmp_path / "card.json").mkdir()
    with pytest.raises(BundleError, match=r"card\.json is no plain file"):
        Bundle.read(tmp_path)


def test_a_folder_that_is_none_is_refused(tmp_path) -> None:
    with pytest.raises(BundleError, match="nowhere is no folder"):
        Bundle.read(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("card.json", '{"name": "demo"}'),
        ("card.json", "[]"),
        ("schema.json", '{"features": [{"name": "x"}], "target": {}}'),
        ("transform.json", '{"encoding": "dense", "columns": [{"kind": "os.system"}]}'),
        ("input_example.json", '{"a": 1}'),
        ("evidence.json", "[1]"),
        ("evidence.json", '{"a": NaN}'),
        ("evidence.json", "[" * 100_000),
    ],
)
def test_json_that_says_something_else_is_named_even_when_its_hash_is_right(files, name, text) -> None:
    with pytest.raises(BundleError, match=name):
        Bundle.from_files(rehashed(files | {name: text.encode()}))


def test_a_model_with_an_operator_of_its_own_is_refused(files) -> None:
    model = onnx_bytes(helper.make_node("Steal", ["features"], ["scores"], domain="com.evil"), domain="com.evil")
    with pytest.raises(BundleError, match=r"operators of 'com\.evil'"):
        Bundle.from_files(rehashed(files | {"model.onnx": model}))


def test_a_model_with_a_foreign_operator_inside_a_branch_is_refused(files) -> None:
    inner = helper.make_graph(
        [helper.make_node("Steal", [], ["out"], domain="com.evil")],
        "inner",
        [],
        [helper.make_tensor_value_info("out", TensorProto.DOUBLE, None)],
    )
    model = onnx_bytes(helper.make_node("If", ["c"], ["scores"], then_branch=inner, else_branch=inner))
    with pytest.raises(BundleError, match=r"operators of 'com\.evil'"):
        Bundle.from_files(rehashed(files | {"model.onnx": model}))


def test_a_model_that_reads_another_file_is_refused(files) -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.DOUBLE, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../../etc/passwd")
    model = onnx_bytes(helper.make_node("Identity", ["w"], ["scores"]), initializers=[tensor])
    with pytest.raises(BundleError, match="keeps data in another file"):
        Bundle.from_files(rehashed(files | {"model.onnx": model}))


def test_a_model_of_other_shapes_is_refused(files) -> None:
    model = onnx_bytes(helper.make_node("Cast", ["features"], ["scores"], to=TensorProto.DOUBLE))
    with pytest.raises(BundleError, match=r"tensor 'features' of width"):
        Bundle.from_files(rehashed(files | {"model.onnx": model}))


@given(data=st.binary(max_size=200))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bytes_that_are_no_model_are_refused(files, data) -> None:
    with pytest.raises(BundleError, match=r"model\.onnx"):
        Bundle.from_files(rehashed(files | {"model.onnx": data}))
