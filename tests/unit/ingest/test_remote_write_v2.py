"""Remote write 2.0: encoded by hand from the specification, sent to the route, read back from the store."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import cramjam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from aiops.core.principal import LOCAL
from aiops.core.series import STALE_BITS, Exemplar, Labels, MetricMetadata, NativeHistogram, labels_of
from aiops.ingest.write_body import WriteReceiver
from aiops.settings import Settings, StoreSettings
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.labels import SeriesIndex
from aiops.store.telemetry.store import TelemetryStore
from tests.unit.ingest.app import app_over
from tests.unit.ingest.encode import chunk, sample, snappy, varint

NOW = 1_790_000_000_000
V2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
HEADERS = {"content-encoding": "snappy", "content-type": V2, "x-prometheus-remote-write-version": "2.0.0"}
UP = (("__name__", "up"), ("job", "a"))
ONE, TWO = 0x3FF0000000000000, 0x4000000000000000
HISTOGRAM = b"\x08\x03\x19" + struct.pack("<d", 1.5) + b"\x20\x02\x78" + varint(NOW)


class Request:
    """A request in the making; symbols are numbered as they come."""

    def __init__(self) -> None:
        self.symbols = [""]
        self.series = b""

    def ref(self, text: str) -> int:
        if text not in self.symbols:
            self.symbols.append(text)
        return self.symbols.index(text)

    def refs(self, labels: Labels) -> bytes:
        return b"".join(varint(self.ref(text)) for pair in labels for text in pair)

    def add(self, labels: Labels, samples: list[tuple[int, int]] | None = None, extra: bytes = b"") -> Request:
        body = chunk(1, self.refs(labels)) + b"".join(sample(*one) for one in samples or [])
        self.series += chunk(5, body + extra)
        return self

    def exemplar(self, labels: Labels, value: float, ts: int) -> bytes:
        return chunk(4, chunk(1, self.refs(labels)) + b"\x11" + struct.pack("<d", value) + b"\x18" + varint(ts))

    def metadata(self, kind: int, help_text: str, unit: str) -> bytes:
        body = b"\x08" + varint(kind) + b"\x18" + varint(self.ref(help_text)) + b"\x20" + varint(self.ref(unit))
        return chunk(5, body)

    def encoded(self) -> bytes:
        return b"".join(chunk(4, text.encode()) for text in self.symbols) + self.series


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TelemetryStore]:
    built = TelemetryStore(TelemetryDatabase(tmp_path / "t.duckdb", StoreSettings(), lambda: NOW))
    yield built
    built.close()


@pytest.fixture
def client(store: TelemetryStore) -> TestClient:
    return TestClient(app_over(store, Settings(), lambda: NOW), base_url="http://127.0.0.1")


def written(answer: object) -> tuple[str, ...]:
    headers = answer.headers  # type: ignore[attr-defined]
    return tuple(
        headers[f"X-Prometheus-Remote-Write-{what}-Written"] for what in ("Samples", "Histograms", "Exemplars")
    )


def test_everything_of_a_request_is_stored_and_counted(client: TestClient, store: TelemetryStore) -> None:
    request = Request()
    bucket = (("__name__", "h_bucket"), ("le", "1"))
    request.add(UP, [(NOW - 1, ONE), (NOW, STALE_BITS)], request.metadata(2, "Is it up?", ""))
    request.add(bucket, [(NOW, TWO)], request.metadata(3, "How long.", "seconds"))
    request.add(
        (("__name__", "native"),), None, chunk(3, HISTOGRAM) + request.exemplar((("trace_id", "t1"),), 0.5, NOW)
    )
    answer = client.post("/api/v1/write", content=snappy(request.encoded()), headers=HEADERS)
    assert (answer.status_code, answer.content) == (204, b"")
    assert written(answer) == ("3", "1", "1")
    block = store.scan((), 0, NOW, LOCAL)
    assert block.labels == (UP, bucket)
    assert block.values.view("u8").tolist() == [ONE, STALE_BITS, TWO]
    assert store.metadata(LOCAL) == [
        MetricMetadata("h", "histogram", "seconds", "How long."), MetricMetadata("up", "gauge", "", "Is it up?"),
    ]  # fmt: skip
    native = (("__name__", "native"),)
    assert store.histograms((), 0, NOW, LOCAL) == [NativeHistogram(native, NOW, HISTOGRAM)]
    assert store.exemplars((), 0, NOW, LOCAL) == [Exemplar(native, (("trace_id", "t1"),), 0.5, NOW)]


def started(ts: int, value: int, start: int) -> bytes:
    """A sample that says when its counter began, as in the final specification."""
    inner = b"\x09" + value.to_bytes(8, "little") + b"\x10" + varint(ts) + b"\x18" + varint(start)
    return chunk(2, inner)


def push(client: TestClient, request: Request) -> tuple[str, ...]:
    answer = client.post("/api/v1/write", content=snappy(request.encoded()), headers=HEADERS)
    assert answer.status_code == 204, answer.text
    return written(answer)


def held(store: TelemetryStore) -> list[tuple[int, float]]:
    block = store.scan((), 0, NOW, LOCAL)
    assert len(block) <= 1
    return list(zip((block.ts - NOW).tolist(), block.values.tolist(), strict=True))


def test_the_beginning_of_a_counter_becomes_a_zero(store: TelemetryStore) -> None:
    chosen = Settings(store=StoreSettings(created_zero_samples=True))
    client = TestClient(app_over(store, chosen, lambda: NOW), base_url="http://127.0.0.1")
    created = b"\x30" + varint(NOW - 50_000)
    assert push(client, Request().add(UP, [(NOW - 30_000, TWO)], created))[0] == "1", "what was sent is counted"
    for _ in range(2):
        assert push(client, Request().add(UP, [(NOW - 20_000, TWO)], created))[0] == "1"
    assert held(store) == [(-50_000, 0.0), (-30_000, 2.0), (-20_000, 2.0)]
    began = started(NOW - 10_000, ONE, NOW - 20_000) + started(NOW, ONE, NOW - 4000)
    assert push(client, Request().add(UP, None, began))[0] == "2", "not at a time that is taken"
    assert held(store)[3:] == [(-10_000, 1.0), (-4000, 0.0), (0, 1.0)]


@pytest.mark.parametrize("start", [NOW, NOW + 1, NOW - 3_600_001, 0, -5 & (1 << 64) - 1])
def test_a_beginning_that_cannot_be_is_read_over(store: TelemetryStore, start: int) -> None:
    chosen = Settings(store=StoreSettings(created_zero_samples=True))
    client = TestClient(app_over(store, chosen, lambda: NOW), base_url="http://127.0.0.1")
    push(client, Request().add(UP, [(NOW, ONE)], b"\x30" + varint(start)))
    assert held(store) == [(0, 1.0)]


def test_beginnings_are_read_over_unless_they_are_wanted(client: TestClient, store: TelemetryStore) -> None:
    push(client, Request().add(UP, [(NOW, ONE)], b"\x30" + varint(NOW - 5000)))
    assert held(store) == [(0, 1.0)]


def test_a_partial_write_is_400_with_what_was_kept(client: TestClient, store: TelemetryStore) -> None:
    request = Request()
    request.add(UP, [(NOW, ONE)]).add((("job", "a"),), [(NOW, ONE)])
    answer = client.post("/api/v1/write", content=snappy(request.encoded()), headers=HEADERS)
    assert answer.status_code == 400
    assert "no metric name" in answer.json()["error"]
    assert written(answer) == ("1", "0", "0")
    conflict = Request().add(UP, [(NOW, TWO)])
    answer = client.post("/api/v1/write", content=snappy(conflict.encoded()), headers=HEADERS)
    assert (answer.status_code, written(answer)) == (400, ("0", "0", "0"))


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        (b"\xff", "not a remote-write 2.0 request"),
        (chunk(4, b"x") + chunk(5, b""), "first symbol"),
        (chunk(4, b"") + chunk(5, chunk(1, b"\x01\x02")), "symbol that is not there"),
        (chunk(4, b"") + chunk(4, b"a") + chunk(5, chunk(1, b"\x01")), "without a value"),
        (chunk(4, b"") + chunk(5, b"\x0a\xff"), "not valid protobuf"),
    ],
)
def test_damaged_requests_are_refused(client: TestClient, store: TelemetryStore, plain: bytes, message: str) -> None:
    answer = client.post("/api/v1/write", content=snappy(plain), headers=HEADERS)
    assert answer.status_code == 400
    assert message in answer.json()["error"]
    assert written(answer) == ("0", "0", "0")
    assert store.status().samples == 0


def test_version_one_gets_no_counts_and_other_messages_415(client: TestClient) -> None:
    first = client.post("/api/v1/write", content=snappy(b""), headers={**HEADERS, "content-type": V2.split(";")[0]})
    assert first.status_code == 204
    assert not [name for name in first.headers if name.startswith("x-prometheus")]
    other = client.post("/api/v1/write", content=snappy(b""), headers={**HEADERS, "content-type": V2 + "x"})
    assert other.status_code == 415


texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)
label_sets = st.dictionaries(texts, texts, max_size=3).map(lambda d: labels_of({**d, "__name__": "m"}))
rows = st.lists(st.tuples(st.integers(-(1 << 63), (1 << 63) - 1), st.integers(0, (1 << 64) - 1)), max_size=3)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(label_sets, rows), max_size=5))
def test_what_was_encoded_is_decoded_bit_for_bit(series: list[tuple[Labels, list[tuple[int, int]]]]) -> None:
    request = Request()
    for labels, samples in series:
        request.add(labels, samples)
    index = SeriesIndex()
    body = WriteReceiver().open(bytes(cramjam.zstd.compress(request.encoded())), V2, "zstd")
    got = body.rows(index)
    found = zip(got.sid.tolist(), got.ts.tolist(), got.values.view("u8").tolist(), strict=True)
    assert body.rejections.count == 0
    assert sorted((index.labels[sid], ts, word) for sid, ts, word in found) == sorted(
        (labels, ts, word) for labels, samples in series for ts, word in samples
    )
