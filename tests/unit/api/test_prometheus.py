"""The Prometheus-compatible routes: parameters, results, limits and error JSON."""

from __future__ import annotations

import math
from typing import Any

import pytest

from aiops.api.prometheus_parameters import parse_duration, parse_time, unescape_name
from aiops.core.ports import Collected
from aiops.core.series import Exemplar, MetricMetadata, SampleBlock, labels_of
from tests.unit.api.conftest import NOW, House

BASE = NOW - 600_000


@pytest.fixture
def filled(house: House) -> House:
    ts = [BASE + 15_000 * i for i in range(40)]
    rows = [
        (labels_of({"__name__": "a_total", "team": team, "le.x": "1"}), ts, [float(i * k) for i in range(40)])
        for k, team in enumerate(("shop", "ops", "web"), 1)
    ]
    rows.append((labels_of({"__name__": "odd", "team": "ops"}), ts[-3:], [math.nan, math.inf, -math.inf]))
    metadata = (MetricMetadata("a_total", "counter", "", "All a."), MetricMetadata("odd", "gauge"))
    house.services.store.append(Collected(samples=SampleBlock.build(rows), metadata=metadata))
    return house


def get(house: House, path: str, who: str = "viewer", **parameters: Any) -> Any:
    return house.client.get(path, params=parameters, headers=house.headers(who))


def data(response: Any) -> Any:
    assert response.status_code == 200, response.text
    body = response.json()
    assert body["status"] == "success"
    return body["data"]


def error(response: Any, status: int, kind: str) -> str:
    assert response.status_code == status, response.text
    body = response.json()
    assert (body["status"], body["errorType"]) == ("error", kind)
    return str(body["error"])


