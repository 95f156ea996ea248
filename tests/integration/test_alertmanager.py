"""Against Debian's own Alertmanager and Prometheus: their real bodies in, our silence out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from aiops.core.action import Action
from aiops.core.incident import IncidentStatus, NotificationEvent, SignalKind
from aiops.core.plugins import build
from aiops.core.ports import Executor, InboundParser, Notifier, PluginContext, system_clock
from tests.contract.incidents import notification
from tests.contract.peers import Peer, peer
from tests.integration.servers import Server, start_alertmanager, start_prometheus

pytestmark = pytest.mark.server("prometheus-alertmanager")
RESEND = ("--rules.alert.resend-delay=1s",)
RULES = """
groups:
  - name: test
    interval: 1s
    rules:
      - alert: AlwaysOn
        expr: vector(1)
        labels: {severity: critical, service: web}
        annotations: {summary: "it is always on"}
"""


def until(what: Callable[[], Any], seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.1)
    pytest.fail("it did not happen in time")


def api(server: Server, path: str, **rest: Any) -> Any:
    with httpx.Client(trust_env=False, timeout=5.0) as client:
        reply = client.request("POST" if rest else "GET", server.url + path, **rest)
        reply.raise_for_status()
        return reply.json() if reply.content else None


def parser() -> InboundParser[Any]:
    made = build("connectors.inbound", "alertmanager", {}, PluginContext("alertmanager"))
    assert isinstance(made, InboundParser)
    return made


def hook_bodies(hook: Peer) -> list[bytes]:
    return [r.body for r in hook.received if r.method == "POST"]


def test_silence_is_made_once_and_seen_and_mutes(tmp_path: Path) -> None:
    server = start_alertmanager(tmp_path)
    try:
        labels = {"alertname": "Slow", "service": "web"}
        api(server, "/api/v2/alerts", json=[{"labels": labels}])
        executor = build(
            "connectors.executors", "alertmanager_silence", {"url": server.url}, PluginContext("am", system_clock)
        )
        assert isinstance(executor, Executor)
        pairs = (
            ("comment", "working on it"),
            ("duration_s", "600"),
            ("executor", "am"),
            ("matchers", json.dumps(labels)),
        )
        action = Action("silence", "web", pairs)
        assert "10 min" in executor.dry_run(action)
        assert api(server, "/api/v2/silences") == []
        assert executor.execute(action, "ACT-1").ok
        assert executor.execute(action, "ACT-1").ok
        (silence,) = api(server, "/api/v2/silences")
        assert silence["status"]["state"] == "active"
        assert silence["comment"] == "working on it [ACT-1]"
        (alert,) = until(lambda: [a for a in api(server, "/api/v2/alerts") if a["status"]["state"] == "suppressed"])
        assert alert["status"]["silencedBy"] == [silence["id"]]
        executor.close()
    finally:
        server.stop()


def test_a_rule_of_a_real_prometheus_arrives_through_alertmanager(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yml"
    rules.write_text(RULES)
    with peer() as hook:
        manager = start_alertmanager(tmp_path, f"{hook.url}/hook")
        prometheus = None
        try:
            prometheus = start_prometheus(tmp_path, alertmanager=manager.address, flags=RESEND)
            config = tmp_path / "prometheus.yml"
            config.write_text(config.read_text() + f"rule_files: ['{rules}']\n")
            prometheus.process.send_signal(1)
            body = until(lambda: hook_bodies(hook))[0]
            (alert,) = parser().parse(body).alerts
            assert (alert.name, alert.kind, alert.service) == ("AlwaysOn", SignalKind.ALERT, "web")
            assert alert.severity.value == "critical"
            assert alert.firing
            assert alert.summary.raw == "it is always on"
            rules.write_text(RULES.replace("vector(1)", "vector(1) > 2"))
            prometheus.process.send_signal(1)
            over = until(lambda: [b for b in hook_bodies(hook) if json.loads(b)["status"] == "resolved"])[0]
            (ended,) = parser().parse(over).alerts
            assert ended.fingerprint == alert.fingerprint
            assert ended.ends_ms is not None
        finally:
            if prometheus is not None:
                prometheus.stop()
            manager.stop()


def test_prometheus_takes_us_for_an_alertmanager(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yml"
    rules.write_text(RULES)
    with peer() as us:
        prometheus = start_prometheus(tmp_path, alertmanager=us.url.removeprefix("http://"), flags=RESEND)
        try:
            config = tmp_path / "prometheus.yml"
            config.write_text(config.read_text() + f"rule_files: ['{rules}']\n")
            prometheus.process.send_signal(1)
            sent = until(lambda: [r for r in us.received if r.path.endswith("/api/v2/alerts")])[0]
            (alert,) = parser().parse(sent.body).alerts
            assert (alert.name, alert.service) == ("AlwaysOn", "web")
            assert alert.expires_ms is not None
            assert alert.expires_ms > system_clock()
        finally:
            prometheus.stop()


def test_our_page_and_its_resolve_reach_a_real_alertmanager_and_never_come_back_in(tmp_path: Path) -> None:
    with peer() as hook:
        manager = start_alertmanager(tmp_path, f"{hook.url}/hook")
        options = {"url": manager.url, "labels": {"team": "shop"}}
        notifier = build("connectors.notifiers", "alertmanager", options, PluginContext("am", system_clock))
        assert isinstance(notifier, Notifier)
        try:
            opened = notification(NotificationEvent.OPENED)
            now = system_clock()
            incident = replace(opened.incident, opened_ms=now - 5_000, resolved_ms=None)
            notifier.notify(replace(opened, incident=incident))
            notifier.refresh([incident])
            (alert,) = until(lambda: api(manager, "/api/v2/alerts"))
            assert alert["labels"]["incident"] == "INC-7"
            assert alert["labels"]["team"] == "shop"
            body = until(lambda: hook_bodies(hook))[0]
            assert json.loads(body)["status"] == "firing"
            assert parser().parse(body).alerts == ()
            over = replace(incident, status=IncidentStatus.RESOLVED, resolved_ms=system_clock())
            notifier.notify(replace(opened, event=NotificationEvent.RESOLVED, incident=over))
            until(lambda: [b for b in hook_bodies(hook) if json.loads(b)["status"] == "resolved"])
            assert api(manager, "/api/v2/alerts") == []
        finally:
            notifier.close()
            manager.stop()
