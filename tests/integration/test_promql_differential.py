"""Generated queries over generated series, asked of our engine and of a real Prometheus: equal to 1e-9, or both fail.

The nightly size takes its seed from ``PROMQL_SEED`` and prints it; ``PROMQL_QUERIES`` is how many it asks.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from aiops.core.errors import QueryError
from aiops.core.plugins import build
from aiops.core.ports import Collected, MetricQuerier, PluginContext
from aiops.core.principal import LOCAL
from aiops.core.series import Labels, QueryResult
from aiops.promql.engine import PromqlEngine
from aiops.settings import PromqlSettings, StoreSettings
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore
from tests.integration.promql_grammar import Ask, asks
from tests.integration.promql_worlds import World, make, remote_write
from tests.integration.servers import start_prometheus

CI_SEED = 3
WORLDS = 6


@dataclass
class Pair:
    ours: MetricQuerier
    real: MetricQuerier
    worlds: list[World]
    asked: int = 0
    failed: int = 0
    empty: int = 0
    kinds: set[str] = field(default_factory=set)


@pytest.fixture(scope="module")
def number() -> int:
    return int(os.environ.get("PROMQL_SEED") or CI_SEED)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, number: int) -> Iterator[Pair]:
    store = TelemetryStore(TelemetryDatabase(None, StoreSettings()))
    server = start_prometheus(tmp_path_factory.mktemp("differential"), flags=["--query.timeout=30s"])
    try:
        drawn = make(WORLDS, number)
        for world in drawn:
            remote_write(server.url, world.block)
            store.append(Collected(samples=world.block))
        engine = PromqlEngine(store, PromqlSettings())
        engine.warm(wait=True)
        source = build("connectors.telemetry", "prometheus", {"url": server.url}, PluginContext("real"))
        assert isinstance(source, MetricQuerier)
        yield Pair(engine, source, drawn)
        source.close()  # type: ignore[attr-defined]
    finally:
        server.stop()
        store.close()


def close(a: float, b: float) -> bool:
    return (math.isnan(a) and math.isnan(b)) or a == b or math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9)


def answer(querier: MetricQuerier, ask: Ask, world: World, *, instant: bool) -> QueryResult | str:
    at = world.start_ms
    try:
        if instant:
            return querier.instant(ask.query, at + ask.start_ms, LOCAL)
        return querier.range(ask.query, at + ask.start_ms, at + ask.end_ms, ask.step_ms, LOCAL)
    except QueryError as error:
        return str(error)


def points(result: QueryResult) -> dict[Labels, dict[int, float]]:
    found = {}
    for i, own in enumerate(result.block.labels):
        ts, values = result.block.series(i)
        found[own] = dict(zip(ts.tolist(), values.tolist(), strict=True))
    return found


def difference(ours: QueryResult | str, real: QueryResult | str) -> str:
    if isinstance(ours, str) or isinstance(real, str):
        if isinstance(ours, str) and isinstance(real, str):
            return ""
        shown = [x if isinstance(x, str) else points(x) for x in (ours, real)]
        return f"ours: {shown[0]}\n real: {shown[1]}"
    if ours.type is not real.type:
        return f"{ours.type} instead of {real.type}"
    mine, theirs = points(ours), points(real)
    if mine.keys() != theirs.keys():
        return f"series: only ours {mine.keys() - theirs.keys()}, only theirs {theirs.keys() - mine.keys()}"
    for own, wanted in theirs.items():
        if mine[own].keys() != wanted.keys():
            return f"{own}: times differ: {sorted(mine[own].keys() ^ wanted.keys())[:5]}"
        for t, value in wanted.items():
            if not close(mine[own][t], value):
                return f"{own} at {t}: {mine[own][t]!r} instead of {value!r}"
    return ""


def compare(pair: Pair, ask: Ask, world: World) -> None:
    for instant in (True, False):
        real = answer(pair.real, ask, world, instant=instant)
        ours = answer(pair.ours, ask, world, instant=instant)
        pair.asked += 1
        pair.failed += isinstance(real, str)
        pair.empty += isinstance(real, QueryResult) and not len(real.block)
        wrong = difference(ours, real)
        at = [world.start_ms + x for x in (ask.start_ms, ask.end_ms)]
        assert not wrong, f"{ask.query}\n {'instant' if instant else 'range'} {at} step {ask.step_ms}\n {wrong}"


def run(pair: Pair, count: int, number: int) -> None:
    @seed(number)
    @settings(
        max_examples=count, deadline=None, database=None, print_blob=True,
        phases=[Phase.generate, Phase.shrink], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(asks(), st.integers(0, WORLDS - 1))
    def check(ask: Ask, world: int) -> None:
        compare(pair, ask, pair.worlds[world])

    check()


@pytest.mark.server("prometheus")
def test_300_queries(pair: Pair, number: int) -> None:
    run(pair, 300, number)
    assert pair.asked >= 600
    assert pair.failed < pair.asked / 4
    assert pair.empty < pair.asked / 2


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.server("prometheus")
def test_5000_queries(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    number = int(os.environ.get("PROMQL_SEED") or random.randrange(2**32))
    count = int(os.environ.get("PROMQL_QUERIES") or 5000)
    with capsys.disabled():
        print(f"\nPROMQL_SEED={number}: {count} generated queries, each as an instant and as a range query")
    run(pair, count, number)
    with capsys.disabled():
        print(f"{pair.asked} answers equal, of which {pair.failed} refusals and {pair.empty} empty")
