"""How much detection asks of the user's own metrics source, kept within a budget.

A bucket of queries and one of samples refill at the set rates; a query waits until both hold enough, with a little
jitter, so that many services that watch one server do not ask at the same instant. A bucket holds what ten seconds
bring. An answer that is larger than was foreseen is paid afterwards.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from aiops.core.errors import TransientError
from aiops.core.ports import MetricQuerier
from aiops.core.principal import Principal
from aiops.core.series import Labels, Matcher, MetricMetadata, QueryResult, SampleBlock
from aiops.settings import LoadSettings

HELD_S = 10.0
WINDOW_S = 300.0
JITTER_S = 0.05
LONGEST_WAIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Load:
    """What was asked over the last five minutes, per second, beside its limits; ``cut`` queries gave more series than
    ``series_per_query`` and were cut to that."""

    queries_per_s: float
    samples_per_s: float
    waited_s: float
    cut: int
    limits: LoadSettings

    @property
    def words(self) -> str:
        cut = f", {self.cut} answers cut to {self.limits.series_per_query:,} series" if self.cut else ""
        return (
            f"asks {self.queries_per_s:.2g} of {self.limits.queries_per_s:g} queries/s, "
            f"{self.samples_per_s:,.0f} of {self.limits.samples_per_s:,.0f} samples/s{cut}"
        )


class BudgetedQuerier(MetricQuerier):
    """Passes queries on to ``inner`` as fast as the budget lets them. Thread-safe; names and labels count as queries.

    Args:
        monotonic, sleep: seconds; tests pass their own.
    """

    def __init__(
        self,
        inner: MetricQuerier,
        limits: LoadSettings,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name = inner.name
        self._inner, self._limits = inner, limits
        self._monotonic, self._sleep = monotonic, sleep
        self._lock = threading.Lock()
        self._at = self._began = monotonic()
        self._queries = max(limits.queries_per_s * HELD_S, 1.0)
        self._samples = limits.samples_per_s * HELD_S
        self._done: deque[tuple[float, int, float]] = deque()
        self._cut = 0

    def load(self) -> Load:
        with self._lock:
            now = self._monotonic()
            self._forget(now)
            span = max(min(now - self._began, WINDOW_S), 1.0)
            return Load(
                len(self._done) / span,
                sum(samples for _, samples, _ in self._done) / span,
                sum(waited for _, _, waited in self._done),
                self._cut,
                self._limits,
            )

    def instant(self, query: str, time_ms: int, principal: Principal) -> QueryResult:
        return self._paid(lambda: self._inner.instant(query, time_ms, principal))

    def range(self, query: str, start_ms: int, end_ms: int, step_ms: int, principal: Principal) -> QueryResult:
        return self._paid(lambda: self._inner.range(query, start_ms, end_ms, step_ms, principal))

    def series(
        self, selectors: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int, principal: Principal, limit: int = 0
    ) -> list[Labels]:
        waited = self._wait()
        found = self._inner.series(selectors, start_ms, end_ms, principal, limit)
        self._book(len(found), waited)
        return found

    def label_names(
        self, selectors: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int, principal: Principal
    ) -> list[str]:
        waited = self._wait()
        found = self._inner.label_names(selectors, start_ms, end_ms, principal)
        self._book(0, waited)
        return found

    def label_values(
        self, name: str, selectors: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int, principal: Principal
    ) -> list[str]:
        waited = self._wait()
        found = self._inner.label_values(name, selectors, start_ms, end_ms, principal)
        self._book(0, waited)
        return found

    def metadata(self, principal: Principal) -> list[MetricMetadata]:
        waited = self._wait()
        found = self._inner.metadata(principal)
        self._book(0, waited)
        return found

    def _paid(self, ask: Callable[[], QueryResult]) -> QueryResult:
        waited = self._wait()
        try:
            found = ask()
        except Exception:
            self._book(0, waited)
            raise
        self._book(found.block.sample_count, waited)
        if len(found.block) <= self._limits.series_per_query:
            return found
        with self._lock:
            self._cut += 1
        return replace(found, block=_first(found.block, self._limits.series_per_query))

    def _wait(self) -> float:
        """Until both buckets hold something; returns the seconds waited."""
        waited = 0.0
        while True:
            with self._lock:
                now = self._monotonic()
                passed, self._at = now - self._at, now
                limits = self._limits
                most = max(limits.queries_per_s * HELD_S, 1.0)
                self._queries = min(self._queries + passed * limits.queries_per_s, most)
                self._samples = min(self._samples + passed * limits.samples_per_s, limits.samples_per_s * HELD_S)
                if self._queries >= 1 and self._samples >= 0:
                    self._queries -= 1
                    return waited
                need = max((1 - self._queries) / limits.queries_per_s, -self._samples / limits.samples_per_s)
            if waited + need > LONGEST_WAIT_S:
                raise TransientError(
                    f"The load budget of {self.name} is spent.", hint="Raise detection.load_budget or watch less."
                )
            pause = max(need, 0.001) + random.random() * JITTER_S  # noqa: S311
            self._sleep(pause)
            waited += pause

    def _book(self, samples: int, waited: float) -> None:
        with self._lock:
            now = self._monotonic()
            self._samples -= samples
            self._done.append((now, samples, waited))
            self._forget(now)

    def _forget(self, now: float) -> None:
        while self._done and self._done[0][0] < now - WINDOW_S:
            self._done.popleft()


def _first(block: SampleBlock, count: int) -> SampleBlock:
    return SampleBlock.build((block.labels[row], *block.series(row)) for row in range(count))
