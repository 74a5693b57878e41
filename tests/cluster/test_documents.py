"""Cluster files are read as Ray reads them, and each key keeps its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlcluster.cluster import placeholder_findings, read_documents
from mlcluster.errors import SpecError


def written(folder: Path, text: str) -> Path:
    path = folder / "cluster.yaml"
    path.write_text(text)
    return path


def test_values_are_those_of_yaml_1_1_and_lines_are_known(tmp_path: Path) -> None:
    document = read_documents(written(tmp_path, "a: yes\nb:\n  - x: 1\n  - x: 2\n"))[0]
    assert document.values == {"a": True, "b": [{"x": 1}, {"x": 2}]}
    assert document.where(("b", 1, "x")) == "cluster.yaml:4"
    assert document.where(("b", 1, "y")) == "cluster.yaml:4"


def test_an_alias_is_read_as_what_it_stands_for_and_its_keys_have_the_first_line(tmp_path: Path) -> None:
    document = read_documents(written(tmp_path, "a: &one {x: 1}\nb: *one\n"))[0]
    assert document.values["b"] == {"x": 1}
    assert document.where(("b", "x")) == "cluster.yaml:2"


def test_aliases_of_aliases_take_no_time(tmp_path: Path) -> None:
    bombs = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 40))
    assert len(read_documents(written(tmp_path, f"a0: &a0 [x]\n{bombs}"))[0].values) == 40


def test_each_document_of_a_file_is_read_and_empty_ones_are_left_out(tmp_path: Path) -> None:
    first, second = read_documents(written(tmp_path, "---\na: 1\n---\n---\nb: 2\n"))
    assert (first.values, second.values) == ({"a": 1}, {"b": 2})
    assert second.where(("b",)) == "cluster.yaml:5"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: 1\na: 2\n", r"^cluster.yaml:2: a is given twice \(first on line 1\); remove one\.$"),
        ("a: [1\n", r"^cluster.yaml:2: this is not YAML \(.*\); check indentation, colons and quotes\.$"),
        ("- a\n", r"^cluster.yaml:1: the file holds no mapping of keys; start from one of cluster-configs/\.$"),
        ("", r"^cluster.yaml:1: the file holds no mapping of keys"),
    ],
)
def test_what_is_no_cluster_file_is_refused_with_its_line(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(SpecError, match=complaint):
        read_documents(written(tmp_path, text))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"^FILE = .*no.yaml cannot be read \(No such file or directory\); give a"):
        read_documents(tmp_path / "no.yaml")


def test_a_placeholder_is_told_once_with_all_its_lines(tmp_path: Path) -> None:
    found = placeholder_findings(read_documents(written(tmp_path, "a: sg-EDIT-ME\nb: [x, sg-EDIT-ME]\nc: y\n"))[0])
    assert [str(finding) for finding in found] == [
        "cluster.yaml:1: a = sg-EDIT-ME is the template's, as on lines 2; put in your own before you bring it up."
    ]
