from __future__ import annotations

from pathlib import Path

import pytest

from mlcluster.errors import BundleError, ClusterError
from mlcluster.registry import Bundle
from mlcluster.serve.kept_bundles import KeptBundles
from tests.registry.bundles import sample_bundle


def test_a_bundle_is_kept_once_and_found_by_its_digest(tmp_path: Path) -> None:
    kept, bundle = KeptBundles(tmp_path / "kept"), sample_bundle()
    folder = kept.keep(bundle.files())
    written = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert kept.keep(bundle.files()) == folder
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == written
    assert Bundle.from_files(kept.files(bundle.digest)) == bundle


@pytest.mark.parametrize("without", ["model.onnx", "manifest.json"])
def test_what_is_no_whole_bundle_is_not_kept(tmp_path: Path, without: str) -> None:
    kept, files = KeptBundles(tmp_path / "kept"), sample_bundle().files()
    with pytest.raises(BundleError, match=without):
        kept.keep({name: data for name, data in files.items() if name != without})
    assert not (tmp_path / "kept").exists()


def test_only_those_that_are_served_stay(tmp_path: Path) -> None:
    kept, bundles = KeptBundles(tmp_path / "kept"), [sample_bundle(version=version) for version in "12"]
    for bundle in bundles:
        kept.keep(bundle.files())
    kept.drop_all_but({bundles[1].digest})
    assert kept.files(bundles[1].digest) == bundles[1].files()
    with pytest.raises(ClusterError, match=rf"bundle = {bundles[0].digest} is not kept here; deploy again"):
        kept.files(bundles[0].digest)
