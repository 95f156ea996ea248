"""Rules and alerts as Prometheus' API shows them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from starlette.testclient import TestClient

from aiops.api.app import create_app
from aiops.api.rule_views import exponent_text
from aiops.core.ports import Collected
from aiops.core.series import SampleBlock, labels_of
from aiops.rules.engine import RuleEngine
from aiops.rules.files import parse_rules
from tests.unit.api.conftest import NOW

RULES = """
groups:
- name: shop
  interval: 30s
  limit: 5
  rules:
  - {record: 'a:b', expr: 'm * 2', labels: {kind: rule}}
  - alert: High
    expr: m > 5
    keep_firing_for: 5m
    labels: {severity: page}
    annotations: {summary: '{{ $value }} of {{ $labels.team }}'}
- name: other
  rules:
  - {alert: Never, expr: 'm > 100', for: 10m}
  - {record: broken, expr: 'm[1m]'}
"""


@pytest.fixture
def ruled(house: Any) -> Any:
    groups, problems = parse_rules(RULES, "/etc/rules.yml")
    assert not problems
    services = house.services
    engine = RuleEngine(groups, services.engine, services.store, services.incidents, house.time)
    rows = [(labels_of({"__name__": "m", "team": team}), 7.0) for team in ("shop", "bank")]
    services.store.append(Collected(samples=SampleBlock.at(NOW, rows)))
    engine.run_once(NOW)
    client = TestClient(create_app(replace(services, rules=engine)), base_url="http://127.0.0.1:8420")

    def get(path: str, who: str = "viewer", **params: Any) -> Any:
        return client.get(f"/api/v1/{path}", params=params, headers=house.headers(who)).json()

    return get


def test_the_shape(ruled):
    shop, other = ruled("rules")["data"]["groups"]
    assert {k: shop[k] for k in ("name", "file", "interval", "limit", "lastEvaluation")} == {
        "name": "shop", "file": "/etc/rules.yml", "interval": 30, "limit": 5,
        "lastEvaluation": "2025-11-24T16:00:00.000Z",
    }  # fmt: skip
    record, alert = shop["rules"]
    assert {k: record[k] for k in ("name", "query", "labels", "health", "type")} == {
        "name": "a:b", "query": "m * 2", "labels": {"kind": "rule"}, "health": "ok", "type": "recording",
    }  # fmt: skip
    assert (alert["state"], alert["duration"], alert["keepFiringFor"], alert["type"]) == ("firing", 0, 300, "alerting")
    assert alert["annotations"] == {"summary": "{{ $value }} of {{ $labels.team }}"}
    assert alert["alerts"][0] == {
        "labels": {"alertname": "High", "severity": "page", "team": "bank"},
        "annotations": {"summary": "7 of bank"},
        "state": "firing",
        "activeAt": "2025-11-24T16:00:00.000Z",
        "value": "7e+00",
    }
    assert [(r["name"], r["health"]) for r in other["rules"]] == [("Never", "ok"), ("broken", "err")]
    assert other["rules"][0]["state"] == "inactive"
    assert "not a vector or scalar" in other["rules"][1]["lastError"]
    assert [a["labels"]["team"] for a in ruled("alerts")["data"]["alerts"]] == ["bank", "shop"]


@pytest.mark.parametrize(
    ("params", "names"),
    [
        ({"type": "alert"}, ["High", "Never"]),
        ({"type": "record"}, ["a:b", "broken"]),
        ({"rule_name[]": ["High", "broken"]}, ["High", "broken"]),
        ({"rule_group[]": "other"}, ["Never", "broken"]),
        ({"file[]": "/etc/none.yml"}, []),
        ({"type": "alert", "rule_group[]": "shop", "rule_name[]": "a:b"}, []),
    ],
)
def test_filters(ruled, params, names):
    groups = ruled("rules", **params)["data"]["groups"]
    assert [r["name"] for g in groups for r in g["rules"]] == names
    assert all(g["rules"] for g in groups)


def test_a_wrong_type_is_refused_and_alerts_can_be_left_out(ruled):
    assert ruled("rules", type="x")["error"] == 'invalid parameter "type": not supported value "x"'
    (group,) = ruled("rules", type="alert", exclude_alerts="true", **{"rule_group[]": "shop"})["data"]["groups"]
    assert "alerts" not in group["rules"][0]


def test_a_scoped_caller_sees_alerts_of_its_scope(ruled):
    assert [a["labels"]["team"] for a in ruled("alerts", "scoped")["data"]["alerts"]] == ["shop"]
    shop, other = ruled("rules", "scoped")["data"]["groups"]
    assert [a["labels"]["team"] for a in shop["rules"][1]["alerts"]] == ["shop"]
    assert other["rules"][1]["lastError"] == "the evaluation failed"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0e+00"), (1.0, "1e+00"), (0.1, "1e-01"), (123.456, "1.23456e+02"), (-1e300, "-1e+300"),
     (1 / 3, "3.333333333333333e-01"), (float("nan"), "NaN"), (float("-inf"), "-Inf")],
)  # fmt: skip
def test_values_always_have_an_exponent(value, text):
    assert exponent_text(value) == text


def test_pages_of_groups(ruled):
    first = ruled("rules", group_limit=1)["data"]
    assert [g["name"] for g in first["groups"]] == ["shop"]
    second = ruled("rules", group_limit=1, group_next_token=first["groupNextToken"])["data"]
    assert [g["name"] for g in second["groups"]] == ["other"]
    assert "groupNextToken" not in second
    refused = ruled("rules", group_limit=1, group_next_token="f" * 40)
    assert "the groups changed" in refused["error"]


def test_rules_whose_labels_match(ruled):
    (group,) = ruled("rules", **{"match[]": '{severity="page"}'})["data"]["groups"]
    assert [r["name"] for r in group["rules"]] == ["High"]
    groups = ruled("rules", **{"match[]": ['{severity=~"p.*"}', '{kind="rule"}']})["data"]["groups"]
    assert [r["name"] for g in groups for r in g["rules"]] == ["a:b", "High"]
