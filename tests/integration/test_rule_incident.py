"""A rule fires: an incident opens, the receiver that pages is told, and both hear of the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from aiops.core.ports import Collected, system_clock
from aiops.core.principal import SYSTEM
from aiops.core.series import SampleBlock, labels_of
from tests.contract.peers import peer

RULES = """
groups:
- name: shop
  interval: 1s
  rules:
  - record: shop:errors:ratio
    expr: sum by (service) (errors) / sum by (service) (requests)
  - alert: ErrorsHigh
    expr: shop:errors:ratio > 0.1
    for: 2s
    labels: {severity: page}
    annotations:
      summary: '{{ $labels.service }} fails {{ $value | humanizePercentage }} of its requests'
      runbook_url: https://wiki.example/{{ $labels.service }}
  - alert: Broken
    expr: errors * on () requests
"""


def until(what: Callable[[], Any], seconds: float = 40.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.2)
    pytest.fail("it did not happen in time")


def test_from_a_rule_to_a_page_to_the_resolve(serve: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "shop.yml").write_text(RULES)
    with peer() as hook:
        service = serve(
            connectors={"telemetry": {}},
            rules={"files": [str(tmp_path / "rules" / "*.yml")], "external_labels": {"region": "eu"}},
            receivers={"oncall": {"plugin": "webhook", "url": f"{hook.url}/hook", "pages": True}},
            incidents={"resolve_timeout_s": 5},
        )

        def get(path: str, **params: str) -> Any:
            reply = httpx.get(f"{service.url}/api/v1/{path}", params=params, trust_env=False, timeout=10).json()
            assert reply["status"] == "success", reply
            return reply["data"]

        def write(errors: float) -> None:
            rows = [
                (labels_of({"__name__": "errors", "service": "checkout", "pod": pod}), errors) for pod in ("a", "b")
            ]
            rows += [
                (labels_of({"__name__": "requests", "service": "checkout", "pod": pod}), 100.0) for pod in ("a", "b")
            ]
            service.store.append(Collected(samples=SampleBlock.at(system_clock(), rows)))

        def told(kind: str) -> Any:
            return [r.json for r in hook.received if r.json["type"] == f"aiops.incident.{kind}"]

        def alerts() -> Any:
            return get("alerts")["alerts"]

        write(40.0)
        pending = until(alerts)
        assert pending[0]["labels"] == {"alertname": "ErrorsHigh", "service": "checkout", "severity": "page"}
        opened = until(lambda: told("opened"))[0]
        (incident,) = service.incidents.list(SYSTEM)
        (signal,) = incident.signals
        assert (signal.alert.kind.value, signal.alert.severity.value) == ("rule", "critical")
        assert signal.alert.summary.raw == "checkout fails 40% of its requests"
        assert signal.alert.link == "https://wiki.example/checkout"
        assert dict(signal.alert.labels)["region"] == "eu"
        assert incident.service == "checkout"
        assert incident.id in opened["subject"]
        (group,) = get("rules")["groups"]
        record, alert, broken = group["rules"]
        assert (record["type"], record["health"]) == ("recording", "ok")
        assert (alert["state"], alert["duration"], alert["alerts"][0]["value"]) == ("firing", 2, "4e-01")
        assert (broken["health"], "matching" in broken["lastError"]) == ("err", True)
        only = get("rules", type="record")["groups"][0]["rules"]
        assert [r["name"] for r in only] == ["shop:errors:ratio"]
        state = get("query", query='ALERTS{alertstate="firing"}')["result"]
        assert [r["metric"]["alertname"] for r in state] == ["ErrorsHigh"]
        (part,) = [c for c in service.services.components() if c.name == "rules"]
        assert (part.state.value, part.detail) == ("degraded", "failing: shop/Broken")
        own = service.services.metrics_text()
        assert 'aiops_rules_evaluation_failures_total{rule_group="' in own
        assert 'aiops_rules_group_duration_seconds_count{rule_group="' in own
        assert not told("resolved")
        write(1.0)
        until(lambda: told("resolved"))
        assert service.incidents.list(SYSTEM)[0].status.value == "resolved"
        assert until(lambda: not get("query", query="ALERTS")["result"])
