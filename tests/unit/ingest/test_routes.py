from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from starlette.testclient import TestClient

from aiops.core.errors import TransientError
from aiops.core.principal import LOCAL
from aiops.core.signals import LogQuery
from aiops.settings import Settings, StoreSettings
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore
from tests.unit.ingest.app import app_over
from tests.unit.ingest.encode import metadata, series, snappy, varint

NOW = 1_790_000_000_000
UP = (("__name__", "up"), ("job", "a"))
ONE, TWO = 0x3FF0000000000000, 0x4000000000000000
HEADERS = {
    "content-encoding": "snappy",
    "content-type": "application/x-protobuf",
    "x-prometheus-remote-write-version": "0.1.0",
}
STALE = 0x7FF0000000000002
PROTO = {"content-type": "application/x-protobuf"}
JSON = {"content-type": "application/json"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TelemetryStore]:
    built = TelemetryStore(TelemetryDatabase(tmp_path / "t.duckdb", StoreSettings(), lambda: NOW))
    yield built
    built.close()


@pytest.fixture
def client(store: TelemetryStore) -> TestClient:
    return TestClient(app_over(store, Settings(), lambda: NOW), base_url="http://127.0.0.1")


def samples(store: TelemetryStore) -> list[tuple[int, int]]:
    block = store.scan((), 0, 1 << 60, LOCAL)
    return list(zip(block.ts.tolist(), block.values.view("u8").tolist(), strict=True))


def test_remote_write_is_stored_and_a_replay_adds_nothing(client: TestClient, store: TelemetryStore) -> None:
    body = snappy(series(UP, [(NOW - 1, ONE), (NOW, STALE)]) + metadata(2, "up", "Is it up?"))
    for _ in range(3):
        answer = client.post("/api/v1/write", content=body, headers=HEADERS)
        assert (answer.status_code, answer.content) == (204, b"")
    assert samples(store) == [(NOW - 1, ONE), (NOW, STALE)]
    assert [m.help for m in store.metadata(LOCAL)] == ["Is it up?"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (series(UP, [(NOW - 5, TWO)]), "duplicate sample for timestamp"),
        (series(UP, [(NOW + 10**9, ONE)]), "too far in the future"),
        (series(UP, [(NOW - 10**10, ONE)]), "older than the retention"),
        (series((("job", "a"),), [(NOW, ONE)]), "no metric name"),
        (series((("__name__", b"\xff"),), [(NOW, ONE)]), "UTF-8"),
    ],
)
def test_a_bad_sample_is_answered_400_after_the_rest_is_kept(
    client: TestClient, store: TelemetryStore, bad: bytes, message: str
) -> None:
    client.post("/api/v1/write", content=snappy(series(UP, [(NOW - 5, ONE)])), headers=HEADERS)
    answer = client.post("/api/v1/write", content=snappy(bad + series(UP, [(NOW, ONE)])), headers=HEADERS)
    assert answer.status_code == 400
    assert answer.json()["status"] == "error"
    assert answer.json()["errorType"] == "bad_data"
    assert message in answer.json()["error"]
    assert samples(store) == [(NOW - 5, ONE), (NOW, ONE)]


@pytest.mark.parametrize(
    ("body", "changed", "status"),
    [
        (snappy(series(UP, [(NOW, ONE)]))[:-4], {}, 400),
        (b"", {}, 400),
        (snappy(b"\x0a\xff\xff"), {}, 400),
        (varint(1 << 30) + b"\x00x", {}, 413),
        (b"x" * 100, {"content-length": str(1 << 30)}, 413),
        (snappy(b""), {"content-type": "text/html"}, 415),
        (snappy(b""), {"content-encoding": "gzip"}, 400),
        (snappy(b""), {"content-encoding": "br"}, 415),
        (snappy(b""), {"content-encoding": "identity"}, 415),
        (snappy(b""), {"content-type": "application/x-protobuf;proto=io.prometheus.write.v3.Request"}, 415),
        (snappy(series([("__name__", "m"), *((f"l{i:06}", "x") for i in range(100_000))], [(NOW, ONE)])), {}, 400),
    ],
)
def test_bad_requests_are_refused_in_prometheus_words(
    client: TestClient, store: TelemetryStore, body: bytes, changed: dict[str, str], status: int
) -> None:
    answer = client.post("/api/v1/write", content=body, headers={**HEADERS, **changed})
    assert answer.status_code == status
    assert set(answer.json()) == {"status", "errorType", "error"}
    assert len(answer.content) < 2000
    assert samples(store) == []


