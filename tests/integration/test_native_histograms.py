"""Native histograms asked of our engine and of a real Prometheus: counts and sums of rates, increases and sums.

Debian's 2.42 has them behind a flag. What 3.x does otherwise is left out: quantiles and shares within a bucket (once
linear), windows that begin on a sample, and counters near zero (only floats were extrapolated to it).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from aiops.core.ports import Collected
from aiops.core.principal import LOCAL
from aiops.core.series import Labels, NativeHistogram, labels_of
from aiops.ingest.exponential import Exponential, Side
from aiops.promql.engine import PromqlEngine
from aiops.promql.wire import result_data
from aiops.settings import StoreSettings
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore
from tests.integration.servers import Server, start_prometheus
from tests.unit.ingest.encode import chunk, label, snappy

START, STEP, COUNT = 600_000, 15_000, 80
END_S = (START + STEP * COUNT) / 1000

QUERIES = [
    "histogram_count(h)",
    "histogram_sum(h)",
    "histogram_count(h offset 1m)",
    "histogram_count(rate(h[2m]))",
    "histogram_sum(rate(h[5m]))",
    "histogram_count(increase(h[3m]))",
    "histogram_count(sum by (job) (h))",
    "histogram_sum(sum without (job) (rate(h[2m])))",
    "histogram_count(sum(h @ 1207))",
    "histogram_fraction(-Inf, +Inf, sum(h))",
    "histogram_fraction(-Inf, 0, sum by (job) (h))",
    "histogram_quantile(1.5, h)",
    "sum(histogram_count(h))",
]


def world(seed: int) -> list[NativeHistogram]:
    """Counters with gaps, resets and changes of their scale and zero bucket."""
    rng = np.random.default_rng(seed)
    found = []
    for k in range(6):
        labels = labels_of({"__name__": "h", "job": "ab"[k % 2], "i": str(k)})
        scale, width = int(rng.integers(0, 4)), int(rng.integers(3, 12))
        offset = int(rng.integers(-8, 3))
        minus = bool(rng.random() < 0.4)
        counts, below, zero, total = (np.full(width, 10**6), np.full(width, 10**6), 10**6, 0.0)
        for i in range(COUNT):
            if rng.random() < 0.03:
                counts, below, zero, total = np.full(width, 10**5), np.full(width, 10**5), 10**5, 0.0
            counts = counts + rng.integers(0, 20, width)
            below = below + rng.integers(0, 20, width)
            zero += int(rng.integers(0, 3))
            total += float(rng.random())
            if rng.random() < 0.1:
                continue
            down = Side(offset, below) if minus else Side()
            whole = int(counts.sum()) + (int(below.sum()) if minus else 0) + zero
            own = Exponential(scale, whole, total, zero, 1e-9, Side(offset, counts), down)
            if k == 5 and i > COUNT // 2:
                own = own.at_scale(scale - 1)
            ts = START + i * STEP
            found.append(NativeHistogram(labels, ts, own.native(ts)))
    return found


def remote_write(server: Server, held: list[NativeHistogram]) -> None:
    series: dict[Labels, bytes] = {}
    for one in held:
        series[one.series] = series.get(one.series, b"") + chunk(4, one.payload)
    body = b"".join(chunk(1, b"".join(label(*pair) for pair in own) + rest) for own, rest in series.items())
    headers = {"content-type": "application/x-protobuf", "content-encoding": "snappy"}
    answer = httpx.post(f"{server.url}/api/v1/write", content=snappy(body), headers=headers, trust_env=False)
    assert answer.status_code == 204, answer.text


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PromqlEngine, Server]]:
    store = TelemetryStore(TelemetryDatabase(None, StoreSettings()))
    server = start_prometheus(tmp_path_factory.mktemp("native"), flags=["--enable-feature=native-histograms"])
    try:
        held = world(7)
        store.append(Collected(histograms=tuple(held)))
        remote_write(server, held)
        yield PromqlEngine(store), server
    finally:
        server.stop()
        store.close()


@pytest.mark.server("prometheus")
@pytest.mark.parametrize("query", QUERIES)
def test_same_answers(pair: tuple[PromqlEngine, Server], query: str) -> None:
    engine, server = pair
    start, end, step = 907.0, END_S + 7, 60
    form = {"query": query, "start": start, "end": end, "step": step}
    answer = httpx.post(f"{server.url}/api/v1/query_range", data=form, trust_env=False).json()
    assert answer["status"] == "success", answer
    theirs = {
        (tuple(sorted(one["metric"].items())), t): float(v)
        for one in answer["data"]["result"]
        for t, v in one["values"]
    }
    block = engine.range(query, round(start * 1000), round(end * 1000), step * 1000, LOCAL).block
    ours = {
        (labels, t / 1000): v
        for i, labels in enumerate(block.labels)
        for t, v in zip(*(column.tolist() for column in block.series(i)), strict=True)
    }
    assert len(theirs) >= 15
    assert ours == pytest.approx(theirs, rel=1e-9)


@pytest.mark.server("prometheus")
@pytest.mark.parametrize(
    "query",
    ["h", "sum by (job) (h)", "sum(rate(h[2m]))", "increase(h[3m])", 'h{i="5"} offset 2m', "sum(h{i=~'[0-2]'})"],
)
def test_same_buckets(pair: tuple[PromqlEngine, Server], query: str) -> None:
    """Answers that are histograms, bucket by bucket, in the form of the API."""
    engine, server = pair
    form = {"query": query, "start": 907.0, "end": END_S + 7, "step": 60}
    answer = httpx.post(f"{server.url}/api/v1/query_range", data=form, trust_env=False).json()
    assert answer["status"] == "success", answer
    limited = engine.limited(histograms=True)
    ours = result_data(limited.range(query, 907_000, round(END_S * 1000) + 7000, 60_000, LOCAL))

    def points(data: dict[str, Any]) -> dict[Any, Any]:
        return {
            (tuple(sorted(one["metric"].items())), t): (
                float(h["count"]), float(h["sum"]),
                {(b[0], round(float(b[1]), 9), round(float(b[2]), 9)): float(b[3]) for b in h["buckets"]},
            )
            for one in data["result"]
            for t, h in one["histograms"]
        }  # fmt: skip

    mine, theirs = points(ours), points(answer["data"])
    assert len(theirs) >= 15
    assert mine.keys() == theirs.keys()
    for key, (count, total, buckets) in theirs.items():
        assert mine[key][0] == pytest.approx(count, rel=1e-9)
        assert mine[key][1] == pytest.approx(total, rel=1e-9)
        assert mine[key][2] == pytest.approx(buckets, rel=1e-7, abs=1e-9)
