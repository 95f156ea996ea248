"""The simulated shop: deterministic, continuous, labelled, and each fault shows where it should."""

from __future__ import annotations

import numpy as np
import pytest

from aiops.core.errors import InvalidInput
from aiops.core.ports import Collected
from aiops.core.series import SampleBlock
from aiops.core.signals import label
from aiops.demo.costs import ANOMALY_DAYS_AGO, DAYS, shop_costs
from aiops.demo.fault import KINDS, Fault, draw
from aiops.demo.metrics import DURATION
from aiops.demo.physics import conditions
from aiops.demo.shop import LIVE_STEP_MS, ShopSource
from aiops.demo.topology import ROUTES, SERVICES, callers_of, routes_of

END = 1_795_500_000_000
HOUR = 3600_000


def history(seed: int, hours: float = 0.1) -> tuple[ShopSource, list[Collected]]:
    shop = ShopSource(seed)
    return shop, list(shop.backfill(END - int(hours * HOUR), END))


def values(block: SampleBlock, name: str, **labels: str) -> np.ndarray:
    rows = [
        block.series(i)[1]
        for i, series in enumerate(block.labels)
        if label(series, "__name__") == name and all(label(series, k) == v for k, v in labels.items())
    ]
    return np.stack(rows)


def live(shop: ShopSource, ticks: int) -> list[Collected]:
    return [shop.live(END + k * LIVE_STEP_MS) for k in range(ticks)]


def test_same_seed_gives_the_same_data() -> None:
    (_, first), (_, second), (_, other) = history(3), history(3), history(4)
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a.samples.values, b.samples.values)
        assert a.logs == b.logs
        assert a.spans == b.spans
        assert a.changes == b.changes
    assert not np.array_equal(first[0].samples.values, other[0].samples.values)


def test_the_plan_covers_the_window_on_the_live_grid_without_gaps_or_repeats() -> None:
    chunks = ShopSource.plan(END - 14 * 24 * HOUR, END)
    times = np.concatenate(chunks)
    assert np.all(np.diff(times) > 0)
    assert np.all(times % LIVE_STEP_MS == 0)
    assert int(np.diff(times).max()) == 120_000
    assert int(times[-1]) == END - LIVE_STEP_MS
    assert len(times) * ShopSource(0).series_count < 8_000_000


def test_counters_go_on_from_history_to_live_without_a_reset() -> None:
    shop, chunks = history(5, hours=3)
    blocks = [c.samples for c in chunks] + [c.samples for c in live(shop, 3)]
    counters = [
        i
        for i, s in enumerate(blocks[0].labels)
        if label(s, "__name__").endswith(("_total", "_bucket", "_count", "_sum"))
    ]
    for i in counters:
        joined = np.concatenate([b.series(i)[1] for b in blocks])
        assert np.all(np.diff(joined) >= 0), blocks[0].labels[i]
    stamps = np.concatenate([b.series(0)[0] for b in blocks])
    assert np.all(np.diff(stamps) > 0)
    assert int(np.diff(stamps)[-3:].max()) == LIVE_STEP_MS


def test_everything_says_that_it_is_simulated() -> None:
    shop, chunks = history(6)
    for c in [*chunks, *live(shop, 2)]:
        assert all(label(s, "simulated") == "true" for s in c.samples.labels)
        assert all(label(r.resource, "simulated") == "true" for r in c.logs)
        assert all(label(s.resource, "simulated") == "true" for s in c.spans)
        assert all(label(x.attributes, "simulated") == "true" for x in c.changes)
    assert set(shop_costs(6, END).columns["x_simulated"].tolist()) == {"true"}


def test_buckets_are_cumulative_and_end_at_the_count() -> None:
    _, chunks = history(7)
    block = chunks[-1].samples
    buckets = values(block, f"{DURATION}_bucket", service_name="payment", http_response_status_code="200")
    assert np.all(np.diff(buckets, axis=0) >= 0)
    count = values(block, f"{DURATION}_count", service_name="payment", http_response_status_code="200")
    assert np.array_equal(buckets[-1], count[0])


def test_live_gives_nothing_twice() -> None:
    shop, _ = history(8)
    assert shop.live(END).samples.sample_count == shop.series_count
    assert shop.live(END + 1).samples.sample_count == 0
    assert shop.live(END + 3 * LIVE_STEP_MS).samples.sample_count == 3 * shop.series_count


def test_a_client_span_holds_its_server_span() -> None:
    shop, _ = history(9)
    spans = [s for c in live(shop, 5) for s in c.spans]
    by_id = {s.span_id: s for s in spans}
    pairs = [(by_id[s.parent_span_id], s) for s in spans if s.kind == "server" and s.parent_span_id]
    assert pairs
    for client, server in pairs:
        assert client.kind == "client"
        assert client.start_unix_nano <= server.start_unix_nano <= server.end_unix_nano <= client.end_unix_nano


