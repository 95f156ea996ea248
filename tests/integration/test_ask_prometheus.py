"""Questions answered from a real Prometheus that scrapes a real node_exporter, by pass-through."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, cast

import pytest

from aiops.agent.assistant import Assistant
from aiops.agent.catalogue import Catalogues
from aiops.agent.executor import Executor
from aiops.core.evidence import EvidenceState
from aiops.core.plugins import build
from aiops.core.ports import MetricQuerier, PluginContext
from aiops.core.principal import LOCAL
from aiops.core.query import Question
from tests.integration import servers

pytestmark = pytest.mark.server("prometheus")

ANSWERED = (EvidenceState.OK, EvidenceState.NO_MATCH)
QUESTIONS = (
    "which hosts are low on disk?", "how much memory is left?", "is any host out of inodes?", "cpu usage of the hosts",
    "what is the load average?", "context switches per second", "network bytes received", "which targets are down?",
    "disk read throughput", "how long has the host been up?", "will the disks fill up in the next 4 hours?",
    "established tcp connections", "is the clock synchronised?", "memory usage over 99%", "swap in use",
    "are packets being dropped?", "cpu steal", "how many cpu cores are there?", "file handles of the host",
    "disk usage over 1%",
)  # fmt: skip


@pytest.fixture(scope="module")
def assistant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Assistant]:
    exporter = servers.start_node_exporter()
    prometheus = servers.start_prometheus(tmp_path_factory.mktemp("prometheus"), [exporter.address])
    querier: Any = build("connectors.telemetry", "prometheus", {"url": prometheus.url}, PluginContext("prom"))
    executor = Executor(cast(MetricQuerier, querier))
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            now = time.time_ns() // 1_000_000
            block = querier.instant("rate(node_cpu_seconds_total[5m])", now, LOCAL).block
            if len(block):
                break
            time.sleep(0.2)
        yield Assistant(Catalogues(querier), executor)
    finally:
        executor.close()
        querier.close()
        prometheus.stop()
        exporter.stop()


@pytest.mark.parametrize("text", QUESTIONS)
def test_each_question_runs_and_is_answered_or_diagnosed(assistant: Assistant, text: str) -> None:
    answer = assistant.ask(Question(text, LOCAL, time.time_ns() // 1_000_000))
    assert answer.evidence, answer.text
    for e in answer.evidence:
        assert e.state in ANSWERED, (e.state, e.note, e.query)
        assert e.figures or e.note, e.query
    assert "None" not in answer.text.split("\n")[0] or "series looked at" in answer.text or "runs out" in answer.text


def test_used_disk_is_a_share_between_zero_and_one(assistant: Assistant) -> None:
    answer = assistant.ask(Question("disk usage over 1%", LOCAL, time.time_ns() // 1_000_000))
    values = [f.value for f in answer.evidence[0].figures if not f.name]
    assert values
    assert all(0 <= v <= 1 for v in values)
    assert answer.evidence[0].newest_ms is not None
