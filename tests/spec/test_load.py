"""One file in, one spec or one list of bad keys out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcluster.errors import SpecError
from mlcluster.spec import (
    Expectation,
    ProjectSpec,
    YamlDocument,
    default_configuration,
    load_spec,
    parse_spec,
    parse_yaml,
    spec_to_yaml,
)
from mlcluster.spec.space import ChoiceDomain, FloatDomain

BASE = "data: {source: a.csv, target: y}\n"
MESSAGE = re.compile(
    r"^(mlcluster\.yaml:\d+|--set): \S+ = .+[^.;]; .+\.$|^mlcluster\.yaml:\d+: \S+ is required and missing; .+\.$"
)


def spec(text: str) -> ProjectSpec:
    return parse_spec(parse_yaml(text, source="mlcluster.yaml"))


def complaints(text: str) -> list[str]:
    with pytest.raises(SpecError, match="mlcluster") as caught:
        spec(text)
    return str(caught.value).splitlines()


def test_two_lines_are_a_project_and_everything_else_has_a_default() -> None:
    project = spec("data:\n  source: a.csv\n  target: y\n")
    assert project.models == ("linear", "tree", "forest", "boosting", "mlp")
    assert (project.tune.budget.usd, project.tune.budget.minutes) == (0.20, 10.0)
    assert (project.serve.replicas.min, project.serve.replicas.max) == (0, 4)
    assert project.serve.timeout_ms == 60_000
    assert project.tracking == "sqlite:///mlflow.db"
    assert project.not_acted_on() == ()


def test_the_file_of_the_design_is_read() -> None:
    project = spec("""
project: income
data:
  source: data/adult.parquet        # path, glob or s3:// gs:// URI; parquet, csv, json
  target: income
  task: classification
  key: person_id
  time: as_of
  exclude: [fnlwgt]
  sensitive: [sex, race]
  split: {validation: 0.2, test: 0.2}
  expect: {age: 0..120, workclass: not_null}
  bad_rows: quarantine
models: [linear, tree, forest, boosting, mlp]
tune:
  metric: roc_auc
  budget: {usd: 0.20, minutes: 10}
  prefer_simple_within: 0.002
  limits: {p99_ms: 20, model_mb: 20}
workers: auto
prices: {cpu_hour: 0.05, gpu_hour: 2.00}
verify:
  - roc_auc >= 0.90
  - recall by sex >= 0.55
  - equal_opportunity by sex <= 0.10
  - certified(eps=0.01) >= 0.80
serve:
  replicas: 0..4
  target_ongoing: 8
