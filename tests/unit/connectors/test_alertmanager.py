from __future__ import annotations

import json
from typing import Any

import pytest

from aiops.core.errors import InvalidInput
from aiops.core.incident import Alert, Severity, SignalKind
from aiops.core.ports import PluginContext
from connectors.inbound.alertmanager import Alertmanager, AlertmanagerOptions

NOW = 1_700_000_000_000


def parse(body: Any) -> tuple[Alert, ...]:
    parser = Alertmanager(AlertmanagerOptions(), PluginContext("am", lambda: NOW))
    return parser.parse(json.dumps(body).encode()).alerts


def webhook(**alert: Any) -> dict[str, Any]:
    item = {"status": "firing", "labels": {"alertname": "Slow", "service": "web"}, **alert}
    return {"version": "4", "groupKey": "{}:{}", "truncatedAlerts": 0, "alerts": [item], "unknown": [1]}


def test_reads_a_firing_alert() -> None:
    (alert,) = parse(webhook(startsAt="2023-11-14T22:10:00.123456789+00:00", annotations={"summary": "slow"}))
    assert (alert.name, alert.kind, alert.service) == ("Slow", SignalKind.ALERT, "web")
    assert alert.firing
    assert alert.starts_ms == 1_699_999_800_123
    assert alert.expires_ms is None
    assert alert.summary.raw == "slow"
    assert ("group_key", "{}:{}") in [(k, v.raw) for k, v in alert.annotations]


def test_zero_end_is_no_end_and_resolved_has_one() -> None:
    assert parse(webhook(endsAt="0001-01-01T00:00:00Z"))[0].ends_ms is None
    (over,) = parse(webhook(status="resolved", startsAt="2023-11-14T22:00:00Z", endsAt="2023-11-14T22:10:00Z"))
    assert over.ends_ms == 1_699_999_800_000
    assert parse(webhook(status="resolved"))[0].ends_ms == NOW


def test_times_that_cannot_be_are_mended() -> None:
    (early,) = parse(webhook(status="resolved", startsAt="2023-11-14T22:10:00Z", endsAt="2023-11-14T21:00:00Z"))
    assert early.ends_ms == early.starts_ms
    assert parse(webhook(startsAt="2033-01-01T00:00:00Z"))[0].starts_ms == NOW


@pytest.mark.parametrize(
    ("word", "severity"),
    [("page", Severity.CRITICAL), ("CRITICAL", Severity.CRITICAL), ("info", Severity.INFO), ("odd", Severity.WARNING)],
)
def test_severity_words(word: str, severity: Severity) -> None:
    assert parse(webhook(labels={"alertname": "A", "severity": word}))[0].severity is severity


def test_two_senders_give_one_fingerprint_whatever_they_claim() -> None:
    first, second = parse(webhook(fingerprint="1")), parse(webhook(fingerprint="2", generatorURL="http://b"))
    assert first[0].fingerprint == second[0].fingerprint


def test_prometheus_as_sender_repeats_or_the_alert_ends() -> None:
    item = {"labels": {"alertname": "A", "service": "web"}, "startsAt": "2023-11-14T22:10:00Z"}
    (open_ended,) = parse([item])
    assert open_ended.expires_ms == NOW + 300_000
    (promised,) = parse([{**item, "endsAt": "2023-11-14T22:17:20Z"}])
    assert promised.firing
    assert promised.expires_ms == NOW + 240_000
    (over,) = parse([{**item, "endsAt": "2023-11-14T22:12:00Z"}])
    assert over.ends_ms == 1_699_999_920_000


def test_watchdog_and_our_own_alerts_are_not_taken_in() -> None:
    assert parse(webhook(labels={"alertname": "Watchdog"})) == ()
    assert parse(webhook(labels={"alertname": "InfoInhibitor"})) == ()
    assert parse(webhook(labels={"alertname": "AiopsIncident", "incident": "INC-1"})) == ()


def test_a_watchdog_that_fires_is_a_heartbeat() -> None:
    parser = Alertmanager(AlertmanagerOptions(), PluginContext("am", lambda: NOW))
    labels = {"alertname": "Watchdog", "prometheus": "a"}
    found = parser.parse(json.dumps(webhook(labels=labels)).encode())
    assert [dict(beat) for beat in found.heartbeats] == [labels]
    assert parser.parse(json.dumps(webhook(labels=labels, status="resolved")).encode()).heartbeats == ()


def test_left_out_alerts_are_noted(caplog: pytest.LogCaptureFixture) -> None:
    (alert,) = parse({**webhook(), "truncatedAlerts": 4})
    assert ("truncated_alerts", "4") in [(k, v.raw) for k, v in alert.annotations]
    assert "4 alerts" in caplog.text


def test_monstrous_alerts_are_refused_or_cut() -> None:
    with pytest.raises(InvalidInput, match="100000"):
        parse(webhook(labels={f"l{i}": "x" for i in range(100_000)}))
    (alert,) = parse(webhook(annotations={"summary": "z" * 10_000_000}))
    assert len(alert.summary.raw) == 4000
    with pytest.raises(InvalidInput, match="no labels"):
        parse(webhook(labels={}))


def test_links_are_http_only() -> None:
    assert parse(webhook(generatorURL="javascript:alert(1)"))[0].link == ""
    assert parse(webhook(generatorURL="https://p/graph"))[0].link == "https://p/graph"
