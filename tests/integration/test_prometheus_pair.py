"""A real Prometheus scrapes a real node_exporter and Alertmanager; its data comes to us by remote write and by pulling.

The same queries, at the same instants, off the samples' edges, give the same answers from both.
"""

from __future__ import annotations

import math
import time

import httpx
import pytest

from tests.integration import servers

QUERIES = (
    "node_memory_MemTotal_bytes",
    'sum by (mode) (rate(node_cpu_seconds_total{job="node"}[10s]))',
    '100 * (1 - avg(rate(node_cpu_seconds_total{mode="idle"}[10s])))',
    "count by (fstype) (node_filesystem_size_bytes)",
    "topk(3, node_filesystem_avail_bytes / node_filesystem_size_bytes)",
    "max_over_time(node_load1[12s])",
    "sum without (device) (increase(node_network_receive_bytes_total[10s]))",
    "node_filesystem_avail_bytes / on (instance, device, mountpoint) node_filesystem_size_bytes < bool 0.5",
    "quantile(0.9, node_network_transmit_packets_total)",
    "histogram_quantile(0.9, sum by (le) (rate(alertmanager_http_request_duration_seconds_bucket[10s])))",
)
SCRAPES = 15


def rows(url: str, query: str, **at: float) -> dict[tuple[tuple[str, str], ...], list[tuple[float, float]]]:
    path = "query_range" if "step" in at else "query"
    reply = httpx.get(f"{url}/api/v1/{path}", params={"query": query, **at}, timeout=20, trust_env=False).json()
    assert reply["status"] == "success", reply
    return {
        tuple(sorted(r["metric"].items())): [(float(t), float(v)) for t, v in r.get("values") or [r["value"]]]
        for r in reply["data"]["result"]
    }


def same(ours: float, theirs: float) -> bool:
    return (math.isnan(ours) and math.isnan(theirs)) or math.isclose(ours, theirs, rel_tol=1e-9, abs_tol=1e-9)


def assert_equal_answers(ours_url: str, theirs_url: str) -> None:
    newest = rows(theirs_url, "timestamp(node_load1)", time=time.time())
    scraped = next(iter(newest.values()))[0][1]
    instant = scraped - 1.5  # between two scrapes, and behind what is still on its way
    start, end = instant - 5, instant
    for query in QUERIES:
        for at in ({"time": instant}, {"start": start, "end": end, "step": 1.0}):
            theirs, ours = rows(theirs_url, query, **at), rows(ours_url, query, **at)
            assert theirs, query
            assert ours.keys() == theirs.keys(), query
            for key, points in theirs.items():
                assert [t for t, _ in ours[key]] == [t for t, _ in points], query
                assert all(same(a, b) for (_, a), (_, b) in zip(ours[key], points, strict=True)), (query, key)


@pytest.fixture
def targets(tmp_path):
    """A node_exporter, and an Alertmanager for its histograms."""
    started = [servers.start_node_exporter(), servers.start_alertmanager(tmp_path)]
    yield [server.address for server in started]
    for server in started:
        server.stop()


def await_scrapes(url: str, count: int) -> None:
    """Until ``url`` holds ``count`` samples of a node_exporter series."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = rows(url, "count_over_time(node_load1[1h])", time=time.time() + 1)
        if any(points[0][1] >= count for points in found.values()):
            return
        time.sleep(0.3)
    pytest.fail(f"{url} has no {count} samples")


def test_remote_write_gives_the_same_answers(serve, targets, tmp_path):
    service = serve(connectors={"telemetry": {}})
    prometheus = servers.start_prometheus(tmp_path, targets, f"{service.url}/api/v1/write")
    try:
        await_scrapes(service.url, SCRAPES)
        assert_equal_answers(service.url, prometheus.url)
    finally:
        prometheus.stop()


def test_pulling_gives_the_same_answers(serve, targets, tmp_path):
    prometheus = servers.start_prometheus(tmp_path, targets)
    try:
        await_scrapes(prometheus.url, SCRAPES)
        source = {"plugin": "prometheus", "url": prometheus.url, "match": ['{job="node"}'], "interval_s": 1}
        service = serve(connectors={"telemetry": {"prod": source}})
        await_scrapes(service.url, SCRAPES)
        assert_equal_answers(service.url, prometheus.url)
    finally:
        prometheus.stop()
