"""What goes with age and for want of room, and what stays."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from aiops.core.ports import Collected
from aiops.core.principal import LOCAL
from aiops.core.series import SampleBlock
from aiops.core.signals import ChangeEvent, LogQuery, LogRecord, Span
from aiops.core.untrusted import Untrusted
from aiops.store.telemetry.store import TelemetryStore
from tests.unit.store.telemetry.conftest import NOW, Hands

DAY_MS = 86_400_000
Opened = Callable[..., TelemetryStore]


def put(store: TelemetryStore, at_ms: int, series: int = 1, samples: int = 1, text: str = "line") -> None:
    """One of each signal at the time; metrics have values that do not compress."""
    values = np.random.default_rng(at_ms % 2**32).random((series, samples))
    block = SampleBlock.build(
        ((("__name__", "m"), ("i", str(i))), at_ms + 1000 * np.arange(samples), values[i]) for i in range(series)
    )
    ns = at_ms * 10**6
    span = Span(f"{at_ms:032x}", f"{at_ms:016x}", "", Untrusted("work"), "server", ns, ns + 1)
    log = LogRecord(ns, Untrusted(text), 9, "INFO", (), ())
    store.append(
        Collected(block, logs=(log,), spans=(span,), changes=(ChangeEvent(at_ms, "deploy", "x", Untrusted("v")),))
    )


def days_held(store: TelemetryStore) -> dict[str, list[int]]:
    """Ages in whole days of what is held, by signal."""
    end = NOW + 10 * DAY_MS
    block = store.scan((), 0, end, LOCAL)
    times = {
        "metrics": block.ts.tolist(),
        "logs": [r.time_unix_nano // 10**6 for r in store.logs(LogQuery(0, end, limit=10**6), LOCAL)],
        "traces": [s.start_unix_nano // 10**6 for s in store.spans(0, end, LOCAL)],
        "changes": [c.time_ms for c in store.changes(0, end, LOCAL)],
    }
    return {signal: sorted({NOW // DAY_MS - t // DAY_MS for t in found}) for signal, found in times.items()}


def test_each_signal_has_its_own_time(opened: Opened, clock: Hands) -> None:
    store = opened(retention_days=10, retention={"logs": 3, "traces": 2, "changes": 20})
    clock.now = NOW - 12 * DAY_MS
    for age in (12, 8, 4, 1, 0):
        clock.now = NOW - age * DAY_MS
        put(store, clock.now)
    assert store.apply_retention().tables > 0
    assert days_held(store) == {
        "metrics": [0, 1, 4, 8], "logs": [0, 1], "traces": [0, 1], "changes": [0, 1, 4, 8, 12],
    }  # fmt: skip


def test_what_is_past_its_signals_time_is_refused(opened: Opened, clock: Hands) -> None:
    store = opened(retention_days=10, retention={"logs": 3})
    ns = (NOW - 5 * DAY_MS) * 10**6
    log = LogRecord(ns, Untrusted("late"), 9, "INFO", (), ())
    block = SampleBlock.at(NOW - 5 * DAY_MS, [((("__name__", "m"),), 1.0)])
    report = store.append(Collected(block, logs=(log,)))
    assert (report.accepted, report.logs, report.too_old) == (1, 0, 1)


def test_above_the_limit_the_oldest_days_go_first(opened: Opened, clock: Hands) -> None:
    store = opened(max_bytes=3_000_000)
    for age in range(9, -1, -1):
        clock.now = NOW - age * DAY_MS
        put(store, clock.now, series=50, samples=2000)
        store.flush()
        while store.usage().open_blocks > 1:
            time.sleep(0.02)
        store.database.checkpoint()
    assert store.usage().used_bytes > 3_000_000
    done = store.apply_retention()
    assert done.tables == 0, "nothing is past its time"
    assert done.days == tuple(range(done.days[0], done.days[0] + len(done.days))), "one after the other"
    assert 0 < done.used_bytes <= 3_000_000
    held = days_held(store)
    assert held["metrics"] == held["logs"] == held["traces"] == held["changes"] == list(range(10 - len(done.days)))
    assert store.apply_retention().days == ()


def test_what_was_freed_is_used_again_so_that_the_file_stops_growing(opened: Opened, clock: Hands) -> None:
    limit = 4_000_000
    store = opened(max_bytes=limit)
    sizes = []
    for age in range(24, -1, -1):
        clock.now = NOW - age * DAY_MS
        put(store, clock.now, series=50, samples=2000)
        store.apply_retention()
        store.database.checkpoint()
        sizes.append(store.usage().file_bytes)
    print(f"a limit of {limit:,} bytes; the file took {max(sizes):,} at most, {sizes[-1]:,} at the end")
    assert max(sizes) < 2 * limit, "all 25 days take some 15 MB"
    assert 2 < len(days_held(store)["metrics"]) < 20


def test_today_stays_whatever_the_limit(opened: Opened, clock: Hands) -> None:
    store = opened(max_bytes=1)
    clock.now = NOW - DAY_MS
    put(store, clock.now)
    clock.now = NOW
    put(store, clock.now)
    assert len(store.apply_retention().days) == 1
    assert days_held(store)["metrics"] == [0]


def test_room_is_made_on_a_disk_below_its_floor(opened: Opened, clock: Hands) -> None:
    store = opened()
    put(store, NOW)
    store = opened(free_space_floor_bytes=1 << 60)
    clock.now = NOW + 40 * DAY_MS
    assert store.apply_retention().tables > 0


def test_usage_tells_each_signal(opened: Opened) -> None:
    store = opened()
    put(store, NOW, series=20, samples=500)
    store.flush()
    store.database.checkpoint()
    found = {one.signal: one for one in store.usage().signals}
    assert [found[s].rows for s in ("metrics", "logs", "traces", "changes", "costs")] == [10_000, 1, 1, 1, 0]
    assert found["metrics"].bytes > 0
    assert (found["metrics"].oldest_ms, found["metrics"].newest_ms) == (NOW, NOW + 499_000)
    assert found["logs"].oldest_ms == found["traces"].newest_ms == found["changes"].oldest_ms == NOW
    assert found["costs"].oldest_ms == 0


@pytest.mark.parametrize("days", [0, -1])
def test_a_retention_of_no_days_is_refused(opened: Opened, days: int) -> None:
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        opened(retention={"logs": days})
