"""What serves another Prometheus: federation, remote read, targets."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import cramjam
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from aiops.api import remote_read
from aiops.api.app import create_app
from aiops.api.routes.federation import exposition
from aiops.api.xor_chunks import encode
from aiops.core.ports import Collected, ScrapeTarget
from aiops.core.series import STALE_NAN, NativeHistogram, SampleBlock, labels_of
from connectors.scraping.exposition import labels_of_series, parse
from tests.unit.api.conftest import NOW, House
from tests.unit.api.streamed import frames, samples
from tests.unit.ingest.encode import chunk, snappy, text, varint

A = labels_of({"__name__": "a_total", "team": "shop", "le.x": "1"})
B = labels_of({"__name__": "odd", "team": "ops"})
GONE = labels_of({"__name__": "gone", "team": "shop"})


@pytest.fixture
def filled(house: House) -> House:
    rows = [
        (A, [NOW - 60_000, NOW - 30_000, NOW], [1.0, 2.0, 3.0]),
        (B, [NOW - 400_000, NOW - 20_000], [0.0, -math.inf]),
        (GONE, [NOW - 60_000, NOW - 30_000], [1.0, STALE_NAN]),
        (labels_of({"__name__": "old", "team": "shop"}), [NOW - 300_000], [1.0]),
        (labels_of({"__name__": "my.metric", "team": "shop"}), [NOW], [5.0]),
    ]
    house.services.store.append(Collected(samples=SampleBlock.build(rows)))
    return house


# ------------------------------------------------------------------ federation


def federate(house: House, *match: str, who: str = "viewer", **headers: str) -> list[str]:
    answer = house.client.get("/federate", params={"match[]": match}, headers={**house.headers(who), **headers})
    assert answer.status_code == 200, answer.text
    return answer.text.splitlines()


def test_the_newest_samples_keep_their_times(filled: House) -> None:
    assert federate(filled, "a_total", "odd", '{team="ops"}') == [
        "# TYPE a_total untyped",
        f'a_total{{instance="",le_x="1",team="shop"}} 3 {NOW}',
        "# TYPE odd untyped",
        f'odd{{instance="",team="ops"}} -Inf {NOW - 20_000}',
    ]


def test_what_is_stale_or_older_than_the_lookback_is_left_out(filled: House) -> None:
    assert federate(filled, "gone", "old") == []
    assert federate(filled) == []


def test_names_beyond_the_classic_format_are_quoted_for_those_who_can_read_them(filled: House) -> None:
    assert federate(filled, '{"my.metric"}')[1] == f'my_metric{{instance="",team="shop"}} 5 {NOW}'
    accept = "text/plain;version=1.0.0;escaping=allow-utf-8"
    assert federate(filled, '{"my.metric"}', accept=accept) == [
        '# TYPE "my.metric" untyped',
        f'{{"my.metric",instance="",team="shop"}} 5 {NOW}',
    ]


def test_a_scope_holds(filled: House) -> None:
    assert federate(filled, "odd", who="scoped") == []
    answer = filled.client.get("/federate", params={"match[]": "{"}, headers=filled.headers("viewer"))
    assert answer.status_code == 400


names = st.text(min_size=1, max_size=5)
values = st.floats(allow_nan=False)


@given(st.dictionaries(names, st.dictionaries(names, names, max_size=3), max_size=4), values)
def test_what_is_written_is_read_back(series: dict[str, dict[str, str]], value: float) -> None:
    rows = [(labels_of({**pairs, "__name__": name}), value, NOW) for name, pairs in series.items()]
    got = parse(exposition(rows, {"zone": "z"}, utf8=True), openmetrics=False)
    wanted = {labels_of({"zone": "z", **dict(labels)}) for labels, _, _ in rows}
    assert {labels_of(labels_of_series(s)) for s in got.series} == wanted
    assert set(got.values) <= {value}


# ------------------------------------------------------------------ remote read

Message = Any


def query(start: int, end: int, *matchers: tuple[int, str, str]) -> bytes:
    inner = b"".join(
        chunk(3, b"\x08" + varint(kind) + chunk(2, text(name)) + chunk(3, text(value)))
        for kind, name, value in matchers
    )
    return chunk(1, b"\x08" + varint(start) + b"\x10" + varint(end) + inner)


def read(house: House, body: bytes, who: str = "viewer") -> Any:
    return house.client.post(
        "/api/v1/read", content=snappy(body),
        headers={**house.headers(who), "content-type": "application/x-protobuf", "content-encoding": "snappy"},
    )  # fmt: skip


def results(answer: Any) -> list[list[tuple[dict[str, str], list[tuple[int, float]]]]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-encoding"] == "snappy"
    whole = remote_read.Response.FromString(bytes(cramjam.snappy.decompress_raw(answer.content)))
    found = []
    for result in whole.results:
        series = [remote_read.Series.FromString(raw) for raw in result.timeseries]
        found.append(
            [({p.name: p.value for p in s.labels}, [(x.timestamp, x.value) for x in s.samples]) for s in series]
        )
    return found


def test_each_query_gets_its_series_whole(filled: House) -> None:
    body = query(NOW - 30_000, NOW, (0, "__name__", "a_total")) + query(0, NOW, (2, "team", "o.*"), (3, "x", "y"))
    first, second = results(read(filled, body))
    assert first == [(dict(A), [(NOW - 30_000, 2.0), (NOW, 3.0)])]
    assert second == [(dict(B), [(NOW - 400_000, 0.0), (NOW - 20_000, -math.inf)])]
    ((_, samples),) = results(read(filled, query(0, NOW, (0, "__name__", "gone"))))[0]
    assert np.array([samples[1][1]]).view("u8")[0] == 0x7FF0000000000002
    assert results(read(filled, query(0, NOW, (0, "team", "ops")), "scoped")) == [[]]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"\xff", 400),
        (query(0, NOW, (9, "a", "b")), 400),
        (query(0, NOW, (2, "a", "(")), 400),
        (query(0, NOW, (0, "a", "b")) + b"\x12\x01\x07", 400),
    ],
)
def test_what_cannot_be_read_is_refused(filled: House, body: bytes, status: int) -> None:
    answer = read(filled, body)
    assert (answer.status_code, answer.json()["status"]) == (status, "error")


@given(st.lists(st.tuples(st.integers(0, 1 << 45), st.floats()), min_size=1, max_size=20))
def test_samples_are_written_as_protobuf_writes_them(samples: list[tuple[int, float]]) -> None:
    ts = np.array(sorted(t for t, _ in samples), np.int64)
    numbers = np.array([v for _, v in samples])
    block = SampleBlock((A,), np.array([0, len(ts)]), ts, numbers)
    plain = bytes(cramjam.snappy.decompress_raw(remote_read.encode([(block, ())])))
    (raw,) = remote_read.Response.FromString(plain).results[0].timeseries
    series = remote_read.Series.FromString(raw)
    assert [s.timestamp for s in series.samples] == ts.tolist()
    assert np.array([s.value for s in series.samples]).tobytes() == numbers.tobytes()


STREAMED, EITHER = b"\x12\x01\x01", b"\x12\x02\x01\x00"
"""Only chunks are accepted, or chunks rather than samples."""


def streamed(answer: Any) -> list[list[tuple[dict[str, str], list[tuple[int, float]]]]]:
    """By query as :func:`results`."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse"
    assert "content-encoding" not in answer.headers
    found: list[list[tuple[dict[str, str], list[tuple[int, float]]]]] = [[], []]
    for frame in frames(answer.content):
        (one,) = frame.series
        rows = [pair for chunk_ in one.chunks for pair in samples(chunk_.data)]
        assert [(c.low, c.high) for c in one.chunks] == [
            (own[0][0], own[-1][0]) for own in (samples(c.data) for c in one.chunks)
        ]
        values = np.array([bits for _, bits in rows], np.uint64).view(np.float64).tolist()
        times = [ts for ts, _ in rows]
        found[frame.query].append(({p.name: p.value for p in one.labels}, list(zip(times, values, strict=True))))
    return found


