"""Several models at one address, each by its name, its versions and its aliases, as a client finds them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from mlcluster.errors import ClusterError
from mlcluster.registry import Bundle
from mlcluster.serve import Predictor
from mlcluster.serve.app_context import AppContext
from mlcluster.serve.feedback import FeedbackLog
from mlcluster.serve.http_app import app_within, other_app_within
from mlcluster.serve.many_models import OtherApps
from mlcluster.serve.openapi import infer_example
from mlcluster.serve.other_models import ServedModel, ServedModels
from mlcluster.serve.plan import OtherBundle
from tests.registry.bundles import sample_bundle
from tests.serve.app_client import AppClient
from tests.serve.conftest import MemoryRecords
from tests.serve.grpc_site import served_by_grpc
from tests.serve.test_grpc import complete, triton_inputs


def bundle_of(name: str, version: str, task: str = "binary") -> Bundle:
    bundle = sample_bundle(task, version=version)
    return dataclasses.replace(bundle, card=dataclasses.replace(bundle.card, name=name))


OWN = bundle_of("demo", "3")
FORMER = bundle_of("demo", "2", "multiclass")
BIKES = bundle_of("bikes", "7", "regression")
BIKES_NEXT = bundle_of("bikes", "8", "multiclass")
OTHERS = (
    OtherBundle.of(FORMER, aliases=("challenger",)),
    OtherBundle.of(BIKES_NEXT),
    OtherBundle.of(BIKES, aliases=("champion",)),
)
BODY = json.dumps(infer_example(Predictor(OWN)))


class Site:
    """The applications of one replica; `fetched` are the bundles that it asked for."""

    def __init__(self, *, max_bytes: int = 10**9, feedback: FeedbackLog | None = None) -> None:
        self.files: dict[str, Mapping[str, bytes]] = {one.model.digest: one.files for one in OTHERS}
        self.fetched: list[str] = []
        self.records = MemoryRecords()
        context = AppContext(self.records, feedback=feedback)
        own = ServedModel(name="demo", version="3", aliases=("champion", "live"))
        self.others = OtherApps(
            ServedModels(own, [one.model for one in OTHERS]),
            fetch=self.fetch,
            build=lambda predictor: other_app_within(context, predictor),
            max_bytes=max_bytes,
        )
        self.app = app_within(context, Predictor(OWN), self.others)
        self.client = AppClient(self.app)

    async def fetch(self, digest: str) -> Mapping[str, bytes]:
        self.fetched.append(digest)
        if digest not in self.files:
            raise ClusterError(f"bundle = {digest} is not kept here; deploy again.")
        return self.files[digest]

    def infer(self, path: str):
        return self.client.post(f"/v2/models/{path}/infer", content=BODY)

    def loaded(self) -> list[str]:
        index = self.client.post("/v2/repository/index").json()
        return [f"{one['name']}/{one['version']}" for one in index if one["parameters"]["is_loaded"]]


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.client.close()


@pytest.mark.parametrize(
    ("path", "bundle"),
    [
        ("demo", OWN),
        ("demo/versions/3", OWN),
        ("demo@champion", OWN),
        ("demo@live", OWN),
        ("demo/versions/2", FORMER),
        ("demo@challenger", FORMER),
        ("bikes", BIKES),
        ("bikes/versions/7", BIKES),
        ("bikes@champion", BIKES),
        ("bikes/versions/8", BIKES_NEXT),
    ],
)
def test_a_path_means_one_version_which_answers_as_its_bundle_does(site: Site, path: str, bundle: Bundle) -> None:
    answer = site.infer(path)
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert (document["model_name"], document["model_version"]) == (bundle.card.name, bundle.card.version)
    alone = AppClient(app_within(AppContext(MemoryRecords()), Predictor(bundle)))
    assert document["outputs"] == alone.post(f"/v2/models/{bundle.card.name}/infer", content=BODY).json()["outputs"]
    alone.close()
    assert [(one.model, one.version) for one in site.records.records] == [(bundle.card.name, bundle.card.version)]
    assert site.client.get(f"/v2/models/{path}").json()["versions"] == [bundle.card.version]
    assert site.client.get(f"/v2/models/{path}/ready").json() == {"name": bundle.card.name, "ready": True}


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("other", "model other is not served here; demo, bikes are."),
        ("demo/versions/9", "version 9 of demo is not served here; 3, 2 are."),
        ("bikes@staging", "model bikes@staging is not served here; demo, bikes are."),
        ("demo@champion/versions/3", "model demo@champion is not served here; demo, bikes are."),
    ],
)
def test_what_is_not_served_is_refused_with_what_is(site: Site, path: str, complaint: str) -> None:
    answer = site.infer(path)
    assert answer.status_code == 404
    assert answer.json()["detail"] == complaint
    assert site.fetched == []


def test_the_index_lists_all_of_them_with_their_aliases(site: Site) -> None:
    site.infer("bikes")
    index = site.client.post("/v2/repository/index", content=b'{"ready": true}').json()
    assert [(one["name"], one["version"], one["state"]) for one in index] == [
        ("demo", "3", "READY"),
        ("demo", "2", "READY"),
        ("bikes", "8", "READY"),
        ("bikes", "7", "READY"),
    ]
    assert [one["parameters"]["is_loaded"] for one in index] == [True, False, False, True]
    assert [one["parameters"]["aliases"] for one in index] == [["champion", "live"], ["challenger"], [], ["champion"]]
    assert "model_repository" in site.client.get("/v2").json()["extensions"]
    assert site.client.post("/v2/repository/index", content=b'{"redy": true}').status_code == 422


def test_one_is_loaded_when_it_is_first_asked_for_and_not_again(site: Site) -> None:
    assert site.loaded() == ["demo/3"]
    for _ in range(3):
        assert site.infer("bikes").status_code == 200
    assert site.fetched == [BIKES.digest]


def test_what_fits_is_loaded_before_the_first_request() -> None:
    sizes = [one.model.loaded_bytes for one in OTHERS]
    site = Site(max_bytes=sizes[0] + sizes[1])
    site.client.run(site.others.warm())
    assert site.loaded() == ["demo/3", "demo/2", "bikes/8"]
    site.client.close()


def test_under_a_cap_the_one_asked_for_longest_ago_is_put_away() -> None:
    site = Site(max_bytes=2 * max(one.model.loaded_bytes for one in OTHERS))
    for path in ("demo/versions/2", "bikes", "demo/versions/2", "bikes/versions/8"):
        assert site.infer(path).status_code == 200
    assert site.loaded() == ["demo/3", "demo/2", "bikes/8"]
    answers = site.client.together(*(("POST", f"/v2/models/{path}/infer", {"content": BODY}) for path in PATHS * 3))
    assert {answer.status_code for answer in answers} == {200}
    assert len(site.loaded()) <= 3
    site.client.close()


PATHS = ("demo", "demo/versions/2", "bikes", "bikes/versions/8")


def test_one_that_cannot_be_loaded_is_503_and_the_others_go_on(site: Site) -> None:
    kept = site.files.pop(BIKES.digest)
    answer = site.infer("bikes")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["detail"].startswith("version 7 of bikes cannot be loaded (bundle = ")
    site.files[BIKES.digest] = {**kept, "model.onnx": b"\0" + kept["model.onnx"][1:]}
    assert site.infer("bikes").status_code == 503
    assert site.infer("demo").status_code == 200
    assert site.infer("demo@challenger").status_code == 200
    site.files[BIKES.digest] = kept
    assert site.infer("bikes").status_code == 200


def test_the_metrics_name_each_family_once_and_count_each_model(site: Site) -> None:
    for path in PATHS:
        site.infer(path)
    text = site.client.get("/metrics").text
    types = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(types) == len(set(types))
    for name, version in (("demo", "3"), ("demo", "2"), ("bikes", "7"), ("bikes", "8")):
        assert f'mlcluster_rows_total{{model="{name}",replica="",version="{version}"}} 1.0' in text
    assert text.count("\nmlcluster_records_lost_total{") == 1


@pytest.fixture
def triton(site: Site) -> Iterator[Any]:
    from tritonclient.grpc import InferenceServerClient

    with served_by_grpc(site.app, site.others) as address:
        client = InferenceServerClient(str(address))
        yield client
        client.close()


@pytest.mark.parametrize(
    ("name", "version", "bundle"),
    [
        ("demo", "", OWN),
        ("demo@live", "", OWN),
        ("demo", "2", FORMER),
        ("bikes@champion", "", BIKES),
        ("bikes", "8", BIKES_NEXT),
    ],
)
def test_by_grpc_a_name_means_the_same_version(triton: Any, name: str, version: str, bundle: Bundle) -> None:
    table = complete(8)
    answer = triton.infer(name, triton_inputs(table), model_version=version)
    response = answer.get_response()
    assert (response.model_name, response.model_version) == (bundle.card.name, bundle.card.version)
    expected = Predictor(bundle).predict(table).scores
    found = answer.as_numpy("probabilities" if bundle.schema.target.classes else "value")
    np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-6)
    assert triton.is_model_ready(name, version)
    assert triton.get_model_metadata(name, version).versions == [bundle.card.version]


def test_by_grpc_what_is_not_served_is_refused_with_what_is(triton: Any) -> None:
    from tritonclient.utils import InferenceServerException

    with pytest.raises(InferenceServerException, match=r"NOT_FOUND.*model other is not served here; demo, bikes are"):
        triton.infer("other", triton_inputs(complete(1)))
    assert not triton.is_model_ready("demo", "9")


def test_a_replicas_grpc_answers_its_front_alone(site: Site) -> None:
    from tritonclient.grpc import InferenceServerClient
    from tritonclient.utils import InferenceServerException

    with served_by_grpc(site.app, site.others, front_secret="between-two") as address:
        client = InferenceServerClient(str(address))
        for headers in ({}, {"x-mlcluster-front": "guessed"}):
            with pytest.raises(InferenceServerException, match=r"UNAUTHENTICATED.*This is a replica's own port"):
                client.infer("demo", triton_inputs(complete(1)), headers=headers)
            with pytest.raises(InferenceServerException, match="UNAUTHENTICATED"):
                client.is_server_live(headers=headers)
        known = {"x-mlcluster-front": "between-two"}
        assert client.infer("demo", triton_inputs(complete(1)), headers=known).get_response().model_name == "demo"
        client.close()
