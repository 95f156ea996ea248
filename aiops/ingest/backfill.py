"""Pulls history from a telemetry source, going on where an earlier run stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aiops.core.errors import InvalidInput, TransientError
from aiops.core.ports import (
    Clock,
    Collected,
    HistorySource,
    JobProgress,
    ProgressJobHandler,
    TelemetrySource,
    system_clock,
)
from aiops.store.telemetry.store import TelemetryStore

ATTEMPTS = 5
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class BackfillResult:
    """What a run brought; ``duplicates`` were there already."""

    samples: int
    duplicates: int
    refused: int


def backfill(
    sink: TelemetryStore,
    name: str,
    source: TelemetrySource[Any],
    start_ms: int,
    end_ms: int,
    progress: Callable[[float], None] = lambda _share: None,
    pause: Callable[[float], object] = lambda _seconds: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> BackfillResult:
    """Store the history of ``[start_ms, end_ms)`` chunk by chunk, each with its resume point.

    A source that brings no history (:class:`~aiops.core.ports.HistorySource`) is polled until it has caught up.

    Args:
        sink: where rows go; the resume point is kept there under ``backfill:<name>``.
        progress: told the share that is done, in [0, 1].
        pause: called with the seconds to wait before a failed chunk is tried again.
        cancelled: asked before each chunk; true ends the run early, which a later one continues.

    Raises:
        TransientError: the source or the store failed several times in a row; run again to go on.
        PermanentError: the source refuses.
    """
    key = f"backfill:{name}"
    samples = duplicates = refused = failures = 0
    while True:
        try:
            for collected in _chunks(sink, key, source, start_ms, end_ms):
                report = sink.append(collected, source=key)
                failures = 0
                samples += report.accepted
                duplicates += report.duplicates
                refused += report.conflicts + report.too_new + report.too_old + report.over_limit
                progress(min(max(collected.done, 0.0), 1.0))
                if cancelled():
                    return BackfillResult(samples, duplicates, refused)
        except TransientError as error:
            failures += 1
            if failures >= ATTEMPTS:
                raise
            pause(error.retry_after_s or 2.0**failures)
            continue
        sink.append(Collected(cursor=""), source=key)
        progress(1.0)
        return BackfillResult(samples, duplicates, refused)


def _chunks(
    sink: TelemetryStore, key: str, source: TelemetrySource[Any], start_ms: int, end_ms: int
) -> Iterator[Collected]:
    if isinstance(source, HistorySource):
        yield from source.history(start_ms, end_ms, sink.cursor(key))
        return
    while True:
        collected = source.poll(sink.cursor(key))
        yield collected
        if collected.done >= 1:
            return


def backfill_job(
    sink: TelemetryStore,
    sources: Mapping[str, TelemetrySource[Any]],
    pause: Callable[[float], object],
    clock: Clock = system_clock,
) -> ProgressJobHandler:
    """The job ``backfill`` with its arguments ``source`` (a configured name) and ``days`` (default 1)."""

    def run(arguments: Mapping[str, str], progress: JobProgress) -> None:
        name = arguments.get("source", "")
        if name not in sources:
            raise InvalidInput(f"There is no source '{name}'.", hint=f"Known: {', '.join(sorted(sources))}.")
        now = clock()
        start = now - round(float(arguments.get("days", "1")) * DAY_MS)
        done = backfill(sink, name, sources[name], start, now, progress, pause)
        progress(1.0, f"{done.samples} samples, {done.duplicates} were there already")

    return run