@pytest.mark.parametrize("accepted", [STREAMED, EITHER])
def test_chunks_hold_the_same_as_samples(filled: House, accepted: bytes) -> None:
    body = query(NOW - 30_000, NOW, (0, "__name__", "a_total")) + query(0, NOW, (2, "team", "o.*|shop"))
    plain, chunks = results(read(filled, body)), streamed(read(filled, body + accepted))
    assert len(chunks[1]) == 5
    assert repr(chunks) == repr(plain)
    assert streamed(read(filled, query(0, NOW, (0, "team", "ops")) + accepted, "scoped")) == [[], []]


def test_a_long_series_comes_in_frames_of_a_megabyte(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_read, "FRAME_BYTES", 1000)
    rng = np.random.default_rng(1)
    ts = (NOW - 9_000_000 + np.cumsum(rng.integers(1, 9000, 1000))).tolist()
    values = rng.normal(size=1000).tolist()
    house.services.store.append(Collected(samples=SampleBlock.build([(A, ts, values)])))
    answer = read(house, query(0, NOW * 2, (0, "__name__", "a_total")) + STREAMED)
    parts = streamed(answer)[0]
    assert len(parts) > 3
    assert [pair for _, own in parts for pair in own] == list(zip(ts, values, strict=True))


bits64 = st.integers(0, (1 << 64) - 1)
steps = st.one_of(st.integers(1, 3), st.integers(1, 1 << 14), st.integers(1, 1 << 20), st.integers(1, 1 << 40))


