"""What `init` writes for Prometheus and Grafana loads as it is, and asks for nothing that an endpoint does not tell."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlcluster.serve import NoRecords, Predictor, build_app
from mlcluster.serve.metrics import Replica
from tests.cli.projects import run_here
from tests.registry.bundles import sample_bundle, sample_table
from tests.serve.app_client import AppClient

FOLDER = resources.files("mlcluster.cli") / "templates" / "monitoring"


@pytest.fixture(scope="module")
def told() -> str:
    """The metrics of an endpoint that has answered, refused and been asked for nothing that it has."""
    replica = Replica(name="r1", usd_per_hour=0.05)
    client = AppClient(build_app(Predictor(sample_bundle()), record=NoRecords(), replica=replica))
    client.post("/invocations", json={"dataframe_records": sample_table(3).to_pylist()})
    client.post("/invocations", json={"dataframe_records": []})
    text = client.get("/metrics").text
    client.close()
    return text


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("there is no promtool here; it is in Debian's package prometheus")
    return found


def dashboard() -> dict[str, Any]:
    return dict(json.loads((FOLDER / "grafana-dashboard.json").read_text()))


def expressions() -> list[str]:
    """Every question to Prometheus, of the rules and of the dashboard."""
    rules = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    found = [rule["expr"] for group in rules for rule in group["rules"]]
    return found + [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]


def test_init_writes_them(tmp_path: Path) -> None:
    assert run_here(tmp_path, "init", "demo").code == 0
    names = {path.name for path in (tmp_path / "demo" / "monitoring").iterdir()}
    assert names == {"alerts.yaml", "grafana-dashboard.json", "prometheus.yaml"}


def test_prometheus_loads_rules_and_configuration(promtool: str, tmp_path: Path) -> None:
    for entry in FOLDER.iterdir():
        (tmp_path / entry.name).write_text(entry.read_text())
    for kind, name in (("rules", "alerts.yaml"), ("config", "prometheus.yaml")):
        done = subprocess.run(
            [promtool, "check", kind, tmp_path / name], capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_finds_nothing_wrong_with_the_metrics(promtool: str, told: str) -> None:
    done = subprocess.run(
        [promtool, "check", "metrics"], input=told, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("series", "at", "alerts"),
    [
        ({'mlcluster_requests_total{model="m",version="2",status="500"}': "0+10x60"}, "20m", {"EndpointFails"}),
        ({'mlcluster_requests_total{model="m",version="2",status="200"}': "0+10x60"}, "20m", set()),
        ({'mlcluster_requests_total{model="m",version="2",status="429"}': "0+10x60"}, "20m", {"EndpointFull"}),
        ({'mlcluster_requests_total{model="m",version="2",status="422"}': "0+10x60"}, "40m", {"EndpointRefuses"}),
        ({'mlcluster_records_lost_total{model="m",version="2"}': "0+1x60"}, "20m", {"EndpointLosesRecords"}),
        ({'haproxy_backend_current_queue{proxy="model"}': "3x60"}, "20m", {"EndpointQueues"}),
        ({'haproxy_backend_current_queue{proxy="others"}': "3x60"}, "20m", {"EndpointQueues"}),
        ({'haproxy_backend_current_queue{proxy="grpc"}': "3x60"}, "20m", {"EndpointQueues"}),
        ({}, "20m", {"EndpointDown"}),
    ],
)
def test_each_rule_fires_when_it_should(
    promtool: str, tmp_path: Path, series: dict[str, str], at: str, alerts: set[str]
) -> None:
    (tmp_path / "alerts.yaml").write_text((FOLDER / "alerts.yaml").read_text())
    is_up = {'mlcluster_model_info{model="m",version="2"}': "1x60"} if series else {}
    given = [{"series": name, "values": values} for name, values in (series | is_up).items()]
    names = [rule["alert"] for rule in yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"][0]["rules"]]
    tests = {
        "rule_files": ["alerts.yaml"],
        "tests": [
            {
                "interval": "1m",
                "input_series": given,
                "promql_expr_test": [
                    {
                        "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)',
                        "eval_time": at,
                        "exp_samples": [{"value": int(name in alerts)}],
                    }
                    for name in names
                ],
            }
        ],
    }
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(tests))
    done = subprocess.run(
        [promtool, "test", "rules", "tests.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_metric_that_is_asked_for_is_told(told: str) -> None:
    known = set(re.findall(r"^(mlcluster_\w+)", told, re.MULTILINE))
    asked = {name for text in expressions() for name in re.findall(r"mlcluster_\w+", text)}
    assert len(asked) >= 6
    assert asked <= known
    assert 'mlcluster_replica_usd_per_hour{model="demo",replica="r1",version="3"} 0.05' in told


def test_the_dashboard_is_whole() -> None:
    found = dashboard()
    panels = found["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) >= 10
    assert {"datasource", "model"} == {variable["name"] for variable in found["templating"]["list"]}
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        assert panel["title"]
        assert panel["description"]
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
    taken = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(taken)) == len(taken), "two panels overlap"
