"""Our engine against a real Prometheus over the same samples: equal to 1e-9.

Prometheus 2.x closes its windows on the left, so samples, steps and windows keep off each other's edges. Where
3.x differs from 2.x by design (extrapolation near zero, experimental functions) no query asks.
"""

from __future__ import annotations

import math
import subprocess
from collections.abc import Iterator

import numpy as np
import pytest

from aiops.core.errors import AiopsError
from aiops.core.plugins import build
from aiops.core.ports import Collected, MetricQuerier, PluginContext, TelemetrySource
from aiops.core.principal import LOCAL
from aiops.core.series import Labels, QueryResult, SampleBlock, labels_of
from aiops.promql.engine import PromqlEngine
from aiops.promql.plan import number_text
from aiops.settings import PromqlSettings, StoreSettings
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore
from tests.integration.servers import binary, start_prometheus

START = 1_700_000_000_000
STEP, COUNT = 15_000, 400

QUERIES = (
    "a_total", 'a_total{zone="z1"}', 'a_total{zone=~"z.", job!="j0"}', "rate(a_total[2m])", "increase(a_total[5m])",
    "irate(a_total[1m])", "delta(g[3m])", "idelta(g[1m])", "deriv(g[4m])", "predict_linear(g[4m], 600)",
    "sum(a_total)", "sum by (job) (rate(a_total[2m]))", "sum without (zone) (a_total)", "avg by (zone) (g)",
    "min(g)", "max by (job) (g)", "count(g)", "group by (job) (g)", "stddev(g)", "stdvar by (zone) (g)",
    "topk(2, g)", "bottomk(3, g)", "quantile(0.7, g)", "quantile by (job) (0.2, g)", 'count_values("v", floor(g / 20))',
    "sum_over_time(g[3m])", "avg_over_time(g[3m])", "min_over_time(g[3m])", "max_over_time(g[3m])",
    "count_over_time(g[3m])", "stddev_over_time(g[3m])", "stdvar_over_time(g[3m])", "last_over_time(g[3m])",
    "present_over_time(gaps[2m])", "quantile_over_time(0.9, g[3m])", "changes(g[5m])", "resets(a_total[10m])",
    "holt", "absent(nothing{x='y'})", "absent_over_time(gaps[1m])", "gaps", "count(gaps)", "scalar(sum(g))",
    "vector(1)", "time()", "minute()", "day_of_week(vector(time()))", "days_in_month()", "hour(g * 1e6)",
    "abs(-g)", "ceil(g)", "round(g, 0.5)", "clamp(g, 10, 40)", "clamp_max(g, 30)", "exp(g / 100)", "ln(g)", "sqrt(g)",
    "sgn(g - 30)", "sin(g)", "deg(atan(g))", "timestamp(g)", "sort(g)", "g + a_total", "g > 30", "g > bool 30",
    "30 < g", "g % 7", "g ^ 2 / 3", "-g", "abs(g atan2 2)", "g == g", "g * on (job, zone) a_total",
    "g * on (job) group_left () sum by (job) (a_total)", "sum by (job) (g) / ignoring (zone) group_right () a_total",
    'a_total and on (job) g{job="j1"}', 'g unless on (zone) a_total{zone="z0"}', 'g{job="j0"} or a_total',
    "a_total offset 3m", "a_total offset -3m", "a_total @ 1700003007", "rate(a_total[2m] @ end())",
    "max_over_time(rate(a_total[2m])[10m:1m])", "avg_over_time(g[7m:])", "sum_over_time(sum(g)[5m:30s] offset 1m)",
    "min_over_time(max_over_time(g[2m])[5m:1m])", "histogram_quantile(0.9, sum by (le) (rate(h_bucket[5m])))",
    "histogram_quantile(0.5, h_bucket)", 'label_replace(g, "x", "$1-$2", "job", "(.)(.)")',
    'label_join(g, "x", "/", "job", "zone")', "1 + 2 * 3 ^ 2", "g / 0", "sum(g) > 100 or vector(0)",
    "count by (job) (rate(a_total[2m]) > 0.3)", "avg(rate(a_total[2m])) by (zone) * 60", "nothing", "sum(nothing)",
)  # fmt: skip


def block() -> SampleBlock:
    rng = np.random.default_rng(7)
    base = START + np.arange(COUNT, dtype=np.int64) * STEP
    rows = []
    for job in range(3):
        for zone in range(2):
            labels = {"job": f"j{job}", "zone": f"z{zone}"}
            # Scraped 3 to 9 s after each quarter minute: off the edges of all windows used.
            ts = base + 3000 + 1000 * (2 * job + zone)
            counter = 1e6 + np.cumsum(rng.integers(0, 12, COUNT)).astype(float)
            reset = 150 + 20 * job
            counter[reset:] -= counter[reset] - 5e5
            rows.append((labels_of({"__name__": "a_total", **labels}), ts, counter))
            gauge = np.round(30 + 20 * np.sin(np.arange(COUNT) / 9 + job) + rng.normal(0, 3, COUNT), 3)
            rows.append((labels_of({"__name__": "g", **labels}), ts, gauge))
            keep = rng.random(COUNT) < 0.12
            rows.append((labels_of({"__name__": "gaps", **labels}), ts[keep], gauge[keep]))
    for k, le in enumerate(("0.1", "0.5", "1", "+Inf")):
        counts = 1e5 + np.cumsum(rng.integers(0, 5, COUNT)).astype(float) + 1000.0 * k * np.arange(COUNT)
        rows.append((labels_of({"__name__": "h_bucket", "le": le}), base + 3000, counts))
    return SampleBlock.build(rows)


