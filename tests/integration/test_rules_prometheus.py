"""The same rule file on a real Prometheus and here: recorded series and alert states equal at the same instants."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from aiops.api.rule_views import groups_data
from aiops.core.incident import Alert
from aiops.core.ports import Collected
from aiops.core.principal import LOCAL
from aiops.core.series import METRIC_NAME, Labels, is_stale, labels_of
from aiops.promql.engine import PromqlEngine
from aiops.rules.engine import RuleEngine
from aiops.rules.files import load_groups
from tests.integration import servers

RULES = """
groups:
- name: every second
  interval: 1s
  limit: 500
  rules:
  - {record: 'mode:cpu:rate', expr: 'sum by (mode) (rate(node_cpu_seconds_total[5s]))'}
  - {record: 'busy:ratio', expr: '1 - sum(mode:cpu:rate{mode="idle"}) / sum(mode:cpu:rate)', labels: {origin: rule}}
  - {record: 'moment', expr: 'vector(time())'}
  - {record: 'comes:and:goes', expr: 'node_load1 and on () (floor(vector(time()) / 3) % 2 == 1)'}
  - {record: 'scalar:here', expr: '42'}
  - {record: 'too:many', expr: 'label_replace(node_cpu_seconds_total, "a", "b", "", "") + on () group_left () up'}
  - {record: 'clash', expr: 'node_cpu_seconds_total', labels: {cpu: 'x', mode: 'y'}}
  - alert: Steady
    expr: node_memory_MemTotal_bytes > 0
    for: 4s
    labels: {severity: page, where: '{{ $labels.instance | reReplaceAll ":.*" "" }}'}
    annotations: {summary: '{{ $labels.job }} has {{ $value | humanize1024 }}B', now: '{{ printf "%.1f" $value }}'}
  - alert: Flapping
    expr: node_load1 + 1 and on () (floor(vector(time()) / 3) % 2 == 1)
    for: 1s
    keep_firing_for: 1s
  - alert: Instant
    expr: floor(vector(time()) / 4) % 2 == 1
"""
OWN = "mode:cpu:rate|busy:ratio|moment|comes:and:goes|scalar:here|too:many|clash|ALERTS|ALERTS_FOR_STATE"
Points = dict[Labels, dict[int, float]]


class Kept:
    """Takes samples and alerts, and gives what Prometheus' API would of them."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.points: Points = {}
        self.alerts: list[Alert] = []

    def append(self, collected: Collected, key: str = "") -> object:
        block = collected.samples
        for i, labels in enumerate(block.labels):
            times, values = block.series(i)
            if not is_stale(values)[0]:
                self.points.setdefault(labels, {})[int(times[0])] = float(values[0])
        return self.store.append(collected, key)

    def submit(self, alerts: Any) -> None:
        self.alerts += alerts


def ask(url: str, path: str, **params: Any) -> Any:
    reply = httpx.get(f"{url}/api/v1/{path}", params=params, timeout=20, trust_env=False).json()
    assert reply["status"] == "success", reply
    return reply["data"]


def raw(url: str, at: float) -> Points:
    """Every sample that the rules of a Prometheus wrote in the last minute."""
    rows = ask(url, "query", query=f'{{__name__=~"{OWN}"}}[1m]', time=at)["result"]
    return {labels_of(r["metric"]): {round(float(t) * 1000): float(v) for t, v in r["values"]} for r in rows}