def test_a_day_of_demand_rises_and_falls() -> None:
    ts = np.arange(END - 24 * HOUR, END, 60_000, dtype=np.int64)
    rate = conditions(1, ts).rate[0]
    assert rate.max() > 1.5 * rate.min() > 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_each_fault_shows_at_its_target_and_callers(kind: str, seed: int) -> None:
    fault = draw(seed, kind)
    assert fault is not None
    assert fault.truth in fault.targets
    shop, _ = history(seed)
    quiet = conditions(seed, np.arange(END - HOUR, END, LIVE_STEP_MS, dtype=np.int64))
    active = shop.inject(fault, END + LIVE_STEP_MS)
    ticks = live(shop, 20)
    ts = np.arange(END + 6 * LIVE_STEP_MS, END + 20 * LIVE_STEP_MS, LIVE_STEP_MS, dtype=np.int64)
    now = conditions(seed, ts, active)
    target, rows = SERVICES.index(fault.target), list(routes_of(fault.target))
    caller_rows = [i for s in callers_of(fault.target) for i in routes_of(s)]

    def ratio(name: str, index: int | list[int]) -> float:
        return float(getattr(now, name)[index].mean() / getattr(quiet, name)[index].mean())

    expected = {
        "cpu": lambda: ratio("cpu", target) > 1.8 and ratio("median_s", rows) > 2,
        "database": lambda: ratio("pool", target) > 2 and ratio("median_s", rows) > 3,
        "deploy": lambda: (
            ratio("errors", rows) > 20 and any(c.service == fault.target for t in ticks for c in t.changes)
        ),
        "memory": lambda: now.memory[target].max() > 1.4 * quiet.memory[target].max(),
        "network": lambda: ratio("median_s", rows) < 1.3 and ratio("median_s", caller_rows) > 2,
        "outage": lambda: ratio("rate", rows) < 0.3 and ratio("errors", caller_rows) > 20,
        "queue": lambda: ratio("queue", target) > 20 and ratio("median_s", rows) > 2,
    }
    assert expected[kind]()
    texts = {r.body.raw for t in ticks for r in t.logs if r.severity_number >= 13}
    assert any(line.text.split("{")[0] in text for line in fault.lines for text in texts)


def test_a_restart_resets_only_the_leaking_service() -> None:
    fault = draw(1, "memory")
    assert fault is not None
    shop, _ = history(1)
    shop.inject(fault, END)
    blocks = [c.samples for c in live(shop, 20)]
    for service in SERVICES:
        cpu = np.concatenate([values(b, "container_cpu_usage_seconds_total", service_name=service)[0] for b in blocks])
        assert bool(np.any(np.diff(cpu) < 0)) is (service == fault.target)
        assert np.all(cpu >= 0)


def test_without_a_fault_nothing_changes() -> None:
    assert draw(1, "none") is None
    quiet = conditions(1, np.arange(END, END + HOUR, LIVE_STEP_MS, dtype=np.int64))
    assert float(quiet.strength.max()) == 0
    assert float(quiet.errors.max()) < 0.02


def test_seeds_draw_all_kinds_and_an_unknown_kind_is_refused() -> None:
    drawn = [draw(seed) for seed in range(100)]
    assert {f.kind for f in drawn if isinstance(f, Fault)} == set(KINDS)
    with pytest.raises(InvalidInput, match="no fault 'fire'.*Known: none, cpu"):
        draw(1, "fire")


def test_costs_have_sixty_days_and_one_that_stands_out() -> None:
    table = shop_costs(1, END)
    days = np.asarray(table.columns["ChargePeriodStart"])
    cost = np.asarray(table.columns["EffectiveCost"])
    assert len(np.unique(days)) == DAYS
    assert len({len(v) for v in table.columns.values()}) == 1
    transfer = (np.asarray(table.columns["ServiceName"]) == "Data Transfer") & (
        np.asarray(table.columns["SubAccountName"]) == "shop-production"
    )
    per_day = {int(d): float(cost[transfer & (days == d)].sum()) for d in np.unique(days)}
    top = max(per_day, key=lambda d: per_day[d])
    assert top == (END // 86_400_000 - ANOMALY_DAYS_AGO) * 86_400_000
    assert per_day[top] > 5 * float(np.median(list(per_day.values())))


def test_the_route_table_is_consistent() -> None:
    assert {r.service for r in ROUTES} == set(SERVICES)
    assert callers_of("inventory") == ("checkout", "catalog")