monitor: {drift: {psi: 0.2, window: 1h}}
tracking: sqlite:///mlflow.db
""")
    assert [str(gate) for gate in project.verify] == [
        "roc_auc >= 0.9", "recall by sex >= 0.55", "equal_opportunity by sex <= 0.1", "certified(eps=0.01) >= 0.8",
    ]  # fmt: skip
    assert project.data.non_features == {"income", "person_id", "as_of", "fnlwgt"}
    assert project.not_acted_on() == ("monitor",)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("modles: [tree]", "mlcluster.yaml:2: modles = ['tree'] is not a key; did you mean models."),
        ("tune:\n  limits: {p99: 3}", "mlcluster.yaml:3: tune.limits.p99 = 3 is not a key; did you mean p99_ms."),
        ("tune:\n  budgt:\n    usd: 1", "mlcluster.yaml:3: tune.budgt = {'usd': 1} is not a key; did you mean budget."),
        (
            "monitor:\n  drift:\n    windw: 1h",
            "mlcluster.yaml:4: monitor.drift.windw = 1h is not a key; did you mean window.",
        ),
        (
            "verify:\n  - {metric: r2, sign: '>=', bound: 0, boun: 1}",
            "mlcluster.yaml:3: verify.0.boun = 1 is not a key; did you mean bound.",
        ),
        (
            "prices:\n  x: 1",
            "mlcluster.yaml:3: prices.x = 1 is not a key; remove it, or use one of cpu_hour, gpu_hour, cluster.",
        ),
    ],
)
def test_an_unknown_key_is_named_with_its_line_and_the_nearest_key(text: str, complaint: str) -> None:
    assert complaints(BASE + text) == [complaint]


def test_an_unknown_key_under_a_column_of_the_users_own_is_named_too() -> None:
    text = "data:\n  source: a\n  target: y\n  expect:\n    age: {mim: 3}"
    assert complaints(text) == ["mlcluster.yaml:5: data.expect.age.mim = 3 is not a key; did you mean min."]


BAD_FILES = (
    "",
    "data: {}",
    "data: on",
    "data: [1, 2]",
    "data:\n  sorce: a\n  target: y",
    "data: {source: '', target: y}",
    "data: {source: a, target: 1e-3}",
    "data: {source: a, target: y, bad_rows: quarantin}",
    "data: {source: a, target: y, exclude: [y]}",
    "data: {source: a, target: y, split: {validation: .6, test: .6}}",
    "data: {source: a, target: y, split: {validation: 2}}",
    "data: {source: a, target: y, expect: {age: 120..0}}",
    "data: {source: a, target: y, expect: {age: young}}",
    "data: {source: a, target: y, expect: {age: 1..2..3}}",
    "data: {source: a, target: y, expect: {age: [1, null]}}",
    "data: {source: a, target: y, key: 5}",
    *(
        BASE + text
        for text in (
            "project: 9x",
            "models: tree",
            "models: []",
            "models: [treee]",
            "models: [tree, tree]",
            "tune: {metric: auc}",
            "tune: {budget: 5}",
            "tune: {budget: {usd: -1, minutes: on}}",
            "tune: {budget: {usd: .inf}}",
            "tune: {prefer_simple_within: .nan}",
            "workers: gpuu",
            "verify: roc_auc >= 0.9",
            "verify: [roc_auc > 0.9]",
            "verify: [auc >= 0.9]",
            "verify: [equal_opportunity >= 0.1]",
            "verify: [certified >= 0.9]",
            "verify: [certified(eps) >= 0.9]",
            "verify: [r2(eps=1) >= 0.9]",
            "serve: {replicas: 4..1}",
            "serve: {timeout_ms: 0}",
            "serve: {grpc_port: 0, replicas: 1..4}",
            "serve: {grpc_port: 70000, replicas: 1..4}",
            "serve: {replicas: many}",
            "serve: {also: [a/b@c]}",
            "serve: {also: [a/0]}",
            "serve: {also: [{name: a, version: 1, alias: b}]}",
            "serve: {also: [a b]}",
            "serve: {replicas: 1.5}",
            "serve: {replicas: true}",
            "serve: {replicas: {min: -1}}",
            "monitor: {drift: {window: 1y}}",
            "monitor: {drift: {psi: 0}}",
            "tracking: ''",
        )
    ),
)


@pytest.mark.parametrize("text", BAD_FILES)
def test_every_message_names_file_line_key_value_and_fix(text: str) -> None:
    for line in complaints(text):
        assert MESSAGE.match(line), line


def test_every_bad_key_is_listed_once() -> None:
    lines = complaints(
        "project: 9x\ndata:\n  source: a\n  target: y\n  expect: {a: [null]}\nmodels: [tre]\ntune: {budget: {usd: -1}}"
    )
    assert [line.split(" = ")[0] for line in lines] == [
        "mlcluster.yaml:1: project",
        "mlcluster.yaml:5: data.expect.a.one_of.0",
        "mlcluster.yaml:6: models.0",
        "mlcluster.yaml:7: tune.budget.usd",
    ]


@pytest.mark.parametrize(
    ("short", "mapping"),
    [
        ("serve: {replicas: 0..4}", "serve: {replicas: {min: 0, max: 4}}"),
        ("serve: {replicas: 3}", "serve: {replicas: {min: 3, max: 3}}"),
        (
            "serve: {also: [bikes, 'a@b', a/3]}",
            "serve: {also: [{name: bikes}, {name: a, alias: b}, {name: a, version: 3}]}",
        ),
        ("serve: {also: ['models:/a@b']}", "serve: {also: [{name: a, alias: b}]}"),
        ("monitor: {drift: {window: 30m}}", "monitor: {drift: {window: {hours: 0.5}}}"),
        ("monitor: {drift: {window: 1d}}", "monitor: {drift: {window: {hours: 24}}}"),
        ("monitor: {drift: {window: 2w}}", "monitor: {drift: {window: {hours: 336}}}"),
        ("verify: [roc_auc >= 0.9]", "verify: [{metric: roc_auc, sign: '>=', bound: 0.9}]"),
        ("verify: [recall by sex >= .5]", "verify: [{metric: recall, by: sex, sign: '>=', bound: 0.5}]"),
        ("verify: [rmse <= 1e3]", "verify: [{metric: rmse, sign: <=, bound: 1000}]"),
        (
            "verify: [certified(eps=0.01) >= 0.8]",
            "verify: [{metric: certified, sign: '>=', bound: 0.8, arguments: {eps: 0.01}}]",
        ),
    ],
)
def test_each_string_form_equals_its_mapping_form(short: str, mapping: str) -> None:
    assert spec(BASE + short) == spec(BASE + mapping)
    assert spec(BASE + short).fingerprint == spec(BASE + mapping).fingerprint


@pytest.mark.parametrize(
    ("short", "mapping"),
    [
        ("split: part", "split: {column: part}"),
        ("exclude: a", "exclude: [a]"),
        ("sensitive: a", "sensitive: [a]"),
        ("expect: {a: 0..120}", "expect: {a: {min: 0, max: 120}}"),
        ("expect: {a: 0..}", "expect: {a: {min: 0}}"),
        ("expect: {a: '..-1.5'}", "expect: {a: {max: -1.5}}"),
        ("expect: {a: not_null}", "expect: {a: {not_null: true}}"),
        ("expect: {a: 'unique, 1..9'}", "expect: {a: {unique: true, min: 1, max: 9}}"),
        ("expect: {a: [x, y]}", "expect: {a: {one_of: [x, y]}}"),
    ],
)
def test_each_string_form_of_data_equals_its_mapping_form(short: str, mapping: str) -> None:
    base = "data:\n  source: a.csv\n  target: y\n  "
    assert spec(base + short) == spec(base + mapping)


def test_yaml_1_1_bends_nothing() -> None:
    document = parse_yaml(
        "a: on\nb: no\nc: 1:30\nd: 1e-3\ne: 010\nf: 0x1F\ng: 1_000\nh: 2024-01-01\ni: ~\nj: TRUE\n"
        "no: 1\ntrue: 2\nk: .5\nl: y",
        source="f",
    )
    assert document.values == {
        "a": "on", "b": "no", "c": "1:30", "d": 0.001, "e": 10, "f": "0x1F", "g": "1_000", "h": "2024-01-01",
        "i": None, "j": True, "no": 1, "true": 2, "k": 0.5, "l": "y",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3", "f:5: c is given twice (first on line 3); remove one."),
        ("a: b: c", "f:1: this is not YAML (mapping values are not allowed here); check"),
        ("a:\n\tb: 1", "f:2: this is not YAML"),
        ("- a", "f:1: the file holds no mapping of keys; start it with `project: NAME`."),
        ("a: !!python/object/apply:os.system [x]\n", "not YAML"),
        ("a: &x 1\nb: *x", "f:2: this is not YAML (aliases are not accepted, write the value out)"),
        ("a: &x [*x]", "f:1: this is not YAML (aliases are not accepted"),
        ("a: 1\n---\nb: 2", "f:2: this is not YAML (but found another document)"),
        ("? [a]\n: 1", "f:1: a key is a plain word; this one is a collection."),
        (f"a: {'9' * 5000}", "f:1: a value of this kind is not accepted; write plain YAML."),
        ("a: !!python/name:os.system x", "f:1: a value of this kind is not accepted"),
        ("a: \x00", "f: this is not YAML"),
    ],
)
def test_what_is_no_plain_mapping_is_refused_with_its_line(text: str, complaint: str) -> None:
    if "apply" in text:  # a tag on a collection is passed over: it is read as the list that it is
        assert parse_yaml(text, source="f").values == {"a": ["x"]}
        return
    with pytest.raises(SpecError, match=re.escape(complaint)):
        parse_yaml(text, source="f")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"none\.yaml cannot be read \(No such file or directory\); give an existing"):
        load_spec(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"project: caf\xe9")
    with pytest.raises(SpecError, match=r"latin\.yaml cannot be read \(is not UTF-8 text\)"):
        load_spec(tmp_path / "latin.yaml")


def load_with(tmp_path: Path, *overrides: str, text: str = BASE) -> ProjectSpec:
    path = tmp_path / "mlcluster.yaml"
    path.write_text(text)
    return load_spec(path, overrides=overrides)


def test_overrides_reach_any_key_and_the_last_wins(tmp_path: Path) -> None:
    project = load_with(
        tmp_path,
        "tune.budget.usd=20",
        "tune.budget.usd=1e-3",
        "serve.replicas=1..2",
        "models=[tree]",
        "data.target=x=y",
    )
    assert project.tune.budget.usd == 0.001
    assert project.tune.budget.minutes == 10.0
    assert (project.serve.replicas.min, project.serve.replicas.max) == (1, 2)
    assert project.models == ("tree",)
    assert project.data.target == "x=y"


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("tune.budget.usd", r"--set tune\.budget\.usd is not key\.path=value; write for example"),
        ("tune..usd=1", r"--set tune\.\.usd=1 is not key\.path=value"),
        ("tune.budget.usd=[1", r"--set tune\.budget\.usd=\[1 holds a value that is not YAML; quote it\."),
        ("project.x=1", r"--set project\.x=1 goes through project = 'shop', which is no mapping; set project itself\."),
        ("tune.budget.usd=much", r"--set: tune\.budget\.usd = much is wrong"),
        ("tune.budgt.usd=1", r"--set: tune\.budgt = \{'usd': 1\} is not a key; did you mean budget\."),
    ],
)
def test_a_wrong_override_is_blamed_on_the_flag_and_not_on_a_line_of_the_file(
    tmp_path: Path, override: str, complaint: str
) -> None:
    text = "project: shop\n" + BASE + "tune: {budget: {usd: 1}}\n"
    with pytest.raises(SpecError, match=f"^{complaint}"):
        load_with(tmp_path, override, text=text)


names = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8
) | st.sampled_from(
    [
        "on",
        "no",
        "1e-3",
        "1:30",
        "08",
        "0x1F",
        "null",
        "~",
        "true",
        ".5",
        "=",
        "<<",
        "- a",
        "a: b",
        "2024-01-01",
        "1_0",
        "#",
    ]
)
numbers = st.floats(-1e300, 1e300, allow_nan=False) | st.integers(-(10**9), 10**9)


@st.composite
def projects(draw: st.DrawFn) -> dict[str, Any]:
    columns = draw(st.lists(names, min_size=2, max_size=6, unique=True))
    return {
        "data": {
            "source": draw(names),
            "target": columns[0],
            "exclude": columns[2:4],
            "sensitive": columns[4:],
            "expect": {columns[1]: {"min": draw(numbers), "one_of": draw(st.lists(names | numbers | st.booleans()))}},
        },
        "models": draw(st.lists(st.sampled_from(["linear", "tree", "mlp"]), min_size=1, unique=True)),
        "tune": {"budget": {"usd": draw(st.floats(1e-9, 1e9)), "minutes": draw(st.integers(1, 10**6))}},
        "verify": [{"metric": "recall", "by": draw(st.none() | names), "sign": ">=", "bound": draw(numbers)}],
        "monitor": draw(st.none() | st.just({"drift": {"window": "30m"}})),
    }


@settings(max_examples=100, deadline=None)
@given(values=projects())
def test_the_resolved_spec_reads_back_as_itself(values: dict[str, Any]) -> None:
    project = parse_spec(YamlDocument(source="mlcluster.yaml", values=values))
    again = spec(spec_to_yaml(project))
    assert again == project
    assert again.fingerprint == project.fingerprint
    assert spec_to_yaml(again) == spec_to_yaml(project)


@settings(max_examples=50, deadline=None)
@given(values=projects(), data=st.data())
def test_the_fingerprint_does_not_depend_on_the_order_of_keys(values: dict[str, Any], data: st.DataObject) -> None:
    def shuffled(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: shuffled(value[key]) for key in data.draw(st.permutations(list(value)))}

    first = parse_spec(YamlDocument(source="f", values=values))
    assert parse_spec(YamlDocument(source="f", values=shuffled(values))).fingerprint == first.fingerprint


def test_the_fingerprint_depends_on_what_is_asked() -> None:
    first = spec(BASE)
    assert re.fullmatch(r"[0-9a-f]{12}", first.fingerprint)
    assert spec(BASE + "tune: {budget: {usd: 0.2}}").fingerprint == first.fingerprint  # the default, written out
    assert spec(BASE + "tune: {budget: {usd: 0.3}}").fingerprint != first.fingerprint


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        spec(BASE).project = "other"  # type: ignore[misc]


def test_an_expectation_keeps_the_types_of_its_values() -> None:
    values = Expectation.model_validate([1, 1.5, "1", True]).one_of
    assert values is not None
    assert [type(value) for value in values] == [int, float, str, bool]


def test_the_default_configuration_is_the_default_of_each_domain() -> None:
    space = {"a": FloatDomain(low=0, high=1, default=0.5), "b": ChoiceDomain(options=("x", "y"), default="y")}
    assert default_configuration(space) == {"a": 0.5, "b": "y"}