def open_metrics(samples: SampleBlock) -> str:
    lines = []
    for i, labels in enumerate(samples.labels):
        name = dict(labels)["__name__"]
        inner = ",".join(f'{k}="{v}"' for k, v in labels if k != "__name__")
        ts, values = samples.series(i)
        lines += [
            f"{name}{{{inner}}} {number_text(v)} {t / 1000:.3f}"
            for t, v in zip(ts.tolist(), values.tolist(), strict=True)
        ]
    return "\n".join([*lines, "# EOF", ""])


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[MetricQuerier, MetricQuerier]]:
    """(our engine over the telemetry store, a real Prometheus through our connector), with the same samples."""
    tool = binary("promtool")
    folder = tmp_path_factory.mktemp("prometheus")
    samples = block()
    text = folder / "samples.txt"
    text.write_text(open_metrics(samples))
    subprocess.run(
        [tool, "tsdb", "create-blocks-from", "openmetrics", str(text), str(folder / "prometheus")],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    store = TelemetryStore(TelemetryDatabase(None, StoreSettings()))
    server = start_prometheus(folder)
    try:
        store.append(Collected(samples=samples))
        engine = PromqlEngine(store, PromqlSettings())
        engine.warm(wait=True)
        source = build("connectors.telemetry", "prometheus", {"url": server.url}, PluginContext("real"))
        assert isinstance(source, MetricQuerier)
        yield engine, source
        source.close()  # type: ignore[attr-defined]
    finally:
        server.stop()
        store.close()


def points(result: QueryResult) -> dict[Labels, tuple[list[int], list[float]]]:
    return {
        x: (ts.tolist(), v.tolist()) for i, x in enumerate(result.block.labels) for ts, v in [result.block.series(i)]
    }


def close(a: float, b: float) -> bool:
    return (math.isnan(a) and math.isnan(b)) or a == b or math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9)


def differences(ours: QueryResult, theirs: QueryResult) -> str:
    mine, real = points(ours), points(theirs)
    if ours.type is not theirs.type:
        return f"{ours.type} instead of {theirs.type}"
    if set(mine) != set(real):
        return f"series differ: {sorted(set(mine) ^ set(real))[:3]}"
    for labels, (ts, values) in real.items():
        if mine[labels][0] != ts:
            return f"{labels}: times differ"
        for t, ours_v, real_v in zip(ts, mine[labels][1], values, strict=True):
            if not close(ours_v, real_v):
                return f"{labels} at {t}: {ours_v!r} instead of {real_v!r}"
    return ""


@pytest.mark.server("prometheus")
@pytest.mark.parametrize("query", QUERIES)
def test_same_answers(pair: tuple[MetricQuerier, MetricQuerier], query: str) -> None:
    ours, real = pair
    at = START + 3_001_000
    assert differences(ours.instant(query, at, LOCAL), real.instant(query, at, LOCAL)) == ""
    start, end, step = START + 1_000, START + COUNT * STEP - 14_000, 60_000
    assert differences(ours.range(query, start, end, step, LOCAL), real.range(query, start, end, step, LOCAL)) == ""


@pytest.mark.server("prometheus")
@pytest.mark.parametrize(
    "query",
    ["g + ignoring (zone) a_total", "g * on (job) group_left () a_total", "rate(g)", "sum(", "nosuch(g)",
     "topk(NaN, g)", "label_replace(g, 'zone', '', '', '')", "g[5m] + 1", "1 == 1", "{}"],
)  # fmt: skip
def test_same_refusals(pair: tuple[MetricQuerier, MetricQuerier], query: str) -> None:
    for querier in pair:
        with pytest.raises(AiopsError):
            querier.range(query, START + 1000, START + 601_000, 60_000, LOCAL)


@pytest.mark.server("prometheus")
def test_pull_copies_every_sample(pair: tuple[MetricQuerier, MetricQuerier]) -> None:
    _, real = pair
    assert isinstance(real, TelemetrySource)
    options = {"url": real.options.url, "match": ['{__name__=~".+"}'], "backfill_s": 7000, "chunk_s": 1800}
    source = build("connectors.telemetry", "prometheus", options, PluginContext("pull", lambda: START + COUNT * STEP))
    assert isinstance(source, TelemetrySource)
    store = TelemetryStore(TelemetryDatabase(None, StoreSettings()))
    try:
        done = 0.0
        while done < 1.0:
            got = source.poll(store.cursor("pull"))
            store.append(got, source="pull")
            assert got.done > done
            done = got.done
        samples = block()
        assert store.status().samples == samples.sample_count
        engine = PromqlEngine(store)
        query = "sum by (job) (rate(a_total[2m]))"
        args = (query, START + 1_000, START + COUNT * STEP - 14_000, 60_000, LOCAL)
        assert differences(engine.range(*args), pair[0].range(*args)) == ""
    finally:
        source.close()
        store.close()


@pytest.mark.server("prometheus")
def test_same_series_and_labels(pair: tuple[MetricQuerier, MetricQuerier]) -> None:
    ours, real = pair
    end = START + COUNT * STEP
    assert ours.label_names((), START, end, LOCAL) == real.label_names((), START, end, LOCAL)
    assert ours.label_values("zone", (), START, end, LOCAL) == real.label_values("zone", (), START, end, LOCAL)
    assert ours.series((), START, end, LOCAL) == real.series((), START, end, LOCAL)
