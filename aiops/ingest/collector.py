"""Pulls from telemetry sources on their interval, each in a thread of its own."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from aiops.core.errors import AiopsError, TransientError
from aiops.core.ports import Clock, Collected, TelemetrySource, system_clock
from aiops.core.untrusted import Untrusted
from aiops.store.telemetry.store import AppendReport, TelemetryStore

log = logging.getLogger(__name__)

BACKOFF_FIRST_S = 1.0
BACKOFF_MAX_S = 300.0
STOP_S = 10.0


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """How a source does. Times are ms, 0 where it has not happened.

    Attributes:
        state: ``starting``, ``ok``, ``catching_up`` (more is waiting) or ``failing``.
        last_success_ms: when a poll was last stored.
        newest_ms: time of the newest sample, log line or span it brought.
        lag_ms: how far ``newest_ms`` is behind the clock.
        failures: polls failed in a row.
        refused: samples that the store did not take, in all.
        done: share of the backlog that is fetched.
    """

    name: str
    state: str = "starting"
    last_success_ms: int = 0
    last_error: str = ""
    last_error_ms: int = 0
    newest_ms: int = 0
    lag_ms: int = 0
    failures: int = 0
    refused: int = 0
    done: float = 0.0


class Collector:
    """Polls every source; rows and the source's cursor are committed together.

    A failing poll is tried again with growing, jittered pauses; other sources are not held up.
    """

    def __init__(
        self, sink: TelemetryStore, sources: Mapping[str, TelemetrySource[Any]], clock: Clock = system_clock
    ) -> None:
        self._sink = sink
        self._sources = dict(sources)
        self._clock = clock
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._status = {name: SourceStatus(name) for name in self._sources}
        self._jitter = random.Random()  # noqa: S311 - spreads retries, no secret

    def start(self) -> None:
        """Begin polling. Call once."""
        for name, source in self._sources.items():
            thread = threading.Thread(target=self._loop, args=(name, source), name=f"collect-{name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End after the polls under way; a poll that hangs is left behind."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(STOP_S)
            if thread.is_alive():
                log.warning("%s did not stop in time.", thread.name)

    def status(self) -> list[SourceStatus]:
        now = self._clock()
        with self._lock:
            found = list(self._status.values())
        return [replace(s, lag_ms=max(0, now - s.newest_ms) if s.newest_ms else 0) for s in found]

    def poll_once(self, name: str) -> Collected:
        """Poll one source and store what it gives. Raises what the source or the store raises."""
        collected = self._sources[name].poll(self._sink.cursor(name))
        report = self._sink.append(collected, source=name)
        self._succeeded(name, collected, report)
        return collected

    def _loop(self, name: str, source: TelemetrySource[Any]) -> None:
        delay = 0.0
        while not self._stopping.wait(delay):
            began = self._clock()
            try:
                collected = self.poll_once(name)
            except Exception as error:  # noqa: BLE001 - the loop's boundary: one source must not end its thread
                delay = self._failed(name, error, source.interval_s)
                continue
            took = (self._clock() - began) / 1000
            delay = 0.0 if collected.done < 1 else max(0.0, source.interval_s - took)

    def _succeeded(self, name: str, collected: Collected, report: AppendReport) -> None:
        refused = report.conflicts + report.too_new + report.too_old + report.over_limit
        with self._lock:
            before = self._status[name]
            self._status[name] = replace(
                before,
                state="ok" if collected.done >= 1 else "catching_up",
                last_success_ms=self._clock(),
                newest_ms=max(before.newest_ms, newest_of(collected)),
                failures=0,
                refused=before.refused + refused,
                done=collected.done,
            )
        if refused and not before.refused:
            log.warning("Source '%s' brought %d samples that the store refused.", name, refused)
        if before.failures:
            log.info("Source '%s' works again after %d failures.", name, before.failures)

    def _failed(self, name: str, error: Exception, interval_s: float) -> float:
        """Record a failure; returns how long to pause."""
        text = Untrusted(str(error) or type(error).__name__).display()
        with self._lock:
            before = self._status[name]
            failures = before.failures + 1
            self._status[name] = replace(
                before, state="failing", last_error=text, last_error_ms=self._clock(), failures=failures
            )
        if not isinstance(error, AiopsError):
            log.error("Source '%s' failed unexpectedly.", name, exc_info=error)
        elif before.state != "failing" or before.last_error != text:
            log.warning("Source '%s' failed: %s", name, text)
        longest = BACKOFF_MAX_S if isinstance(error, TransientError) else max(BACKOFF_MAX_S, interval_s)
        pause = min(max(BACKOFF_FIRST_S, interval_s / 4) * 2.0 ** min(failures - 1, 16), longest)
        if isinstance(error, TransientError) and error.retry_after_s:
            pause = max(pause, min(error.retry_after_s, longest))
        return pause * self._jitter.uniform(0.5, 1.0)


def newest_of(collected: Collected) -> int:
    """Time (ms) of the newest row, 0 where there is none."""
    times = [int(collected.samples.ts.max())] if collected.samples.sample_count else []
    times += [r.time_unix_nano // 1_000_000 for r in collected.logs]
    times += [s.start_unix_nano // 1_000_000 for s in collected.spans]
    times += [c.time_ms for c in collected.changes]
    return max(times, default=0)
