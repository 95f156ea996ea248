from __future__ import annotations

import pytest

from aiops.ingest.otlp_names import identity, label_name, labels_from, metric_name


@pytest.mark.parametrize(
    ("name", "unit", "kind", "wanted"),
    [
        ("system.memory.usage", "By", "gauge", "system_memory_usage_bytes"),
        ("http.server.request.duration", "s", "histogram", "http_server_request_duration_seconds"),
        ("http.server.request.duration.seconds", "s", "histogram", "http_server_request_duration_seconds"),
        ("foo.total.count", "", "counter", "foo_count_total"),
        ("requests", "{request}", "counter", "requests_total"),
        ("disk.io", "By/s", "gauge", "disk_io_bytes_per_second"),
        ("speed", "m/s", "gauge", "speed_meters_per_second"),
        ("hits", "{hit}/s", "gauge", "hits_per_second"),
        ("free", "1", "gauge", "free_ratio"),
        ("retries", "1", "counter", "retries_total"),
        ("cpu", "%", "gauge", "cpu_percent"),
        ("odd", "furlong", "gauge", "odd_furlong"),
        ("2xx.count", "", "gauge", "_2xx_count"),
        ("a--b..c", "", "gauge", "a_b_c"),
        ("ns:rule", "", "gauge", "ns:rule"),
    ],
)
def test_metric_names(name: str, unit: str, kind: str, wanted: str) -> None:
    assert metric_name(name, unit, kind) == wanted


def test_labels() -> None:
    assert label_name("_private") == "key_private"
    assert label_name("__name") == "__name"
    assert labels_from([("b.c", "2"), ("b_c", "3"), ("a", "")]) == {"b_c": "2;3"}


def test_identity() -> None:
    assert identity(()) == {}
    assert identity((("service.namespace", "n"),)) == {}
    assert identity((("service.name", "s"), ("service.instance.id", "i"))) == {"job": "s", "instance": "i"}