def evaluates_while_it_scrapes(url: str) -> bool:
    """An evaluation right after a scrape may or may not have seen it: nothing can be compared then."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        moments = raw(url, time.time()).get(labels_of({METRIC_NAME: "moment"}))
        scraped = ask(url, "query", query="timestamp(node_load1)", time=time.time())["result"]
        if moments and scraped:
            return (max(moments) - round(float(scraped[0]["value"][1]) * 1000)) % 1000 < 60
        time.sleep(0.2)
    pytest.fail("Prometheus neither scraped nor evaluated")


def apart(serve: Any, tmp_path: Path, rules: Path) -> tuple[Any, servers.Server, servers.Server]:
    """A service, an exporter and a Prometheus whose scrapes and evaluations, at fixed phases, keep apart."""
    for attempt in range(5):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        service = serve(connectors={"telemetry": {}})
        exporter = servers.start_node_exporter()
        prometheus = servers.start_prometheus(
            folder, [exporter.address], f"{service.url}/api/v1/write", rules=rules, withhold=OWN
        )
        kept = False
        try:
            if kept := not evaluates_while_it_scrapes(prometheus.url):
                return service, exporter, prometheus
        finally:
            if not kept:
                prometheus.stop()
                exporter.stop()
    pytest.fail("five times in a row Prometheus evaluated while it scraped")


def test_rules_give_what_a_prometheus_gives(serve, tmp_path: Path):
    file = tmp_path / "rules.yml"
    file.write_text(RULES)
    service, exporter, prometheus = apart(serve, tmp_path, file)
    try:
        time.sleep(16)
        theirs = raw(prometheus.url, time.time())
        (group,) = ask(prometheus.url, "rules")["groups"]
        newest = max(t for points in theirs.values() for t in points)
        deadline = time.monotonic() + 30
        while not ask(service.url, "query", query="node_load1", time=newest / 1000 + 2)["result"] or (
            float(ask(service.url, "query", query="timestamp(node_load1)", time=time.time())["result"][0]["value"][1])
            < newest / 1000 + 1
        ):
            assert time.monotonic() < deadline
            time.sleep(0.2)
    finally:
        prometheus.stop()
        exporter.stop()
    kept = Kept(service.store)
    engine = RuleEngine(load_groups([str(file)]), PromqlEngine(service.store), kept, kept)
    instants = sorted(theirs[labels_of({METRIC_NAME: "moment"})])
    assert len(instants) >= 12
    for instant in instants:
        engine.run_once(instant)
    # Prometheus writes alert states from its third evaluation on, when it has looked for those of before its start.
    first = instants[1]
    ours = {k: {t: v for t, v in p.items() if t > first} for k, p in kept.points.items()}
    theirs = {k: {t: v for t, v in p.items() if t > first} for k, p in theirs.items()}
    ours, theirs = ({k: p for k, p in side.items() if p} for side in (ours, theirs))
    assert ours.keys() == theirs.keys()
    for labels, points in theirs.items():
        assert ours[labels].keys() == points.keys(), labels
        for instant, value in points.items():
            assert ours[labels][instant] == pytest.approx(value, rel=1e-9, abs=1e-12), (labels, instant)
    names = {dict(labels)[METRIC_NAME] for labels in theirs}
    assert {"mode:cpu:rate", "busy:ratio", "comes:and:goes", "scalar:here", "ALERTS", "ALERTS_FOR_STATE"} <= names
    states = {(dict(k)["alertname"], dict(k)["alertstate"]) for k in theirs if dict(k)[METRIC_NAME] == "ALERTS"}
    assert {("Steady", "pending"), ("Steady", "firing"), ("Flapping", "firing"), ("Instant", "firing")} <= states
    (status,) = engine.status()
    health = {r.rule.name: r.outcome.health.value for r in status.rules}
    assert health == {r["name"]: r["health"] for r in group["rules"]}
    assert health["clash"] == "err"
    (shown,) = groups_data(engine.status(), LOCAL)["groups"]
    assert shown.keys() >= group.keys()
    for ours_rule, their_rule in zip(shown["rules"], group["rules"], strict=True):
        assert ours_rule.keys() >= their_rule.keys()
        same = set(their_rule) - {"evaluationTime", "lastEvaluation", "state", "alerts", "lastError"}
        assert {k: ours_rule[k] for k in same} == {k: their_rule[k] for k in same}
    (steady,) = next(r for r in status.rules if r.rule.name == "Steady").alerts
    (told,) = next(r for r in group["rules"] if r["name"] == "Steady")["alerts"]
    assert dict(steady.labels) == told["labels"]
    assert dict(steady.annotations) == told["annotations"]
