"""Series from the logs and spans that the store keeps, written beside the other metrics.

The store tells of rows once they are committed, each once, so that a replayed body adds nothing. Counting runs on a
thread of its own; where it cannot keep up, rows are left out of the series and counted as ``skipped``.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from aiops.core.errors import AiopsError
from aiops.core.ports import Clock, Collected, TelemetrySink, system_clock
from aiops.core.series import METRIC_NAME, MetricMetadata, SampleBlock, labels_of
from aiops.core.signals import LogRecord, Span
from aiops.ingest.event_series import GRACE_MS, LIMIT, STEP_MS, EventSeries
from aiops.ingest.log_series import LOG_METADATA, TemplateCounts
from aiops.ingest.service_edges import METADATA as EDGE_METADATA
from aiops.ingest.service_edges import ServiceEdges
from aiops.ingest.span_metrics import METADATA, SpanMetrics

log = logging.getLogger(__name__)

SKEW = "traces_service_graph_clock_skew_seconds"
SKEW_METADATA = (
    MetricMetadata(SKEW, "gauge", "seconds", "How far the callee's clock is ahead of the caller's, 0 where unknown."),
)
WAITING = 500_000
"""Rows that wait to be counted at most."""
MANY = 20_000
"""So many rows are counted at once, not with the next tick."""
EVERY_S = 5.0
Rows = tuple[Sequence[LogRecord], Sequence[Span]]


@dataclass(frozen=True, slots=True)
class SeriesStatus:
    """How counting does.

    Attributes:
        series: counters and histograms that are kept.
        refused: events of further ones, past the cap.
        late: events too late for their time's bin.
        skipped: rows left out because counting was behind.
    """

    series: int
    refused: int
    late: int
    skipped: int


class SignalSeries:
    """Counts logs and spans, and writes the counters to ``sink``.

    Args:
        sink: where the samples go; they are appended again until it takes them.
        limit: counters and histograms at most.
        step_ms: how far apart their samples are.
    """

    def __init__(
        self,
        sink: TelemetrySink,
        clock: Clock = system_clock,
        limit: int = LIMIT,
        step_ms: int = STEP_MS,
        grace_ms: int = GRACE_MS,
    ) -> None:
        self._sink = sink
        self._clock = clock
        self._series = EventSeries(limit, step_ms, grace_ms)
        self._spans = SpanMetrics(self._series)
        self._edges = ServiceEdges(self._series)
        self._templates = TemplateCounts(self._series)
        self._queue: queue.SimpleQueue[Rows] = queue.SimpleQueue()
        self._waiting = 0
        self._unsent: list[SampleBlock] = []
        self._described = False
        self._skipped = 0
        self._lock = threading.Lock()
        self._stopping = False
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def note(self, logs: Sequence[LogRecord], spans: Sequence[Span]) -> None:
        """Take rows to count; never waits."""
        count = len(logs) + len(spans)
        if self._waiting + count > WAITING:
            self._skipped += count
            return
        self._waiting += count
        self._queue.put((logs, spans))
        if self._waiting > MANY:
            self._wake.set()

    def flush(self) -> int:
        """Count what is waiting and write the samples of the bins that have ended; returns samples written.

        Raises:
            AiopsError: the sink did not take them; they are kept for the next call.
        """
        with self._lock:
            now = self._clock()
            self._take()
            self._edges.expire(now)
            block = self._series.close(now)
            if len(block):
                self._unsent.append(block)
                if skew := self._skew(now):
                    self._unsent.append(skew)
            del self._unsent[:-32]
            written = 0
            while self._unsent:
                about = () if self._described else (*METADATA, *EDGE_METADATA, *LOG_METADATA, *SKEW_METADATA)
                self._sink.append(Collected(samples=self._unsent[0], metadata=about))
                self._described = True
                written += self._unsent.pop(0).sample_count
            return written

    def _take(self) -> None:
        while True:
            try:
                logs, spans = self._queue.get_nowait()
            except queue.Empty:
                return
            self._waiting = max(self._waiting - len(logs) - len(spans), 0)
            now = self._clock()
            self._templates.add(logs, now)
            self._spans.add(spans, now)
            self._edges.add(spans, now)

    def _skew(self, now_ms: int) -> SampleBlock | None:
        found, self._edges.skew = self._edges.skew, {}
        rows = [
            (labels_of({METRIC_NAME: SKEW, "client": client, "server": server}), value)
            for (client, server), value in found.items()
        ]
        return SampleBlock.at(now_ms, rows) if rows else None

    def status(self) -> SeriesStatus:
        return SeriesStatus(len(self._series), self._series.refused, self._series.late, self._skipped)

    # ------------------------------------------------------------------ life

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="signal-series", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write what can be written, and end."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(10)
        self._write()

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(EVERY_S)
            self._wake.clear()
            self._write()

    def _write(self) -> None:
        try:
            self.flush()
        except AiopsError as error:
            log.warning("the series of logs and spans wait: %s", error)
        except Exception:
            log.exception("the series of logs and spans could not be written")
