"""The requests of Grafana's Prometheus data source, sent as it sends them; its backend is not here to send them itself.

After Grafana 12.0 (the version in ``docker/compose.yaml``): ``pkg/promlib/client/client.go`` (queries), its
``healthcheck.go`` and ``heuristics.go`` (buildinfo), ``packages/grafana-prometheus/src`` (``language_provider.ts``,
``metric_find_query.ts``: names, values, metadata, rules), and the ``buildInfo.ts`` of its alerting.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
import yaml

from aiops.core.ports import Collected
from aiops.core.series import Exemplar, MetricMetadata, SampleBlock, labels_of
from tests.unit.api.conftest import NOW, House

ROOT = Path(__file__).parents[3]
REQUESTS = labels_of({"__name__": "http_requests_total", "job": "shop", "service.name": "a b"})
BUCKETS = [labels_of({"__name__": "lat_seconds_bucket", "job": "shop", "le": le}) for le in ("0.1", "1", "+Inf")]
START, END = str(NOW // 1000 - 3600), str(NOW // 1000)
LIMIT = "40000"
"""``DEFAULT_SERIES_LIMIT``, which every look-up carries."""


@pytest.fixture
def grafana(house: House) -> Any:
    ts = [NOW - 15_000 * i for i in range(40, -1, -1)]
    rows = [(labels, ts, [float(i * k) for i in range(41)]) for k, labels in enumerate([REQUESTS, *BUCKETS], 1)]
    house.services.store.append(
        Collected(
            samples=SampleBlock.build(rows),
            metadata=(MetricMetadata("http_requests", "counter", "", "Requests."),),
            exemplars=(Exemplar(BUCKETS[1], labels_of({"trace_id": "t1"}), 0.5, NOW - 7000),),
        )
    )

    def send(path: str, form: dict[str, str | list[str]], method: str = "POST") -> Any:
        """As the backend's client does: a form, or the URL; accepts gzip; the key in the configured header."""
        text = urlencode(form, doseq=True)
        headers = {**house.headers("viewer"), "accept-encoding": "gzip", "user-agent": "Grafana/12.0.2"}
        if method == "POST":
            headers["content-type"] = "application/x-www-form-urlencoded"
            answer = house.client.post(path, content=text, headers=headers)
        else:
            answer = house.client.get(f"{path}?{text}" if text else path, headers=headers)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("application/json")
        told = answer.json()
        assert told["status"] == "success"
        return told["data"]

    return send


def test_save_and_test(grafana: Any) -> None:
    """The health check is ``1+1`` at four seconds past the epoch; the version decides what is asked later."""
    assert grafana("/api/v1/query", {"query": "1+1", "time": "4"}) == {"resultType": "scalar", "result": [4, "2"]}
    told = grafana("/api/v1/status/buildinfo", {}, "GET")
    major, minor, _ = re.match(r"(\d+)\.(\d+)\.(\d+)(?:[-+][0-9A-Za-z.-]+)?\Z", told["version"]).groups()  # type: ignore[union-attr]
    assert (int(major), int(minor)) >= (2, 24), "label values take match[] since then"
    assert "features" not in told, "only Mimir has them; with them Grafana would ask for a ruler's API"


def test_a_panel(grafana: Any) -> None:
    query = 'sum by (job) (rate(http_requests_total{job=~"shop"}[1m0s]))'
    form = {"end": END, "query": query, "start": START, "step": "15"}
    data = grafana("/api/v1/query_range", form)
    assert data["resultType"] == "matrix"
    (series,) = data["result"]
    assert series["metric"] == {"job": "shop"}
    assert series["values"][-1][0] == NOW // 1000
    assert float(series["values"][-1][1]) == pytest.approx(1 / 15)
    assert all(isinstance(t, int | float) and isinstance(v, str) for t, v in series["values"])
    same = grafana("/api/v1/query_range", {**form, "timeout": "60s", "step": "15.5"}, "GET")
    assert len(same["result"]) == 1
    instant = grafana("/api/v1/query", {"query": "count(http_requests_total)", "time": f"{END}.123"})
    assert instant["result"] == [{"metric": {}, "value": [NOW / 1000 + 0.123, "1"]}]


