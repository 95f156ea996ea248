"""Decoding speed of the receivers, each beside a named peer in the same process, in rows per CPU-second of one core.

Peers: the generated OTLP classes walked point by point, and the text reader of Prometheus' Python client. A body is the
second of its kind with other times and values: label sets are known, as they are after an exporter's first export.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from prometheus_client.parser import text_string_to_metric_families

from aiops.ingest.otlp_metrics import MetricDecoder
from connectors.scraping.exposition import parse
from connectors.scraping.scraper import ScrapeRules, TargetScrapes

NS = 1_790_000_000 * 10**9
BOUNDS = [0.005 * 2**i for i in range(14)]


@dataclass(frozen=True)
class Row:
    """Rows per CPU-second: ours with label sets not yet known, known, and the peer's."""

    what: str
    cold: float
    warm: float
    peer: float
    peer_name: str

    @property
    def ratio(self) -> float:
        return self.warm / self.peer


def run(points: int) -> list[Row]:
    """Measure with bodies of so many data points or lines."""
    protobuf = f"opentelemetry-proto {version('opentelemetry-proto')}, walked"
    text = f"prometheus_client {version('prometheus_client')}"
    return [
        _otlp("OTLP numbers, points", protobuf, lambda i: otlp_body(points, i, families=10)),
        _otlp("OTLP numbers, 3 points a metric", protobuf, lambda i: otlp_body(points, i, families=points // 3)),
        _otlp("OTLP histograms, samples", protobuf, lambda i: otlp_body(points // 5, i, families=10, histogram=True)),
        _scrape("text 0.0.4, lines", text, points),
    ]


def otlp_body(points: int, round_: int, families: int, *, histogram: bool = False) -> bytes:
    """Points of five attributes in so many metrics of one resource; ``round_`` moves times and values."""
    request = ExportMetricsServiceRequest()
    group = request.resource_metrics.add()
    group.resource.attributes.extend(_attributes({"service.name": "shop", "host.name": "h"}))
    metrics = group.scope_metrics.add().metrics
    at = NS + round_ * 15 * 10**9
    for f in range(families):
        metric = metrics.add(name=f"http.server.metric{f}", unit="s")
        data = metric.histogram if histogram else metric.sum
        data.aggregation_temporality = 2
        for i in range(max(1, points // families)):
            own = {"http.route": f"/r{i}", "http.request.method": "GET", "http.response.status_code": "200",
                   "server.address": "example.com", "url.scheme": "https"}  # fmt: skip
            point = data.data_points.add(start_time_unix_nano=NS, time_unix_nano=at, attributes=_attributes(own))
            if histogram:
                point.count, point.sum, point.min, point.max = 15, round_ + i * 0.5, 0.1, 9.0
                point.explicit_bounds.extend(BOUNDS)
                point.bucket_counts.extend([1] * (len(BOUNDS) + 1))
            else:
                point.as_double = round_ + i * 1.5
    return bytes(request.SerializeToString())


def _attributes(pairs: dict[str, str]) -> list[KeyValue]:
    return [KeyValue(key=k, value=AnyValue(string_value=v)) for k, v in pairs.items()]


def walk(body: bytes) -> int:
    """The peer: every point as an object, its labels as sorted pairs, its samples as Python floats."""
    rows: list[tuple[Any, int, float]] = []
    for group in ExportMetricsServiceRequest.FromString(body).resource_metrics:
        base = [(a.key, a.value.string_value) for a in group.resource.attributes]
        for scope in group.scope_metrics:
            for metric in scope.metrics:
                name = ("__name__", metric.name)
                for point in metric.sum.data_points:
                    pairs = sorted([*base, name, *((a.key, a.value.string_value) for a in point.attributes)])
                    rows.append((tuple(pairs), point.time_unix_nano // 10**6, point.as_double))
                for point in metric.histogram.data_points:
                    pairs = [*base, name, *((a.key, a.value.string_value) for a in point.attributes)]
                    running, ts = 0, point.time_unix_nano // 10**6
                    for bound, count in zip([*point.explicit_bounds, "+Inf"], point.bucket_counts, strict=True):
                        running += count
                        rows.append((tuple(sorted([*pairs, ("le", str(bound))])), ts, float(running)))
                    rows += [(tuple(sorted(pairs)), ts, float(point.count)), (tuple(sorted(pairs)), ts, point.sum)]
    return len(rows)


def _otlp(what: str, peer_name: str, body: Callable[[int], bytes]) -> Row:
    decoder = MetricDecoder()
    new, first = body(0), body(1)
    count, cold = _timed(lambda: _decoded(decoder, new))
    counts, warm = zip(*(_timed(lambda b=b: _decoded(decoder, b)) for b in (first, body(2), body(3))), strict=True)
    assert set(counts) == {count}
    peer_count, peer = _timed(lambda: walk(first))
    assert peer_count + 1 == count  # ours has target_info as well
    return Row(what, count / cold, count / min(warm), peer_count / peer, peer_name)


def _decoded(decoder: MetricDecoder, body: bytes) -> int:
    return decoder.decode(body).collected.samples.sample_count


def _scrape(what: str, peer_name: str, lines: int) -> Row:
    def page(round_: int) -> str:
        return "".join(
            f'm_total{{code="200",path="/p{i}",method="GET",zone="eu-1"}} {i}.{round_}\n' for i in range(lines)
        )

    scrapes = TargetScrapes((("instance", "a:1"), ("job", "j")), ScrapeRules())

    def read(text: str) -> int:
        scrapes.good(parse(text, openmetrics=False), 1, 0.1)
        return lines

    pages = [page(i) for i in range(4)]
    _, cold = _timed(lambda: read(pages[0]))
    warm = min(_timed(lambda p=p: read(p))[1] for p in pages[1:])
    count, peer = _timed(lambda: sum(len(f.samples) for f in text_string_to_metric_families(pages[1])))
    assert count == lines
    return Row(what, lines / cold, lines / warm, count / peer, peer_name)


def _timed(work: Callable[[], int]) -> tuple[int, float]:
    began = time.process_time()
    return work(), max(time.process_time() - began, 1e-9)


def main() -> None:
    print(f"{'':34}{'new labels/s':>14}{'known/s':>14}{'peer/s':>12}{'ratio':>8}  peer")
    for row in run(30_000):
        print(f"{row.what:34}{row.cold:14,.0f}{row.warm:14,.0f}{row.peer:12,.0f}{row.ratio:8.1f}  {row.peer_name}")


if __name__ == "__main__":
    main()
