from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from aiops.core.errors import InvalidInput, PermanentError, TransientError
from aiops.core.ports import Collected, PluginContext, PluginOptions, TelemetrySource
from aiops.core.principal import LOCAL
from aiops.core.series import SampleBlock, labels_of
from aiops.core.signals import LogQuery, LogRecord
from aiops.core.untrusted import Untrusted
from aiops.ingest.backfill import BackfillResult, backfill, backfill_job
from aiops.ingest.collector import Collector
from aiops.settings import StoreSettings
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore

NOW = 1_790_000_000_000
SERIES = labels_of({"__name__": "m"})


class Numbers(TelemetrySource[PluginOptions]):
    """Brings samples ``cursor`` to ``total`` in chunks; fails on the polls it is told to."""

    interval_s = 0.01

    def __init__(self, total: int = 10, chunk: int = 3, failures: dict[int, Exception] | None = None) -> None:
        super().__init__(PluginOptions(), PluginContext("numbers"))
        self.total, self.chunk, self.failures = total, chunk, failures or {}
        self.polls: list[str] = []

    def poll(self, cursor: str) -> Collected:
        self.polls.append(cursor)
        if error := self.failures.pop(len(self.polls), None):
            raise error
        start = int(cursor or 0)
        end = min(start + self.chunk, self.total)
        times = [NOW + i for i in range(start, end)]
        block = SampleBlock.build([(SERIES, times, [float(i) for i in range(start, end)])])
        return Collected(samples=block, cursor=str(end), done=end / self.total)


class Archive(Numbers):
    def history(self, start_ms: int, end_ms: int, cursor: str) -> Iterator[Collected]:
        at = int(cursor or start_ms)
        while at < end_ms:
            self.polls.append(str(at))
            if error := self.failures.pop(len(self.polls), None):
                raise error
            end = min(at + self.chunk, end_ms)
            block = SampleBlock.build([(SERIES, list(range(at, end)), [1.0] * (end - at))])
            yield Collected(samples=block, cursor=str(end), done=(end - start_ms) / (end_ms - start_ms))
            at = end


@pytest.fixture
def store() -> Iterator[TelemetryStore]:
    built = TelemetryStore(TelemetryDatabase(None, StoreSettings(), lambda: NOW + 1000))
    yield built
    built.close()


def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("it did not happen within 10 s")


def stored(store: TelemetryStore) -> int:
    return store.scan((), 0, 1 << 60, LOCAL).sample_count


def test_sources_are_polled_from_their_cursor_and_a_bad_one_stops_no_other(store: TelemetryStore) -> None:
    good = Numbers(failures={2: TransientError("busy", retry_after_s=0.01), 3: RuntimeError("a bug")})
    bad = Numbers(failures={i: PermanentError("no such host \u202e") for i in range(1, 10_000)})
    collector = Collector(store, {"good": good, "bad": bad}, lambda: NOW + 1000)
    collector.start()
    until(lambda: stored(store) == 10)
    until(lambda: collector.status()[0].state == "ok")
    collector.stop()
    fine, failing = collector.status()
    assert good.polls[:5] == ["", "3", "3", "3", "6"]
    assert (fine.name, fine.newest_ms, fine.failures, fine.lag_ms) == ("good", NOW + 9, 0, 991)
    assert (failing.state, failing.last_error, failing.last_success_ms) == ("failing", "no such host", 0)
    assert not any(t.name.startswith("collect-") for t in threading.enumerate())


def test_a_source_that_fails_slows_down(store: TelemetryStore) -> None:
    collector = Collector(store, {"s": Numbers()}, lambda: NOW)
    pauses = [collector._failed("s", TransientError("x"), 15.0) for _ in range(12)]
    assert all(a <= b * 2 for a, b in itertools.pairwise(pauses))
    assert 150 <= pauses[-1] <= 300
    assert collector._failed("s", TransientError("x", retry_after_s=10_000), 15.0) <= 300


def test_rows_and_cursor_are_committed_together(store: TelemetryStore) -> None:
    collector = Collector(store, {"s": Numbers()}, lambda: NOW)
    collector.poll_once("s")
    assert (store.cursor("s"), stored(store)) == ("3", 3)
    lines = Collected(logs=(LogRecord(NOW * 10**6, Untrusted("x")),), cursor="7")
    store.append(lines, source="t")
    assert (store.cursor("t"), len(store.logs(LogQuery(NOW, NOW + 1), LOCAL))) == ("7", 1)


def test_backfill_resumes_where_it_stopped(store: TelemetryStore) -> None:
    broken = Archive(chunk=10, failures={i: TransientError("down") for i in range(4, 20)})
    shares: list[float] = []
    with pytest.raises(TransientError):
        backfill(store, "p", broken, NOW - 100, NOW, shares.append)
    assert (shares[-1], stored(store), store.cursor("backfill:p")) == (pytest.approx(0.3), 30, str(NOW - 70))
    again = Archive(chunk=10, failures={2: TransientError("once")})
    pauses: list[float] = []
    assert backfill(store, "p", again, NOW - 100, NOW, shares.append, pauses.append) == BackfillResult(70, 0, 0)
    assert again.polls[0] == str(NOW - 70)
    assert (shares[-1], len(pauses), stored(store), store.cursor("backfill:p")) == (1.0, 1, 100, "")


def test_the_backfill_job_reads_the_days_it_is_asked_for(store: TelemetryStore) -> None:
    lines: list[str] = []
    run = backfill_job(store, {"s": Numbers(total=4)}, lambda _: None, lambda: NOW)
    run({"source": "s", "days": "2"}, lambda share=None, line="": lines.append(line))
    assert (stored(store), lines[-1]) == (4, "4 samples, 0 were there already")
    with pytest.raises(InvalidInput, match="'nothing'"):
        run({"source": "nothing"}, lambda share=None, line="": None)


def test_backfill_can_be_cancelled_and_drains_a_source_without_history(store: TelemetryStore) -> None:
    source = Numbers()
    assert backfill(store, "n", source, 0, NOW, cancelled=lambda: True).samples == 3
    assert backfill(store, "n", source, 0, NOW).samples == 7
    assert stored(store) == 10