@given(st.integers(-(1 << 45), 1 << 45), st.lists(st.tuples(steps, bits64), min_size=1, max_size=120))
def test_chunks_keep_every_bit(start: int, rows: list[tuple[int, int]]) -> None:
    ts = start + np.cumsum([step for step, _ in rows])
    values = np.array([bits for _, bits in rows], np.uint64).view(np.float64)
    size = np.array([len(rows)])
    (data,) = encode(ts, values, np.zeros(1, np.int64), size)
    assert samples(data) == list(zip(ts.tolist(), [bits for _, bits in rows], strict=True))


def test_native_histograms_come_as_samples_only(filled: House) -> None:
    payload = b"\x08\x07\x78" + varint(NOW)
    filled.services.store.append(Collected(histograms=(NativeHistogram(B, NOW, payload),)))
    body = query(0, NOW, (0, "team", "ops"))
    answer = read(filled, body + EITHER)
    assert results(answer)[0][0][1][1] == (NOW - 20_000, -math.inf)
    whole = remote_read.Response.FromString(bytes(cramjam.snappy.decompress_raw(answer.content)))
    assert [bytes(h) for h in remote_read.Series.FromString(whole.results[0].timeseries[0]).histograms] == [payload]
    refused = read(filled, body + STREAMED)
    assert (refused.status_code, "native histograms" in refused.json()["error"]) == (400, True)


# ------------------------------------------------------------------ targets


def test_targets_are_told_as_prometheus_tells_them(house: House) -> None:
    url, found = "http://a:1/metrics", labels_of({"x": "y"})
    web = ScrapeTarget("web", url, labels_of({"job": "web", "team": "shop"}), found, 15, 10, "up", "", NOW, 0.25)
    targets = [
        web,
        dataclasses.replace(web, labels=labels_of({"job": "web", "team": "ops"})),
        ScrapeTarget("db", "http://b:1/metrics", labels_of({"job": "db"}), (), 15, 10),
    ]
    client = TestClient(create_app(dataclasses.replace(house.services, targets=lambda: targets)), "http://127.0.0.1")

    def active(who: str = "viewer", **parameters: str) -> list[dict[str, Any]]:
        answer = client.get("/api/v1/targets", params=parameters, headers=house.headers(who))
        assert answer.json()["status"] == "success"
        assert answer.json()["data"]["droppedTargets"] == []
        return list(answer.json()["data"]["activeTargets"])

    assert active(scrapePool="web")[0] == {
        "discoveredLabels": {"x": "y"}, "labels": {"job": "web", "team": "shop"}, "scrapePool": "web",
        "scrapeUrl": "http://a:1/metrics", "globalUrl": "http://a:1/metrics", "lastError": "",
        "lastScrape": "2025-11-24T16:00:00.000Z", "lastScrapeDuration": 0.25, "health": "up", "scrapeInterval": "15s",
        "scrapeTimeout": "10s",
    }  # fmt: skip
    assert [t["lastScrape"] for t in active(scrapePool="db")] == ["0001-01-01T00:00:00Z"]
    assert len(active()) == 3
    assert active(state="dropped") == []
    assert {t["labels"]["team"] for t in active("scoped")} == {"shop"}
    config = client.get("/api/v1/status/config", headers=house.headers("viewer")).json()["data"]["yaml"]
    assert yaml.safe_load(config)["scrape_configs"] == [
        {"job_name": "db", "scrape_interval": "15s"},
        {"job_name": "web", "scrape_interval": "15s"},
    ]
