"""A real Prometheus reads from us: by remote read, and by federation with staleness."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from aiops.api.remote_read import STREAMED as STREAMED_TYPE
from aiops.api.xor_chunks import encode
from aiops.core.ports import Collected, system_clock
from aiops.core.principal import LOCAL
from aiops.core.series import STALE_NAN, SampleBlock, labels_of
from aiops.promql.engine import PromqlEngine
from aiops.settings import PromqlSettings, Settings
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore
from tests.integration import servers
from tests.integration.promql_worlds import make, remote_write
from tests.unit.api.streamed import frames, samples
from tests.unit.ingest.app import app_over, serving
from tests.unit.ingest.encode import chunk, snappy, text, varint

A = labels_of({"__name__": "a_total", "zone": 'q"\\u', "job": "own"})
B = labels_of({"__name__": "a_total", "zone": "b", "job": "own"})


@pytest.fixture
def house(tmp_path: Path) -> Iterator[tuple[TelemetryStore, str]]:
    settings = Settings()
    store = TelemetryStore(TelemetryDatabase(tmp_path / "t.duckdb", settings.store))
    with serving(app_over(store, settings, system_clock)) as url:
        yield store, url
    store.close()


def prometheus(tmp_path: Path, config: str) -> servers.Server:
    (tmp_path / "p.yml").write_text(config)
    port = servers.free_port()
    arguments = [
        f"--config.file={tmp_path}/p.yml", f"--storage.tsdb.path={tmp_path}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    return servers.start("prometheus", arguments, port, "/-/ready", tmp_path / "prometheus.log")


def ask(server: servers.Server, path: str = "query", **parameters: Any) -> list[dict[str, Any]]:
    answer = httpx.get(f"{server.url}/api/v1/{path}", params=parameters, trust_env=False).json()
    assert answer["status"] == "success", answer
    return list(answer["data"]["result"])


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "nothing within the limit"
        time.sleep(0.1)


def test_it_evaluates_queries_over_our_samples(tmp_path: Path, house: tuple[TelemetryStore, str]) -> None:
    store, url = house
    now = system_clock()
    ts = [now - 15_000 * (40 - i) for i in range(40)]
    rows = [(A, ts, [float(i) for i in range(40)]), (B, ts[:-3], [*(2.0 * i for i in range(36)), STALE_NAN])]
    store.append(Collected(samples=SampleBlock.build(rows)))
    server = prometheus(
        tmp_path, f"global: {{scrape_interval: 1h}}\nremote_read: [{{url: '{url}/api/v1/read', read_recent: true}}]\n"
    )
    try:
        at = now / 1000
        assert {r["metric"]["zone"]: float(r["value"][1]) for r in ask(server, query="a_total", time=at)} == {
            'q"\\u': 39.0
        }
        engine = PromqlEngine(store, PromqlSettings())
        for query in ("sum by (zone) (rate(a_total[5m]))", "max_over_time(a_total[2m])", 'a_total{zone=~"b|c"}'):
            block = engine.instant(query, now, LOCAL).block
            ours = {dict(labels)["zone"]: v for labels, v in zip(block.labels, block.values.tolist(), strict=True)}
            theirs = {r["metric"]["zone"]: float(r["value"][1]) for r in ask(server, query=query, time=at)}
            assert theirs == pytest.approx(ours, rel=1e-9)
        (counted,) = ask(server, query='count_over_time(a_total{zone="b"}[1h])', time=at)
        assert counted["value"][1] == "36"
        matrix = ask(server, "query_range", query="a_total", start=at - 300, end=at, step=15)
        assert {r["metric"]["zone"]: len(r["values"]) for r in matrix} == {'q"\\u': 21, "b": 16}
    finally:
        server.stop()


def test_it_federates_samples_with_their_times_and_their_end(tmp_path: Path, house: tuple[TelemetryStore, str]) -> None:
    store, url = house
    at = system_clock() - 20_000
    store.append(Collected(samples=SampleBlock.at(at, [(A, 1.5), (B, 2.5)])))
    server = prometheus(
        tmp_path,
        "global: {scrape_interval: 1s}\nscrape_configs:\n- job_name: f\n  honor_labels: true\n"
        "  metrics_path: /federate\n  params: {'match[]': ['{job=\"own\"}']}\n"
        f"  static_configs: [{{targets: ['{url.removeprefix('http://')}']}}]\n",
    )
    try:
        until(lambda: len(ask(server, query="a_total")) == 2)
        (times,) = ask(server, query='timestamp(a_total{zone="b"})')
        assert float(times["value"][1]) == pytest.approx(at / 1000)
        (metric,) = ask(server, query='a_total{zone!="b"}')
        assert metric["metric"] == dict(A)
        store.append(Collected(samples=SampleBlock.at(at + 1000, [(B, STALE_NAN)])))
        until(
            lambda: (
                httpx.get(f"{url}/federate", params={"match[]": "a_total"}, trust_env=False).text.count("a_total{") == 1
            )
        )
    finally:
        server.stop()


STREAMED = b"\x12\x01\x01"


def test_its_own_chunks_are_ours_byte_for_byte(tmp_path: Path) -> None:
    """Debian's Prometheus answers streamed chunks and reads samples only (3.x asks for chunks first)."""
    settings = Settings()
    store = TelemetryStore(TelemetryDatabase(None, settings.store))
    block = make(1, 3)[0].block
    server = servers.start_prometheus(tmp_path)
    try:
        remote_write(server.url, block)
        store.append(Collected(samples=block))
        kinds = {"content-type": "application/x-protobuf", "content-encoding": "snappy"}
        matching = b"\x08\x02" + chunk(2, text("__name__")) + chunk(3, text(".+"))
        window = b"\x08" + varint(0) + b"\x10" + varint(1 << 41)
        body = snappy(chunk(1, window + chunk(3, matching)) + STREAMED)

        def read(base: str) -> dict[tuple[tuple[str, str], ...], list[bytes]]:
            answer = httpx.post(f"{base}/api/v1/read", content=body, headers=kinds, trust_env=False)
            assert answer.status_code == 200, answer.text
            assert answer.headers["content-type"] == STREAMED_TYPE
            found: dict[tuple[tuple[str, str], ...], list[bytes]] = {}
            order = []
            for frame in frames(answer.content):
                for one in frame.series:
                    labels = tuple((pair.name, pair.value) for pair in one.labels)
                    order.append(labels)
                    found.setdefault(labels, []).extend(bytes(c.data) for c in one.chunks)
            assert order == sorted(order)
            return found

        with serving(app_over(store, settings, system_clock)) as url:
            ours, theirs = read(url), read(server.url)
        assert len(theirs) > 5
        assert ours.keys() == theirs.keys()
        same = 0
        for labels, chunks in theirs.items():
            for data in chunks:
                rows = samples(data)
                ts = np.array([t for t, _ in rows])
                values = np.array([bits for _, bits in rows], np.uint64).view(np.float64)
                assert encode(ts, values, np.zeros(1, np.int64), np.array([len(rows)])) == [data]
                same += 1
            assert [row for data in ours[labels] for row in samples(data)] == [r for d in chunks for r in samples(d)]
        assert same >= len(theirs)
    finally:
        server.stop()
        store.close()