def gauge(value: int = 1, name: str = "queue.size", time_ms: int = NOW) -> ExportMetricsServiceRequest:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name=name)
    metric.gauge.data_points.add(time_unix_nano=time_ms * 10**6, as_int=value)
    return request


@pytest.mark.parametrize("path", ["/v1/metrics", "/api/v1/otlp/v1/metrics"])
def test_otlp_metrics(client: TestClient, store: TelemetryStore, path: str) -> None:
    body = gauge().SerializeToString()
    for content, headers in ((body, PROTO), (gzip.compress(body), {**PROTO, "content-encoding": "gzip"})):
        answer = client.post(path, content=content, headers=headers)
        assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, b"", PROTO["content-type"])
    assert samples(store) == [(NOW, ONE)]
    answer = client.post(path, content=gauge(2).SerializeToString(), headers=PROTO)
    partial = ExportMetricsServiceResponse.FromString(answer.content).partial_success
    assert answer.status_code == 200
    assert (partial.rejected_data_points, "duplicate sample" in partial.error_message) == (1, True)


def test_otlp_logs_in_json_are_kept_once_a_body(client: TestClient, store: TelemetryStore) -> None:
    record = {"timeUnixNano": str(NOW * 10**6), "body": {"stringValue": "hello"}}
    body = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [record, record]}]}]})
    for _ in range(2):
        answer = client.post("/v1/logs", content=body, headers=JSON)
        assert (answer.status_code, answer.json()) == (200, {})
    assert len(store.logs(LogQuery(NOW, NOW + 1), LOCAL)) == 2
    for key in ("k1", "k2", "k2"):
        client.post("/v1/logs", content=body, headers={**JSON, "idempotency-key": key})
    assert len(store.logs(LogQuery(NOW, NOW + 1), LOCAL)) == 6


def test_otlp_traces_are_kept_once_a_span(client: TestClient, store: TelemetryStore) -> None:
    span = {"traceId": "ab" * 16, "spanId": "cd" * 8, "name": "n", "startTimeUnixNano": str(NOW * 10**6)}
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span, {**span, "spanId": "00"}]}]}]})
    for _ in range(2):
        answer = client.post("/v1/traces", content=body, headers=JSON)
        assert answer.json()["partialSuccess"]["rejectedSpans"] == "1"
    assert [s.span_id for s in store.spans(NOW, NOW + 1, LOCAL)] == ["cd" * 8]


def test_otlp_errors(client: TestClient) -> None:
    answer = client.post("/v1/metrics", content=b"\xff", headers=PROTO)
    assert (answer.status_code, answer.headers["content-type"]) == (400, PROTO["content-type"])
    assert answer.content.startswith(b"\x08\x03\x12")
    answer = client.post("/v1/traces", content=b"{", headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (400, 3)
    answer = client.post("/v1/traces", content=b"", headers={"content-type": "text/plain"})
    assert (answer.status_code, answer.headers["content-type"]) == (415, "application/problem+json")
    bomb = gzip.compress(bytes(100_000_000))
    answer = client.post("/v1/metrics", content=bomb, headers={**PROTO, "content-encoding": "gzip"})
    assert answer.status_code == 413
    assert client.get("/v1/metrics").status_code == 405


def test_a_store_that_cannot_write_says_when_to_come_again(
    client: TestClient, store: TelemetryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise TransientError("The disk is full.", retry_after_s=30)

    monkeypatch.setattr(store.database, "check_space", full)
    answer = client.post("/api/v1/write", content=snappy(series(UP, [(NOW, ONE)])), headers=HEADERS)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    answer = client.post("/v1/metrics", content=gauge().SerializeToString(), headers=PROTO)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    assert samples(store) == []