def test_a_heat_map_and_its_exemplars(grafana: Any) -> None:
    query = "sum by (le) (increase(lat_seconds_bucket[1m]))"
    data = grafana("/api/v1/query_range", {"end": END, "query": query, "start": START, "step": "60"})
    assert {s["metric"]["le"] for s in data["result"]} == {"0.1", "1", "+Inf"}
    form = {"end": END, "query": query, "start": START}
    (one,) = grafana("/api/v1/query_exemplars", form)
    assert one["seriesLabels"] == dict(BUCKETS[1])
    (exemplar,) = one["exemplars"]
    assert exemplar == {"labels": {"trace_id": "t1"}, "value": "0.5", "timestamp": (NOW - 7000) / 1000}


def test_the_query_builder(grafana: Any) -> None:
    window = {"start": START, "end": END}
    names = grafana("/api/v1/label/__name__/values", {**window, "limit": LIMIT}, "GET")
    assert names == ["http_requests_total", "lat_seconds_bucket"]
    found = grafana("/api/v1/labels", {**window, "match[]": "http_requests_total", "limit": LIMIT})
    assert found == ["__name__", "job", "service.name"]
    assert grafana("/api/v1/labels", {**window, "limit": LIMIT}, "GET") == ["__name__", "job", "le", "service.name"]
    quoted = '{"http_requests_total", "service.name"="a b"}'
    values = grafana("/api/v1/label/U__service_2e_name/values", {**window, "match[]": quoted, "limit": LIMIT}, "GET")
    assert values == ["a b"]
    only = {**window, "match[]": '{__name__=~".*_bucket"}', "limit": LIMIT}
    assert grafana("/api/v1/label/__name__/values", only, "GET") == ["lat_seconds_bucket"]
    series = grafana("/api/v1/series", {**window, "match[]": ['{job="shop"}', "nothing"], "limit": LIMIT})
    assert sorted(map(str, series)) == sorted(str(dict(labels)) for labels in (REQUESTS, *BUCKETS))
    told = grafana("/api/v1/metadata", {"limit": LIMIT}, "GET")
    assert told["http_requests"] == [{"type": "counter", "help": "Requests.", "unit": ""}]
    assert grafana("/api/v1/rules", {}, "GET") == {"groups": []}


def test_variables(grafana: Any) -> None:
    """``query_result(…)`` at the end of the range, ``label_values`` with a selector, ``metrics(…)``."""
    (row,) = grafana("/api/v1/query", {"query": "topk(1, http_requests_total)", "time": END})["result"]
    assert row == {"metric": dict(REQUESTS), "value": [NOW // 1000, "40"]}
    form = {"start": START, "end": END, "match[]": 'lat_seconds_bucket{job="shop"}', "limit": LIMIT}
    assert grafana("/api/v1/label/le/values", form, "GET") == ["+Inf", "0.1", "1"]


def test_alert_rules_are_listed_by_pages(grafana: Any) -> None:
    form = {"group_limit": "40", "limit_alerts": "16"}
    assert grafana("/api/v1/rules", form, "GET") == {"groups": []}
    assert grafana("/api/v1/alerts", {}, "GET") == {"alerts": []}


def test_an_error_is_shown_as_prometheus_words_it(house: House) -> None:
    headers = {**house.headers("viewer"), "content-type": "application/x-www-form-urlencoded"}
    answer = house.client.post("/api/v1/query", content=urlencode({"query": "sum(", "time": END}), headers=headers)
    assert answer.status_code == 400
    assert answer.json()["status"] == "error"
    assert answer.json()["errorType"] == "bad_data"
    assert "parse error" in answer.json()["error"]


def test_the_provisioned_data_source_fits_the_stack() -> None:
    """What the file names exists: the service's address in the stack, the key's variable, the place it is mounted."""
    (source,) = yaml.safe_load((ROOT / "docker/grafana/aiops.yaml").read_text())["datasources"]
    compose = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())["services"]
    served = yaml.safe_load((ROOT / "docker/aiops.yaml").read_text())["server"]
    url = httpx.URL(source["url"])
    assert (source["type"], source["access"]) == ("prometheus", "proxy")
    assert url.host in compose
    assert url.port == served.get("port", 8420)
    assert source["jsonData"]["httpMethod"] == "POST"
    assert source["jsonData"]["httpHeaderName1"] == "Authorization"
    (variable,) = re.findall(r"\$(\w+)", source["secureJsonData"]["httpHeaderValue1"])
    assert variable in compose["grafana"]["environment"]
    assert any(v.endswith(":/etc/grafana/provisioning/datasources:ro") for v in compose["grafana"]["volumes"])