def test_instant_by_get_and_by_form(filled: House) -> None:
    got = data(get(filled, "/api/v1/query", query='a_total{team="shop"}', time=NOW / 1000))
    labels = {"__name__": "a_total", "team": "shop", "le.x": "1"}
    assert got == {"resultType": "vector", "result": [{"metric": labels, "value": [NOW // 1000, "39"]}]}
    form = {"query": 'a_total{team="shop"}', "time": "2025-11-24T16:00:00Z"}
    posted = filled.client.post("/api/v1/query", data=form, headers=filled.headers("viewer"))
    assert data(posted) == got
    assert data(get(filled, "/api/v1/query", query='a_total{team="shop"}')) == got


def test_special_values_are_strings(filled: House) -> None:
    got = data(get(filled, "/api/v1/query_range", query="odd", start=NOW / 1000 - 45, end=NOW / 1000 - 15, step=15))
    assert [v for _, v in got["result"][0]["values"]] == ["NaN", "+Inf", "-Inf"]
    got = data(get(filled, "/api/v1/query", query="1 / 3e30"))
    assert got["resultType"] == "scalar"
    assert got["result"][1] == "3.3333333333333333e-31"[: len(got["result"][1])] or float(got["result"][1]) == 1 / 3e30


def test_range(filled: House) -> None:
    got = data(
        get(
            filled,
            "/api/v1/query_range",
            query="sum(rate(a_total[1m]))",
            start=NOW / 1000 - 120,
            end=NOW / 1000,
            step="1m",
        )
    )
    assert got["resultType"] == "matrix"
    assert [t for t, _ in got["result"][0]["values"]] == [NOW // 1000 - 120, NOW // 1000 - 60, NOW // 1000]
    assert all(float(v) == pytest.approx(6 / 15) for _, v in got["result"][0]["values"])


REFUSED = (
    ("query", {"query": "sum("}, 400, "bad_data", "unclosed left parenthesis"),
    ("query", {"query": ""}, 400, "bad_data", "no expression"),
    ("query", {}, 400, "bad_data", "no expression"),
    ("query", {"query": "nosuch(a)"}, 400, "bad_data", "unknown function"),
    ("query", {"query": "1", "time": "soon"}, 400, "bad_data", 'invalid parameter "time"'),
    ("query", {"query": "1", "time": "nan"}, 400, "bad_data", 'invalid parameter "time"'),
    ("query", {"query": "1", "limit": "-1"}, 400, "bad_data", "limit"),
    ("query", {"query": "a_total * on () a_total"}, 422, "execution", "many-to-many"),
    ("query", {"query": "1", "lookback_delta": "soon"}, 400, "bad_data", "lookback_delta"),
    ("query", {"query": "1", "lookback_delta": "-1m"}, 400, "bad_data", "lookback_delta"),
    ("query", {"query": "1", "timeout": "x"}, 400, "bad_data", 'invalid parameter "timeout"'),
    ("rules", {"group_next_token": "x"}, 400, "bad_data", "group_limit"),
    ("rules", {"group_limit": "0"}, 400, "bad_data", "greater than 0"),
    ("query_range", {"query": "1", "start": "1", "end": "0", "step": "1"}, 400, "bad_data", "before start"),
    ("query_range", {"query": "1", "start": "0", "end": "1", "step": "0"}, 400, "bad_data", "zero or negative"),
    ("query_range", {"query": "1", "start": "0", "end": "1", "step": "-1m"}, 400, "bad_data", "zero or negative"),
    ("query_range", {"query": "1", "start": "0", "end": "1"}, 400, "bad_data", 'invalid parameter "step"'),
    ("query_range", {"query": "1", "end": "1", "step": "1"}, 400, "bad_data", 'invalid parameter "start"'),
    ("query_range", {"query": "1", "start": "0", "end": "11001", "step": "1"}, 400, "bad_data", "11,000 points"),
    ("query_range", {"query": "'x'", "start": "0", "end": "1", "step": "1"}, 400, "bad_data", "invalid expression"),
    ("series", {}, 400, "bad_data", "no match[]"),
    ("series", {"match[]": "rate(a[1m])"}, 400, "bad_data", 'invalid parameter "match[]"'),
    ("labels", {"start": "5", "end": "1"}, 400, "bad_data", "before start"),
    ("label//values", {}, 404, "not_found", ""),
    ("format_query", {"query": "sum("}, 400, "bad_data", "unclosed"),
)


def test_errors_are_prometheus_json(filled: House) -> None:
    for path, parameters, status, kind, words in REFUSED:
        assert words in error(get(filled, f"/api/v1/{path}", **parameters), status, kind), (path, parameters)


def test_a_body_that_is_no_form(filled: House) -> None:
    headers = {**filled.headers("viewer"), "content-type": "application/x-www-form-urlencoded"}
    assert "form" in error(filled.client.post("/api/v1/query", content=b"\xff\xfe", headers=headers), 400, "bad_data")


def test_limit_cuts_and_warns(filled: House) -> None:
    response = get(filled, "/api/v1/query", query="a_total", limit=2)
    assert len(data(response)["result"]) == 2
    assert response.json()["warnings"] == ["results truncated due to limit"]
    assert "infos" in get(filled, "/api/v1/query", query="rate(odd[1m])").json()


def test_series_labels_and_values(filled: House) -> None:
    found = data(get(filled, "/api/v1/series", **{"match[]": 'a_total{team=~"shop|ops"}'}))
    assert {s["team"] for s in found} == {"shop", "ops"}
    assert data(get(filled, "/api/v1/labels")) == ["__name__", "le.x", "team"]
    assert data(get(filled, "/api/v1/label/team/values")) == ["ops", "shop", "web"]
    assert data(get(filled, "/api/v1/label/team/values", **{"match[]": "odd"})) == ["ops"]
    assert data(get(filled, "/api/v1/label/U__le_2e_x/values")) == ["1"]
    assert data(get(filled, "/api/v1/label/team/values", start=0, end=1)) == []
    posted = filled.client.post(
        "/api/v1/series", data={"match[]": ["odd", "a_total"]}, headers=filled.headers("viewer")
    )
    assert len(data(posted)) == 4
    assert len(data(get(filled, "/api/v1/labels", limit=1))) == 1


def test_scope_holds_on_every_route(filled: House) -> None:
    assert len(data(get(filled, "/api/v1/query", "scoped", query="a_total"))["result"]) == 1
    assert data(get(filled, "/api/v1/label/team/values", "scoped")) == ["shop"]
    assert data(get(filled, "/api/v1/series", "scoped", **{"match[]": "odd"})) == []
    assert set(data(get(filled, "/api/v1/metadata", "scoped"))) == {"a_total"}
    error(filled.client.get("/api/v1/query", params={"query": "1"}), 401, "unauthorized")


def test_the_rest(filled: House) -> None:
    assert data(get(filled, "/api/v1/metadata", metric="a_total")) == {
        "a_total": [{"type": "counter", "help": "All a.", "unit": ""}]
    }
    assert data(get(filled, "/api/v1/format_query", query="sum  (a)by(b)")) == "sum by (b) (a)"
    assert data(get(filled, "/api/v1/query_exemplars", query="a", start=0, end=1)) == []
    assert data(get(filled, "/api/v1/rules")) == {"groups": []}
    assert data(get(filled, "/api/v1/alerts")) == {"alerts": []}
    assert data(get(filled, "/api/v1/status/buildinfo"))["version"].startswith("3.0.0+aiops.")
    assert filled.client.get("/-/healthy").status_code == 200
    assert filled.client.get("/-/ready").status_code == 200


def test_lookback_timeout_and_stats_of_one_request(filled: House) -> None:
    at = NOW / 1000 + 60
    assert len(data(get(filled, "/api/v1/query", query="a_total", time=at))["result"]) == 3
    assert data(get(filled, "/api/v1/query", query="a_total", time=at, lookback_delta="30s"))["result"] == []
    assert len(data(get(filled, "/api/v1/query", query="a_total", time=at, lookback_delta="2m"))["result"]) == 3
    stats = data(get(filled, "/api/v1/query", query="a_total", time=at, stats="all"))["stats"]
    assert stats["samples"]["totalQueryableSamples"] >= 3
    assert stats["timings"]["evalTotalTime"] > 0
    heavy = "max_over_time(rate(a_total[5m])[10m:1s])"
    late = get(filled, "/api/v1/query_range", query=heavy, start=at - 900, end=at, step=1, timeout="1ms")
    assert "timed out" in error(late, 503, "timeout")


def test_what_is_wrong_with_a_query_is_wrong_with_a_parameter(filled: House) -> None:
    for path in ("query", "format_query", "parse_query"):
        said = error(get(filled, f"/api/v1/{path}", query="sum(a b)"), 400, "bad_data")
        assert said.startswith('invalid parameter "query": 1:7: parse error: unexpected identifier "b" in aggregation')


def test_the_syntax_tree_of_a_query(filled: House) -> None:
    query = "sum by (job) (rate(a_total{x!='y'}[5m] offset 1m)) / on (job) group_left () b[1h:30s] @ end()"
    said = error(get(filled, "/api/v1/parse_query", query=query), 400, "bad_data")
    assert "binary expression must contain only scalar and instant vector types" in said
    got = data(get(filled, "/api/v1/parse_query", query=query.replace("b[1h:30s] @ end()", "-b @ end()")))
    assert (got["type"], got["op"], got["bool"]) == ("binaryExpr", "/", False)
    assert {k: got["matching"][k] for k in ("card", "labels", "on", "include")} == {
        "card": "many-to-one", "labels": ["job"], "on": True, "include": [],
    }  # fmt: skip
    assert (got["lhs"]["type"], got["lhs"]["grouping"], got["lhs"]["without"]) == ("aggregation", ["job"], False)
    call = got["lhs"]["expr"]
    assert call["func"] == {"name": "rate", "argTypes": ["matrix"], "variadic": 0, "returnType": "vector"}
    assert call["args"][0] == {
        "type": "matrixSelector", "name": "a_total", "range": 300_000, "offset": 60_000, "timestamp": None,
        "startOrEnd": None,
        "matchers": [
            {"name": "x", "value": "y", "type": "!="}, {"name": "__name__", "value": "a_total", "type": "="},
        ],
    }  # fmt: skip
    assert (got["rhs"]["type"], got["rhs"]["expr"]["startOrEnd"]) == ("unaryExpr", "end")


def test_exemplars_of_the_series_that_a_query_selects(filled: House) -> None:
    series = labels_of({"__name__": "a_total", "team": "shop", "le.x": "1"})
    found = tuple(Exemplar(series, (("trace_id", str(i)),), i / 2, NOW - 1000 * i) for i in range(3))
    filled.services.store.append(Collected(exemplars=found))
    query = "rate(a_total[5m]) + rate(a_total[1m])"
    (got,) = data(get(filled, "/api/v1/query_exemplars", query=query, start=NOW / 1000 - 60, end=NOW / 1000))
    assert got["seriesLabels"] == dict(series)
    assert [e["labels"]["trace_id"] for e in got["exemplars"]] == ["2", "1", "0"]
    assert got["exemplars"][1] == {"labels": {"trace_id": "1"}, "value": "0.5", "timestamp": NOW / 1000 - 1}
    assert data(get(filled, "/api/v1/query_exemplars", query="a_total{team='ops'}", start=0, end=NOW / 1000)) == []


def test_status_as_grafana_asks_for_it(filled: House) -> None:
    tsdb = data(get(filled, "/api/v1/status/tsdb", limit=1))
    assert tsdb["headStats"]["numSeries"] == 4
    assert tsdb["seriesCountByMetricName"] == [{"name": "a_total", "value": 3}]
    assert tsdb["labelValueCountByLabelName"] == [{"name": "team", "value": 3}]
    assert tsdb["seriesCountByLabelValuePair"] == [{"name": "__name__=a_total", "value": 3}]
    assert data(get(filled, "/api/v1/status/tsdb", "scoped"))["headStats"]["numSeries"] == 1
    assert data(get(filled, "/api/v1/status/flags"))["query.lookback-delta"] == "5m"
    assert data(get(filled, "/api/v1/status/runtimeinfo"))["storageRetention"].endswith("d")
    assert data(get(filled, "/api/v1/status/walreplay"))["state"] == "done"
    assert data(get(filled, "/api/v1/alertmanagers")) == {"activeAlertmanagers": [], "droppedAlertmanagers": []}


def test_times_and_durations() -> None:
    assert parse_time("1.5") == 1500
    assert parse_time("-1") == -1000
    assert parse_time("2015-07-01T20:10:51.781Z") == 1_435_781_451_781
    assert parse_time("2015-07-01T22:10:51+02:00") == 1_435_781_451_000
    assert parse_time("2015-07-01T20:10:51.781999999z") == 1_435_781_451_782
    for text in ("", "x", "inf", "1_0", "2015-07-01", "1e300"):
        with pytest.raises(ValueError):
            parse_time(text)
    assert parse_duration("0.25") == 250
    assert parse_duration("1h30m") == 5_400_000
    for text in ("", "5", "-"):
        if text != "5":
            with pytest.raises(ValueError):
                parse_duration(text)
    assert unescape_name("U__a_2e_b__c") == "a.b_c"
    assert unescape_name("plain_name") == "plain_name"
