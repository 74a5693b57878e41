"""Whatever is sent, the answer is a 2xx or a 4xx that is JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlcluster.serve import NoRecords, Predictor, build_app
from tests.registry.bundles import sample_bundle
from tests.serve.app_client import AppClient

SETTINGS = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
WORDS = (
    "income age city code member outcome inputs outputs name shape datatype data parameters id instances params label "
    "dataframe_split dataframe_records columns index binary_data_size binary_data_output probabilities"
)
NAMES = st.sampled_from(sorted(WORDS.split()))
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**80), 2**80),
    st.floats(),
    st.text(st.characters(), max_size=5),
    st.sampled_from(["FP64", "INT64", "BYTES", "BOOL", "Oslo", "\ud800", 1, 0, 1.5, [], {}]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text(max_size=3), inner, max_size=6),
    max_leaves=25,
)
CELLS = st.one_of(SCALARS, VALUES)
ROWS = st.fixed_dictionaries(dict.fromkeys(("income", "age", "city", "code", "member"), CELLS))
TENSORS = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["income", "age", "city", "code", "member", "other"]),
        "shape": st.just([1]) | st.just([1, 1]) | VALUES,
        "datatype": st.sampled_from(["FP64", "INT64", "BYTES", "BOOL", "FP16"]) | VALUES,
        "data": st.lists(CELLS, min_size=1, max_size=2) | VALUES,
    },
    optional={"parameters": st.dictionaries(NAMES, SCALARS, max_size=2)},
)


@pytest.fixture(scope="module")
def app_client():
    client = AppClient(build_app(Predictor(sample_bundle()), record=NoRecords()))
    yield client
    client.close()


def assert_never_a_fault(response) -> None:
    assert response.status_code < 500, response.text
    json.loads(response.content, parse_constant=lambda token: pytest.fail(f"the answer holds {token}"))


@given(body=VALUES)
@SETTINGS
def test_any_json_is_answered_or_refused(app_client, body) -> None:
    text = json.dumps(body)
    for url in ("/invocations", "/v2/models/demo/infer"):
        response = app_client.post(url, content=text, headers={"content-type": "application/json"})
        assert_never_a_fault(response)


@given(form=st.sampled_from(["instances", "dataframe_records", "inputs"]), rows=st.lists(ROWS, max_size=3) | ROWS)
@SETTINGS
def test_any_cells_in_the_right_columns_are_answered_or_refused(app_client, form, rows) -> None:
    text = json.dumps({form: rows})
    assert_never_a_fault(app_client.post("/invocations", content=text, headers={"content-type": "application/json"}))


@given(inputs=st.lists(TENSORS, max_size=6), outputs=st.none() | VALUES, header=st.none() | st.integers(-5, 500))
@SETTINGS
def test_any_tensors_are_answered_or_refused(app_client, inputs, outputs, header) -> None:
    text = json.dumps({"inputs": inputs, "outputs": outputs})
    headers = {} if header is None else {"inference-header-content-length": str(header)}
    assert_never_a_fault(app_client.post("/v2/models/demo/infer", content=text, headers=headers))


@given(body=st.binary(max_size=300), content_type=st.sampled_from(["application/json", "text/csv", "text/html"]))
@SETTINGS
def test_any_bytes_are_answered_or_refused(app_client, body, content_type) -> None:
    for url in ("/invocations", "/v2/models/demo/infer"):
        assert_never_a_fault(app_client.post(url, content=body, headers={"content-type": content_type}))


@given(text=st.text(st.sampled_from('income,age\n\r" 0123.eE-+_nanNtrue\0'), max_size=60))
@SETTINGS
def test_any_csv_is_answered_or_refused(app_client, text) -> None:
    header = "income,age,city,code,member\n"
    response = app_client.post("/invocations", content=header + text, headers={"content-type": "text/csv"})
    assert_never_a_fault(response)


@given(path=st.text(max_size=20), method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD"]))
@SETTINGS
def test_any_path_is_answered_or_refused(app_client, path, method) -> None:
    from urllib.parse import quote

    response = app_client.request(method, "/" + quote(path, errors="ignore"))
    assert response.status_code < 500
