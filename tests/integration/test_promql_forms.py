"""Forms that a generator seldom draws, asked of our engine and of a real Prometheus: equal to 1e-9, or both fail.

Answers to ``sort``, ``topk`` and ``bottomk`` come in the same order as well. What only 2.x does (see the rules in
``promql_grammar.py``) is not among them.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from aiops.core.plugins import build
from aiops.core.ports import Collected, MetricQuerier, PluginContext
from aiops.core.series import QueryResult
from aiops.promql.engine import PromqlEngine
from aiops.settings import PromqlSettings, StoreSettings
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore
from tests.integration.promql_grammar import Ask
from tests.integration.promql_worlds import make, remote_write
from tests.integration.servers import start_prometheus
from tests.integration.test_promql_differential import Pair, answer, difference

QUERIES = (
    'label_replace((g), ("dst"), ("x$1"), ("job"), ("(.*)"))',
    'label_join((g), ("dst"), ("-"), ("job"), ("zone"))',
    'count_values(("v"), (k))',
    "topk((2), (g))",
    "bottomk(1 + 1, g)",
    "quantile((0.5), (g))",
    "histogram_quantile((0.5), (b_bucket))",
    "histogram_quantile(scalar(vector(0.9)), b_bucket)",
    "round((g), (2))",
    "((g))[5m:1m]",
    "max_over_time(((g))[5m:1m])",
    "-(g)",
    "--g",
    "-+-g",
    "timestamp(-(g))",
    "timestamp(((g)))",
    "timestamp(g * 1)",
    "timestamp(timestamp(g))",
    "scalar((g))",
    "scalar(((sum(g))))",
    "rate(((c_total[5m])))",
    "rate((c_total)[5m:15s])",
    "g == bool (1)",
    "((1))+((g))",
    '"a"',
    "(g[5m])",
    "((g[5m]))",
    "g[5m:1m]",
    "(g)[5m:1m]",
    "(1)",
    "-(1)",
    "1 - -1",
    "2 ^ -1",
    "-2 ^ 2",
    "-g ^ 2",
    "2 ^ 3 ^ 2",
    "g % 3 * 2",
    "g * 3 % 2",
    "1 < bool 2 < bool 3",
    "g < 500 > 100",
    "g or h and k",
    "g and h or k",
    "g unless h or k",
    "g - k - k",
    "g - (k - k)",
    "g and on() vector(1)",
    "g and on() (vector(1) == 2)",
    "vector(1) or on() g",
    "g + on(job,zone,instance) k",
    "g * ignoring(job) k",
    "g * on() group_left() scalar(sum(k))",
    "g * on() group_left(job) sum(k)",
    "sum(g) * on() group_right() g",
    "sum by (job)(g) / on(job) group_right(zone) g",
    "g / on(job) group_left(zone) sum by (job, zone)(g)",
    "g > bool on(job,zone,instance) h",
    "g == on(job) group_left() max by (job)(g)",
    "g != 5",
    "g == g",
    'g{zone=""}',
    'g{zone!=""}',
    'g{zone=~""}',
    'g{zone=~".+"}',
    'g{zone!~".+"}',
    'g{job=~"a|b|"}',
    'g{job=~"^a$"}',
    'g{job=~"a.*|b"}',
    'g{job=~"(a)(b)?"}',
    'g{job="a",job!="a"}',
    '{job="a",__name__="g"}',
    '{__name__=~"g",job="a"}',
    '{__name__="g",__name__="h"}',
    '{__name__!="g",job="a"}',
    "g offset 1m offset 2m",
    "sum(g offset 1m)",
    "sum by (job) (g offset -1m)",
    "sum_over_time(g[1m] offset 1m)",
    "sum_over_time((g offset 1m)[2m:30s] offset 1m)",
    "sum_over_time(g[1m] @ end())",
    "sum(g @ start()) by (job)",
    "g @ end() - g @ start()",
    "max_over_time(g[10m:1m] @ end())",
    "max_over_time((g @ end())[10m:1m])",
    'absent(g{job="zz",zone="q"})',
    "absent(g)",
    "absent(g > 1e9)",
    'absent_over_time(g{job="zz"}[5m])',
    "absent_over_time(g[5m])",
    'sum(absent(g{job="zz"}))',
    "count(nothing) or vector(0)",
    "sum(nothing)",
    "avg(nothing)",
    "stddev(k) by (job)",
    "stdvar without (job) (k)",
    "group(g) by (job)",
    "group by () (g)",
    "sum by () (g)",
    "sum without () (g)",
    "sum by (nope) (g)",
    "count without (job, zone, instance) (g)",
    "min(s)",
    "max(s)",
    "sum(s)",
    "avg(s)",
    "count(s)",
    "quantile(0.9, s)",
    "topk(3, s)",
    "bottomk(3, s)",
    "sum by (job) (s)",
    "avg by (job) (s)",
    "sum_over_time(s[2m])",
    "avg_over_time(s[2m])",
    "min_over_time(s[2m])",
    "quantile_over_time(0.3, s[2m])",
    "s > 0",
    "s >= bool 0",
    "s == s",
    "s != s",
    "s + s",
    "s - s",
    "s * 0",
    "s / 0",
    "s % 2",
    "0 / s",
    "1 % s",
    "s ^ s",
    "floor(s)",
    "round(s, 0.5)",
    "abs(s)",
    "sqrt(s)",
    "ln(s)",
    "exp(s)",
    "clamp(s, -1, 1)",
    "clamp_min(s, NaN)",
    "clamp_max(s, Inf)",
    "sgn(s)",
    "changes(s[5m])",
    "resets(s[5m])",
    "delta(s[5m])",
    "deriv(k[5m])",
    "idelta(s[5m])",
    "rate(c_total[15s])",
    "rate(c_total[30s])",
    "increase(c_total[45s])",
    "irate(c_total[30s])",
    "predict_linear(g[5m], 3600)",
    "predict_linear(g[5m], -60)",
    "deriv(g[30s])",
    "time() - 5",
    "time() % 60",
    "vector(time())",
    "minute()",
    "hour(vector(time()))",
    "day_of_week()",
    "days_in_month(vector(1582934400))",
    "year(vector(0))",
    "month(vector(1e9))",
    "day_of_year(vector(1.5e9))",
    "pi() * 2",
    "deg(vector(pi()))",
    "scalar(nothing)",
    "scalar(g)",
    "vector(scalar(nothing))",
    "sort(g)",
    "sort_desc(g)",
    "sort(s)",
    "sort_desc(s)",
    'label_replace(g, "job", "$1", "job", "(x)")',
    'label_replace(g, "job", "", "job", "(a)")',
    'label_replace(g, "job", "z", "", "")',
    'label_replace(g, "n", "${1}_$2", "zone", "(.)(.*)")',
    'label_replace(g, "n", "$x", "zone", "(?P<x>.)")',
    'label_replace(g, "n", "$1x", "zone", "(.)")',
    'label_replace(g, "n", "$$1", "zone", "(.)")',
    'label_replace(g, "n", "$0", "zone", ".*")',
    'label_replace(g, "instance", "$1", "job", "(.*)")',
    'label_join(g, "n", "-")',
    'label_join(g, "n", "", "job", "job")',
    'label_join(g, "job", "", "no")',
    'count_values("job", k)',
    'count_values without () ("v", k)',
    'count_values by (job) ("job", k)',
    'histogram_quantile(0.5, b_bucket{le!="+Inf"})',
    'histogram_quantile(0.5, b_bucket{le="+Inf"})',
    "histogram_quantile(0, b_bucket)",
    "histogram_quantile(1, b_bucket)",
    "histogram_quantile(-1, b_bucket)",
    "histogram_quantile(2, b_bucket)",
    "histogram_quantile(NaN, b_bucket)",
    "histogram_quantile(0.9, sum(b_bucket))",
    "histogram_quantile(0.9, g)",
    'histogram_quantile(0.9, label_replace(b_bucket, "le", "x", "le", "1"))',
    'histogram_quantile(0.9, label_replace(b_bucket, "le", "1.0", "le", "2.5"))',
    "topk(0, g)",
    "topk(-5, g)",
    "topk(1.5, g)",
    "topk(NaN, g)",
    "topk(Inf, g)",
    "topk(1e30, g)",
    "topk(scalar(nothing), g)",
    "topk by (job) (1, g)",
    "topk without (job) (1, g)",
    "bottomk(100, g)",
    "quantile(2, g)",
    "quantile(-1, g)",
    "quantile(NaN, g)",
    "sum(topk(1, g))",
    "topk(1, g) > 0",
    "topk(1, sum by (job) (g))",
    "1 + bool 2",
    "g and 1",
    "1 or 2",
    "sum(1)",
    "rate(g)",
    "g[5m] offset",
    "sum_over_time(1[5m:])",
    "avg_over_time(time()[5m:])",
    "avg_over_time(vector(time())[5m:1m])",
    "sum_over_time(vector(1)[5m:1m])",
    "max_over_time(g[1ms])",
    "count_over_time(g[100y])",
    "g offset 100y",
    "g @ 0",
    "g @ -5",
    "max_over_time(rate(c_total[1m])[5m:30s])",
    "avg_over_time(sum by (job) (rate(c_total[1m]))[5m:30s])",
    "quantile_over_time(scalar(vector(0.5)), g[1m])",
    "sum(rate(c_total[1m])) by (job) / ignoring(job) group_left sum(rate(c_total[1m]))",
    "sum(c_total) by (job) + on(job) group_left() (k * 0)",
    "(g + k) or (g - k)",
    "-g or -h",
    "abs(g) + abs(h)",
    "g + h",
    "g * 2 + on(job, zone, instance) h",
    '{job="a"} + on() group_left g',
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    store = TelemetryStore(TelemetryDatabase(None, StoreSettings()))
    server = start_prometheus(tmp_path_factory.mktemp("forms"))
    try:
        (world,) = make(1, 5)
        remote_write(server.url, world.block)
        store.append(Collected(samples=world.block))
        engine = PromqlEngine(store, PromqlSettings())
        engine.warm(wait=True)
        source = build("connectors.telemetry", "prometheus", {"url": server.url}, PluginContext("real"))
        assert isinstance(source, MetricQuerier)
        yield Pair(engine, source, [world])
        source.close()  # type: ignore[attr-defined]
    finally:
        server.stop()
        store.close()


def order(result: QueryResult | str) -> list[str]:
    """Values in the order of the answer, NaN among them."""
    return [] if isinstance(result, str) else [str(value) for value in result.block.values.tolist()]


@pytest.mark.server("prometheus")
def test_same_answers(pair: Pair) -> None:
    (world,) = pair.worlds
    wrong = []
    for query in QUERIES:
        ask = Ask(query, 1_207_000, 1_807_000, 60_000)
        for instant in (True, False):
            ours, real = (answer(querier, ask, world, instant=instant) for querier in (pair.ours, pair.real))
            why = difference(ours, real)
            if not why and isinstance(ours, QueryResult) and isinstance(real, QueryResult):
                if ours.text != real.text:
                    why = f"{ours.text!r} instead of {real.text!r}"
                elif instant and query.startswith(("sort", "topk", "bottomk")) and order(ours) != order(real):
                    why = f"order: {order(ours)} instead of {order(real)}"
            if why:
                wrong.append(f"{query} ({'at one time' if instant else 'range'}): {why}")
    assert not wrong, "\n".join(wrong)
