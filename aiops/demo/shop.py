"""The simulated shop as a source of telemetry: history at once, then live scrapes that continue it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from aiops.core.ports import Clock, Collected, PluginContext, PluginOptions, TelemetrySource, system_clock
from aiops.demo.fault import Fault
from aiops.demo.metrics import METADATA, ShopMetrics
from aiops.demo.physics import conditions
from aiops.demo.signals import ShopSignals, deploys

LIVE_STEP_MS = 5_000
FINE_MS = 2 * 3600_000
"""The newest part of the history, at the live step."""
MIDDLE_MS = 24 * 3600_000
MIDDLE_STEP_MS = 30_000
"""The last day, at a step of its own."""
BACKFILL_STEP_S = 120.0
BACKFILL_DAYS = 14
TRACES = 8
"""Sampled traces a live step, in history and live alike, so that their number is no signal."""
SIGNALS_MS = 3600_000
"""How much of the history has log lines and spans."""
CHUNK_TIMES = 720
_CATCH_UP = 720


class ShopSource(TelemetrySource[PluginOptions]):
    """A seeded shop: same seed and times, same data. Threads may call it; one call runs at a time.

    The history's step is ``step_s`` up to the last day, 30 s up to the last two hours, then 5 s; log
    lines and spans cover the last hour. All of it carries ``simulated="true"``.
    """

    interval_s = 1.0
    """Asked more often than it has news, so that a scrape is stored before its step is judged."""

    def __init__(self, seed: int, clock: Clock = system_clock) -> None:
        super().__init__(PluginOptions(), PluginContext("shop", clock))
        self.seed = seed
        self.fault: Fault | None = None
        self._metrics = ShopMetrics(seed)
        self._signals = ShopSignals(seed)
        self._last_ms = 0
        self._lock = threading.Lock()

    @property
    def series_count(self) -> int:
        return len(self._metrics.labels)

    @staticmethod
    def plan(start_ms: int, end_ms: int, step_s: float = BACKFILL_STEP_S) -> list[NDArray[np.int64]]:
        """The scrape times of a backfill, in chunks; all on the live grid, ascending, below ``end_ms``."""
        edges = (
            (start_ms, end_ms - MIDDLE_MS, int(step_s * 1000)),
            (end_ms - MIDDLE_MS, end_ms - FINE_MS, MIDDLE_STEP_MS),
            (end_ms - FINE_MS, end_ms, LIVE_STEP_MS),
        )
        chunks: list[NDArray[np.int64]] = []
        cursor = -(-start_ms // LIVE_STEP_MS) * LIVE_STEP_MS
        for _, stop, step in edges:
            if stop <= cursor:
                continue
            times = np.arange(cursor, stop, step, dtype=np.int64)
            chunks += [times[i : i + CHUNK_TIMES] for i in range(0, len(times), CHUNK_TIMES)]
            cursor = int(times[-1]) + step
            cursor = -(-cursor // LIVE_STEP_MS) * LIVE_STEP_MS
        return chunks

    def backfill(self, start_ms: int, end_ms: int, step_s: float = BACKFILL_STEP_S) -> Iterator[Collected]:
        """History in chunks, ``done`` telling the share delivered. Live scrapes go on from its end."""
        chunks = self.plan(start_ms, end_ms, step_s)
        before, last_day = start_ms, start_ms
        for i, ts in enumerate(chunks):
            with self._lock:
                now = conditions(self.seed, ts)
                block = self._metrics.scrape(now, min(before, int(ts[0])), None)
                before = self._last_ms = int(ts[-1])
                fine = int(ts[0]) >= end_ms - SIGNALS_MS
                logs, spans = self._signals.at(now, LIVE_STEP_MS / 1000.0, TRACES, None) if fine else ([], [])
            end = int(ts[-1]) + 1 if i + 1 < len(chunks) else end_ms
            changes = deploys(self.seed, last_day, end)
            last_day = end
            yield Collected(
                block, METADATA if i == 0 else (), tuple(logs), tuple(spans), tuple(changes), done=(i + 1) / len(chunks)
            )

    def inject(self, fault: Fault, onset_ms: int) -> Fault:
        """Start a fault at ``onset_ms``, or just after the newest scrape if that is later; one at a time."""
        with self._lock:
            self.fault = fault.at(max(onset_ms, self._last_ms + LIVE_STEP_MS // 2))
            return self.fault

    def live(self, now_ms: int) -> Collected:
        """All scrapes due since the last call, on the 5 s grid; nothing when none is due."""
        with self._lock:
            newest = now_ms // LIVE_STEP_MS * LIVE_STEP_MS
            first = self._last_ms + LIVE_STEP_MS if self._last_ms else newest
            first = max(first, newest - _CATCH_UP * LIVE_STEP_MS)
            if newest < first:
                return Collected(cursor=str(self._last_ms))
            ts = np.arange(first, newest + 1, LIVE_STEP_MS, dtype=np.int64)
            before = self._last_ms or int(ts[0]) - LIVE_STEP_MS
            now = conditions(self.seed, ts, self.fault)
            block = self._metrics.scrape(now, before, self.fault)
            logs, spans = self._signals.at(now, LIVE_STEP_MS / 1000.0, TRACES, self.fault)
            changes = deploys(self.seed, before, newest, self.fault)
            self._last_ms = newest
            return Collected(block, METADATA, tuple(logs), tuple(spans), tuple(changes), cursor=str(newest))

    def poll(self, cursor: str) -> Collected:  # noqa: ARG002 - the shop remembers what it gave
        return self.live(self.context.clock())
