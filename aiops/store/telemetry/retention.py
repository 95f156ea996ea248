"""What is too old, and what has to go for want of room.

By time: whole days that ended before a signal's own limit. By size: while the file's used blocks and its log exceed
``store.max_bytes``, the oldest day that holds metrics, logs, traces or changes goes, of all four together; never
today, never costs. A day is a table of its own, so its blocks are free at the next checkpoint: those at the end of the
file are cut off, the others are used again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from aiops.store.telemetry.closed import ClosedSamples
from aiops.store.telemetry.database import FOR_EVER, TelemetryDatabase, Transaction
from aiops.store.telemetry.exemplars import Exemplars
from aiops.store.telemetry.schema import BLOCK_MS, DAY_MS, PARTITIONED, Partitions
from aiops.store.telemetry.signals import Signals
from aiops.store.telemetry.usage import used_bytes

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Dropped:
    """What one run did.

    Attributes:
        tables: that went because of their age.
        days: that went for want of room, as numbers of days since the epoch.
        used_bytes: afterwards; 0 where no limit is set.
    """

    tables: int
    days: tuple[int, ...] = ()
    used_bytes: int = 0


class Retention:
    """Drops what is past its time from one database."""

    def __init__(
        self,
        database: TelemetryDatabase,
        partitions: Partitions,
        samples: ClosedSamples,
        signals: Signals,
        exemplars: Exemplars,
    ) -> None:
        self._database = database
        self._partitions = partitions
        self._samples = samples
        self._signals = signals
        self._exemplars = exemplars

    def apply(self) -> Dropped:
        """Drop by time, then by size. Call it from any thread but the writer's."""
        if self._database.path is None:
            return Dropped(0)
        tables = self._database.write(self._by_age, None, frees=True)
        limit = self._database.settings.max_bytes
        if not limit:
            return Dropped(tables)
        days: list[int] = []
        while (used := self._used_bytes()) > limit:
            day = self._oldest_day()
            if day is None:
                log.warning("The store uses %d bytes, above store.max_bytes, and holds nothing older than today.", used)
                break
            self._database.write(self._by_size, (day + 1) * DAY_MS, frees=True)
            days.append(day)
        if days:
            log.info("Dropped the %d oldest days, since the store was above store.max_bytes.", len(days))
        return Dropped(tables, tuple(days), used)

    # ------------------------------------------------------------------ pieces

    def _by_age(self, tx: Transaction, payloads: list[None]) -> list[int]:
        dropped = self._drop(tx, self._database.oldest_ms)
        costs_ms = self._database.oldest_ms("costs")
        if costs_ms > FOR_EVER:
            tx.con.execute('DELETE FROM costs WHERE "ChargePeriodEnd" < ?', [costs_ms])
        if dropped:
            log.info("Retention dropped %d tables.", dropped)
        return [dropped] * len(payloads)

    def _by_size(self, tx: Transaction, cutoffs: list[int]) -> list[int]:
        cutoff = max(cutoffs)
        dropped = self._drop(tx, lambda _signal: cutoff) + self._samples.rollups.drop_before(tx, cutoff)
        return [dropped] * len(cutoffs)

    def _drop(self, tx: Transaction, cutoff_ms: Callable[[str], int]) -> int:
        metrics = cutoff_ms("metrics")
        dropped = self._samples.drop_before(tx, metrics) + self._exemplars.drop_before(tx, metrics)
        return dropped + self._signals.drop_before(tx, cutoff_ms("logs"), cutoff_ms("traces"), cutoff_ms("changes"))

    def _used_bytes(self) -> int:
        """After a checkpoint, so that what was dropped counts no more."""
        self._database.checkpoint()
        with self._database.read() as con:
            return used_bytes(con) + self._database.log_bytes()

    def _oldest_day(self) -> int | None:
        """The oldest day before today that holds anything which may go."""
        today = self._database.clock() // DAY_MS
        days = {
            n * BLOCK_MS // DAY_MS if kind == "head" else n
            for kind in PARTITIONED
            for n in self._partitions.numbers(kind)
        }
        with self._database.read() as con:
            row = con.execute("SELECT min(time_ms) FROM changes").fetchone()
        if row and row[0] is not None:
            days.add(int(row[0]) // DAY_MS)
        return min((day for day in days if day < today), default=None)
