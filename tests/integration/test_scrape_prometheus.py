"""A real Prometheus and our scraping source read the same targets with the same rules, and see the same series."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from aiops.core.plugins import build
from aiops.core.ports import PluginContext, TelemetrySource, system_clock
from aiops.core.principal import LOCAL
from aiops.ingest.collector import Collector
from aiops.promql.engine import PromqlEngine
from aiops.settings import PromqlSettings, StoreSettings
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore
from tests.integration import servers
from tests.loopback import Answer, Received, serving

PAGE = r"""# TYPE http_requests_total counter
# HELP http_requests_total Requests.
http_requests_total{code="200",job="own",path="/a\\b\"c\n"} 12
http_requests_total{code="500",exported_job="x",job="own",path="/"} 1e3
# TYPE took histogram
took_bucket{le="0.5"} 3
took_bucket{le="+Inf"} 4
took_sum 2.5
took_count 4
secret_metric 1
Mixed_Case{team="Ops"} NaN
queue{shard="one"} 5
queue{shard="two"} 6
queue{shard="three"} 7
"""
STEPS: list[dict[str, Any]] = [
    {"action": "drop", "source_labels": ["__name__"], "regex": "secret_.*"},
    {"action": "labelmap", "regex": "exported_(.*)", "replacement": "sent_$1"},
    {"action": "labeldrop", "regex": "exported_.*"},
    {"action": "hashmod", "source_labels": ["shard"], "modulus": 7, "target_label": "bucket"},
    {"action": "lowercase", "source_labels": ["team"], "target_label": "team"},
    {"source_labels": ["path"], "regex": "/(.).*", "target_label": "first", "replacement": "${1}x"},
]
TARGET_STEPS: list[dict[str, Any]] = [
    {"source_labels": ["__address__"], "regex": "(.*):\\d+", "target_label": "host"},
    {"source_labels": ["__meta_zone", "__scheme__"], "separator": "/", "target_label": "zone"},
]


@dataclass
class Page:
    text: str = PAGE
    status: int = 200
    kind: str = "text/plain; version=0.0.4"
    asked: list[Received] = field(default_factory=list)

    def __call__(self, request: Received) -> Answer:
        self.asked.append(request)
        return Answer(self.status, self.text.encode(), {"content-type": self.kind})


@dataclass
class Pair:
    page: Page
    ours: Callable[[str], dict[tuple[tuple[str, str], ...], float]]
    theirs: Callable[[str], dict[tuple[tuple[str, str], ...], float]]

    def agree_on(self, query: str, seen: Callable[[dict[Any, float]], bool]) -> dict[Any, float]:
        """The answer of both, once both have seen what is awaited."""
        deadline = time.monotonic() + 30
        while True:
            ours, theirs = self.ours(query), self.theirs(query)
            if seen(ours) and seen(theirs):
                assert ours.keys() == theirs.keys()
                return ours
            assert time.monotonic() < deadline, (ours, theirs)
            time.sleep(0.1)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    page = Page()
    exporter = servers.start_node_exporter()
    with serving(page) as url:
        static = [{"targets": [exporter.address, url.removeprefix("http://")], "labels": {"__meta_zone": "a"}}]
        job = {"static_configs": static, "relabel_configs": TARGET_STEPS, "metric_relabel_configs": STEPS}
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [{"job_name": "apps", **job}],
        }
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
        port = servers.free_port()
        prometheus = servers.start(
            "prometheus",
            [f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data",
             f"--web.listen-address=127.0.0.1:{port}"],
            port, "/-/ready", tmp_path / "prometheus.log",
        )  # fmt: skip
        store = TelemetryStore(TelemetryDatabase(tmp_path / "t.duckdb", StoreSettings()))
        engine = PromqlEngine(store, PromqlSettings())
        source = build(
            "connectors.telemetry", "scrape", {"interval_s": 1, "timeout_s": 1, **job}, PluginContext("apps")
        )
        assert isinstance(source, TelemetrySource)
        collector = Collector(store, {"apps": source})
        collector.start()

        def ours(query: str) -> dict[tuple[tuple[str, str], ...], float]:
            block = engine.instant(query, system_clock(), LOCAL).block
            return dict(zip(block.labels, block.values.tolist(), strict=True))

        def theirs(query: str) -> dict[tuple[tuple[str, str], ...], float]:
            reply = httpx.get(f"{prometheus.url}/api/v1/query", params={"query": query}, trust_env=False).json()
            return {tuple(sorted(r["metric"].items())): float(r["value"][1]) for r in reply["data"]["result"]}

        yield Pair(page, ours, theirs)
        collector.stop()
        source.close()
        store.close()
        prometheus.stop()
    exporter.stop()


def test_series_and_staleness_agree(pair: Pair) -> None:
    both = {"node_load1", "took_bucket"}  # one metric of each target
    everything = pair.agree_on('{__name__=~".+"}', lambda found: both <= {dict(labels)["__name__"] for labels in found})
    names = {dict(labels)["__name__"] for labels in everything}
    assert {"node_load1", "took_bucket", "up", "scrape_series_added"} <= names
    assert "secret_metric" not in names
    ours, theirs = pair.ours("{host!=''}"), pair.theirs("{host!=''}")
    moving = ("node_", "go_", "process_", "promhttp_", "scrape_")
    fixed = [labels for labels in ours if not dict(labels)["__name__"].startswith(moving)]
    assert len(fixed) > 10
    for labels in fixed:
        assert str(ours[labels]) == str(theirs[labels]), labels
    counted = ("scrape_samples_scraped", "scrape_samples_post_metric_relabeling")
    for name in counted:
        assert pair.ours(name) == pair.theirs(name)

    pair.page.text = PAGE.replace('queue{shard="two"} 6\n', "")
    pair.agree_on("queue", lambda found: len(found) == 2)
    pair.page.status = 503
    pair.agree_on("up == 0", lambda found: len(found) == 1)
    pair.agree_on('{__name__=~"queue|took.*|http_requests_total"}', lambda found: not found)
    pair.page.status, pair.page.kind = 200, "application/openmetrics-text; version=1.0.0"
    pair.page.text = (
        '# TYPE hits counter\nhits_total{a="b # {"} 3 # {trace_id="t"} 1\nhits_created{a="b # {"} 5\n# EOF\n'
    )
    pair.agree_on('{__name__=~"hits.*"}', lambda found: len(found) == 2)
    pair.page.text = "hits 1\n"
    pair.agree_on("up == 0", lambda found: len(found) == 1)
