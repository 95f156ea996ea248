"""The telemetry store: the one door to samples, logs, spans, changes and costs.

Implements the ports ``MetricReader``, ``SignalReader``, ``CostReader`` and ``TelemetrySink``. A return from
:meth:`TelemetryStore.append` means committed and synced; every read obeys the principal's scope.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb

from aiops.core.cost import CostQuery, CostSeries, CostTable
from aiops.core.errors import QueryError
from aiops.core.ports import Collected, LogMiner
from aiops.core.principal import Principal
from aiops.core.series import METRIC_NAME, Exemplar, Labels, Matcher, MetricMetadata, NativeHistogram, SampleBlock
from aiops.core.signals import ChangeEvent, LogPattern, LogQuery, LogRecord, ServiceGraph, Span
from aiops.store.telemetry import patterns
from aiops.store.telemetry.archive import Archive
from aiops.store.telemetry.closed import ClosedSamples
from aiops.store.telemetry.codec import CODECS
from aiops.store.telemetry.costs import Costs, check_table
from aiops.store.telemetry.database import TelemetryDatabase, Transaction
from aiops.store.telemetry.encryption import key_of
from aiops.store.telemetry.exemplars import Exemplars
from aiops.store.telemetry.graph import service_graph
from aiops.store.telemetry.head import BlockSource, Head, SampleCounts, SampleSource, Settle
from aiops.store.telemetry.journal import Journal
from aiops.store.telemetry.labels import NEVER_LAST, SeriesIndex
from aiops.store.telemetry.log_templates import LogTemplates
from aiops.store.telemetry.opened import OpenedScan
from aiops.store.telemetry.retention import Dropped, Retention
from aiops.store.telemetry.schema import DAY_MS, Partitions
from aiops.store.telemetry.signals import Listener, Signals
from aiops.store.telemetry.spill import Spill
from aiops.store.telemetry.usage import FileUsage, Signal, signal_usage, used_bytes

log = logging.getLogger(__name__)

KEY_LIFE_MS = DAY_MS
FAMILY_SUFFIXES = ("_bucket", "_sum", "_count", "_total", "_created", "_info")


@dataclass(frozen=True, slots=True)
class AppendReport:
    """What became of one append.

    Attributes:
        accepted: new samples.
        duplicates: samples that were there already with the same bits.
        conflicts: samples whose (series, time) holds another value; the first one stays.
        too_new: samples, logs or spans further ahead of the clock than ``store.future_limit_s``; refused.
        too_old: those before the retention; refused.
        logs, spans, changes, exemplars, histograms: new rows.
        replayed: the key was seen in the last 24 h; nothing was added.
    """

    accepted: int = 0
    duplicates: int = 0
    conflicts: int = 0
    too_new: int = 0
    too_old: int = 0
    logs: int = 0
    spans: int = 0
    changes: int = 0
    exemplars: int = 0
    histograms: int = 0
    replayed: bool = False
    over_limit: int = 0
    """Samples of new series beyond ``store.max_series``; refused."""


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """How much is stored, and from when to when (ms; 0 where empty)."""

    series: int
    samples: int
    logs: int
    spans: int
    costs: int
    bytes: int
    oldest_ms: int
    newest_ms: int


@dataclass(frozen=True, slots=True)
class _Append:
    collected: Collected
    key: str
    source: str
    samples: SampleCounts


class TelemetryStore:
    """Reads and writes one :class:`TelemetryDatabase`.

    Args:
        database: open; the store becomes its only user.
        cost_scope_columns: ``cost.scope_columns`` of the settings.
    """

    def __init__(self, database: TelemetryDatabase, cost_scope_columns: Mapping[str, str] | None = None) -> None:
        self.database = database
        self._clock = database.clock
        self._index = SeriesIndex(database.settings.max_series)
        with database.read() as con:
            self._partitions = Partitions(con)
            self._stored = ClosedSamples(database, self._index, self._partitions)
            journal = _journal_of(database)
            self._spill = Spill(database, self._index, self._partitions, self._stored, journal)
            self._head = Head(database, self._index, self._stored, self._spill, journal)
            self._stored.scanner.unspilled = self._spill.unspilled
            self._signals = Signals(database, self._partitions)
            self._exemplars = Exemplars(database, self._partitions)
            self._load(con)
        self._retention = Retention(database, self._partitions, self._stored, self._signals, self._exemplars)
        self._keys_pruned_ms = 0
        self._costs = Costs(database, cost_scope_columns or {})
        database.when_idle(self._spill.tidy)
        database.when_idle(self._stored.compact)
        database.when_idle(self._stored.warm)
        database.when_reopened(self._load)
        self._head.start()

    def _load(self, con: duckdb.DuckDBPyConnection) -> None:
        self._partitions.load(con)
        self._spill.load(con)
        self._stored.load(con)
        self._spill.settle_index()
        self._signals.load(con)
        self._metadata = {
            row[0]: MetricMetadata(*row)
            for row in con.execute("SELECT name, type, unit, help FROM metric_metadata").fetchall()
        }
        self._cursors: dict[str, str] = dict(con.execute("SELECT source, cursor FROM cursors").fetchall())
        self._keys: set[str] = {row[0] for row in con.execute("SELECT key FROM ingest_keys").fetchall()}

    # ------------------------------------------------------------------ writing

    def append(self, collected: Collected, key: str = "", source: str = "") -> AppendReport:
        """Store everything of ``collected``; returns once all of it is synced.

        Samples go first, by the journal; the rest follows in one transaction of the database. Where that fails,
        the samples stay: sending all again adds nothing twice.

        Args:
            collected: samples, metadata, logs, spans, changes, exemplars, histograms.
            key: names this delivery; a key seen in the last 24 h adds nothing.
            source: stores ``collected.cursor`` under this name with the rows.

        Raises:
            TransientError: below the floor of free space, or the commit failed; to be sent again.
        """
        counts = SampleCounts()
        if len(collected.samples) and not (key and key in self._keys):
            counts = self._head.append(BlockSource(collected.samples))
        if not (key or source or self._has_rows(collected)):
            return AppendReport(
                counts.accepted, counts.duplicates, counts.conflicts, counts.too_new, counts.too_old,
                over_limit=counts.over_limit,
            )  # fmt: skip
        return self.database.write(self._apply, _Append(collected, key, source, counts))

    def submit(self, samples: SampleSource, token: object, settle: Settle) -> None:
        """Queue samples without waiting; ``settle`` is told of ``token`` once they are synced; see ``Head.submit``."""
        self._head.submit(samples, token, settle)

    def flush(self) -> None:
        """Hand the database file what only the journal holds: before a backup, or to see what it takes."""
        self._spill.flush()

    def _has_rows(self, collected: Collected) -> bool:
        known = self._metadata
        rows = (collected.logs, collected.spans, collected.changes, collected.exemplars, collected.histograms)
        return any(rows) or any(known.get(m.name) != m for m in collected.metadata)

    def _apply(self, tx: Transaction, batch: list[_Append]) -> list[AppendReport]:
        fresh: list[_Append] = []
        keys: set[str] = set()
        reports = []
        for item in batch:
            if item.key and (item.key in self._keys or item.key in keys):
                reports.append(AppendReport(replayed=True))
                continue
            if item.key:
                keys.add(item.key)
            fresh.append(item)
            reports.append(self._signals_of(tx, item.collected, item.samples))
        self._save_metadata(tx, [m for item in fresh for m in item.collected.metadata])
        self._save_cursors(tx, {item.source: item.collected.cursor for item in batch if item.source})
        self._save_keys(tx, keys)
        return reports

    def _signals_of(self, tx: Transaction, collected: Collected, count: SampleCounts) -> AppendReport:
        oldest, newest = self.database.oldest_ms("metrics"), self._head.newest_ms()
        logs_from, spans_from = (self.database.oldest_ms(s) * 1_000_000 for s in ("logs", "traces"))
        high = newest * 1_000_000
        exemplars = [e for e in collected.exemplars if oldest <= e.ts <= newest]
        histograms = [h for h in collected.histograms if oldest <= h.ts <= newest]
        at = [e.ts for e in collected.exemplars] + [h.ts for h in collected.histograms]
        logs = [r for r in collected.logs if logs_from <= r.time_unix_nano <= high]
        spans = [s for s in collected.spans if spans_from <= s.start_unix_nano <= high]
        times = [r.time_unix_nano for r in collected.logs] + [s.start_unix_nano for s in collected.spans]
        old = sum(r.time_unix_nano < logs_from for r in collected.logs)
        old += sum(s.start_unix_nano < spans_from for s in collected.spans)
        if logs:
            self._signals.append_logs(tx, logs)
        new_spans = sum(self._signals.append_spans(tx, spans)) if spans else 0
        if collected.changes:
            self._signals.append_changes(tx, collected.changes)
        return AppendReport(
            count.accepted,
            count.duplicates + len(spans) - new_spans,
            count.conflicts,
            count.too_new + sum(t > high for t in times) + sum(t > newest for t in at),
            count.too_old + old + sum(t < oldest for t in at),
            len(logs),
            new_spans,
            len(collected.changes),
            self._exemplars.append(tx, exemplars) if exemplars else 0,
            self._append_histograms(tx, histograms) if histograms else 0,
            over_limit=count.over_limit,
        )

    def _append_histograms(self, tx: Transaction, histograms: Sequence[NativeHistogram]) -> int:
        """Answers about their times that are kept were given without them."""
        added = self._exemplars.append_histograms(tx, histograms)
        if added:
            low = min(h.ts for h in histograms)
            tx.on_commit.append(lambda: self._stored.scanner.blocks.changes.record(low))
        return added

    def _save_metadata(self, tx: Transaction, metadata: Sequence[MetricMetadata]) -> None:
        changed = {m.name: m for m in metadata if self._metadata.get(m.name) != m}
        if not changed:
            return
        tx.con.execute("DELETE FROM metric_metadata WHERE name IN (SELECT unnest(?::VARCHAR[]))", [list(changed)])
        tx.con.executemany(
            "INSERT INTO metric_metadata VALUES (?, ?, ?, ?)",
            [(m.name, m.type, m.unit, m.help) for m in changed.values()],
        )
        tx.on_commit.append(lambda: self._metadata.update(changed))

    def _save_cursors(self, tx: Transaction, cursors: dict[str, str]) -> None:
        cursors = {source: cursor for source, cursor in cursors.items() if self._cursors.get(source) != cursor}
        if cursors:
            tx.con.execute("DELETE FROM cursors WHERE source IN (SELECT unnest(?::VARCHAR[]))", [list(cursors)])
            tx.con.executemany("INSERT INTO cursors VALUES (?, ?)", list(cursors.items()))
            tx.on_commit.append(lambda: self._cursors.update(cursors))

    def _save_keys(self, tx: Transaction, keys: set[str]) -> None:
        now = self._clock()
        if keys:
            tx.con.execute("INSERT INTO ingest_keys SELECT unnest(?::VARCHAR[]), ?", [list(keys), now])
            tx.on_commit.append(lambda: self._keys.update(keys))
        if now - self._keys_pruned_ms > KEY_LIFE_MS // 24:
            self._keys_pruned_ms = now
            old = {
                row[0]
                for row in tx.con.execute("SELECT key FROM ingest_keys WHERE at_ms < ?", [now - KEY_LIFE_MS]).fetchall()
            }
            if old:
                tx.con.execute("DELETE FROM ingest_keys WHERE at_ms < ?", [now - KEY_LIFE_MS])
                tx.on_commit.append(lambda: self._keys.difference_update(old))

    def import_costs(self, table: CostTable) -> int:
        """Replace the table's billing periods of its source; returns rows. Raises ``InvalidInput`` by column name."""
        check_table(table)
        return self.database.write(self._costs.replace, table)

    def apply_retention(self) -> Dropped:
        """Drop what is past its time, then the oldest days while the file is above ``store.max_bytes``."""
        self.flush()
        dropped = self._retention.apply()
        if self.database.path is not None:
            self.database.write(self._spill.free_ended, None, frees=True)
        return dropped

    # ------------------------------------------------------------------ metrics

    def scan(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, principal: Principal) -> SampleBlock:
        """Samples with ``start_ms <= ts <= end_ms`` of series that match and lie in the principal's scope."""
        return self._stored.scan(self._index.select(matchers, principal, start_ms, end_ms), start_ms, end_ms)

    def open_scan(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, principal: Principal, most: int
    ) -> OpenedScan:
        """The same, to be decoded part by part; beyond about ``most`` samples only their number is of use."""
        return self._stored.open(self._index.select(matchers, principal, start_ms, end_ms), start_ms, end_ms, most)

    def open_rollup(
        self,
        matchers: Sequence[Matcher],
        after_ms: int,
        end_ms: int,
        resolution: int,
        column: str,
        principal: Principal,
    ) -> OpenedScan | None:
        """Buckets ``(end - resolution, end]`` at their ends, with ``after_ms < end <= end_ms``, all multiples of it.

        Args:
            resolution: ms; a key of ``rollups.KINDS``.
            column: low, high, total, num or last.

        Returns:
            ``None`` where no day of the window has rollups.
        """
        return self._stored.rollups.open(self._index.select(matchers, principal), after_ms, end_ms, resolution, column)

    def raw_from_ms(self) -> int:
        """Before it buckets are all that is held; in the distant past where no buckets are older than the samples."""
        return self._stored.rollups.raw_from_ms()

    def prepare(self) -> None:
        """Compile what decodes samples, or read it from Numba's cache; until then NumPy decodes."""
        CODECS.compiled(wait=True)

    def version(self) -> int:
        """Names the moment, for :meth:`changed_since`; to be taken before reading."""
        return self._stored.scanner.blocks.changes.version

    def changed_since(self, version: int) -> int:
        """The earliest time (ms) at which samples came or went since; far in the future where none did."""
        return self._stored.scanner.blocks.changes.since(version)

    def select_series(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, principal: Principal
    ) -> list[Labels]:
        """Label sets of series that have samples about the window (between their first and last sample)."""
        labels = self._index.labels
        return [labels[i] for i in self._index.select(matchers, principal, start_ms, end_ms).tolist()]

    def label_names(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, principal: Principal) -> list[str]:
        return sorted(self._index.names_of(self._index.select(matchers, principal, start_ms, end_ms)))

    def label_values(
        self, name: str, matchers: Sequence[Matcher], start_ms: int, end_ms: int, principal: Principal
    ) -> list[str]:
        return sorted(self._index.values_of(name, self._index.select(matchers, principal, start_ms, end_ms)))

    def metadata(self, principal: Principal) -> list[MetricMetadata]:
        """Type, unit and help of the metric families that the principal may see."""
        known = dict(self._metadata)
        if principal.scope:
            visible = self._index.metric_names(principal)
            known = {
                name: item
                for name, item in known.items()
                if name in visible or any(name + suffix in visible for suffix in FAMILY_SUFFIXES)
            }
        return [known[name] for name in sorted(known)]

    def exemplars(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, principal: Principal
    ) -> list[Exemplar]:
        """Exemplars with ``start_ms <= ts <= end_ms`` of series that match: the newest 10,000, oldest first."""
        return self._exemplars.read(matchers, start_ms, end_ms, principal)

    def histograms(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, principal: Principal
    ) -> list[NativeHistogram]:
        """Native histograms with ``start_ms <= ts <= end_ms``: the newest 10,000, oldest first."""
        return self._exemplars.read_histograms(matchers, start_ms, end_ms, principal)

    def may_hold_histograms(self, matchers: Sequence[Matcher]) -> bool:
        """Whether any metric that ever had native histograms has a name that matches."""
        return self._exemplars.may_hold_histograms(matchers)

    def all_histograms(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, principal: Principal, most: int
    ) -> list[NativeHistogram]:
        """Native histograms with ``start_ms <= ts <= end_ms``, oldest first. Raises ``QueryError`` beyond ``most``."""
        found = self._exemplars.read_histograms(matchers, start_ms, end_ms, principal, most + 1)
        if len(found) > most:
            raise QueryError("query processing would load too many samples into memory in query execution")
        return found

    def histogram_series(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, principal: Principal
    ) -> list[Labels]:
        """Series that match and have a native histogram with ``start_ms <= ts <= end_ms``."""
        return self._exemplars.histogram_series(matchers, start_ms, end_ms, principal)

    # ------------------------------------------------------------------ signals

    def logs(self, query: LogQuery, principal: Principal) -> list[LogRecord]:
        """Newest first, ``query.limit`` at most."""
        return self._signals.logs(query, principal)

    def log_patterns(
        self, start_ms: int, end_ms: int, principal: Principal, service: str = "", limit: int = 50
    ) -> list[LogPattern]:
        """Templates of log lines in ``[start_ms, end_ms)``, most frequent first."""
        lines = self._signals.log_lines(start_ms, end_ms, principal, service)
        return patterns.group(lines, limit, self._signals.templates)

    def log_templates(self) -> LogTemplates:
        """Every template that is known, and the headers of their lines."""
        return self._signals.templates

    def mine_logs_with(self, miner: LogMiner) -> None:
        """Give every log line stored from now on its template."""
        self._signals.templates.miner = miner

    def when_stored(self, listener: Listener) -> None:
        """Tell ``listener`` of logs and spans once they are committed, each once, replays left out."""
        self._signals.listeners.append(listener)

    def spans(
        self, start_ms: int, end_ms: int, principal: Principal, service: str = "", limit: int = 1000
    ) -> list[Span]:
        """Spans that start in ``[start_ms, end_ms)``, newest first."""
        return self._signals.spans(start_ms, end_ms, principal, service, limit)

    def service_graph(self, start_ms: int, end_ms: int, principal: Principal) -> ServiceGraph:
        """Who calls whom, from spans that start in ``[start_ms, end_ms)``."""
        return service_graph(self.database, self._partitions, start_ms, end_ms, principal)

    def changes(self, start_ms: int, end_ms: int, principal: Principal, service: str = "") -> list[ChangeEvent]:
        """Changes in ``[start_ms, end_ms)``, oldest first."""
        return self._signals.changes(start_ms, end_ms, principal, service)

    # ------------------------------------------------------------------ costs

    def daily(self, query: CostQuery, principal: Principal) -> CostSeries:
        return self._costs.daily(query, principal)

    def cost_values(self, column: str, principal: Principal) -> list[str]:
        """Distinct values of a FOCUS column, most costly first."""
        return self._costs.values(column, principal)

    # ------------------------------------------------------------------ state

    def cursor(self, source: str) -> str:
        """Where the last committed poll of ``source`` ended; empty at first."""
        return str(self._cursors.get(source, ""))

    def remember(self, source: str, cursor: str) -> None:
        """Store where ``source`` is, committed and synced."""
        self.append(Collected(cursor=cursor), source=source)

    def metric_names(self, principal: Principal) -> list[str]:
        return self.label_values(METRIC_NAME, (), 0, 1 << 62, principal)

    def healthy(self) -> bool:
        return self._head.healthy() and self.database.healthy()

    def trouble(self) -> str:
        """What an operator has to look at, in one line; empty when there is nothing."""
        limit = self._index.limit
        if limit and self._index.live() >= limit:
            full = f"store.max_series is reached: {limit:,} series; {self._index.refused:,} new ones were refused"
            return "; ".join(filter(None, (self.database.damage, full)))
        return self.database.damage

    def status(self) -> StoreStatus:
        size = len(self._index)
        first, last = self._index.first[:size], self._index.last[:size]
        filled = last != NEVER_LAST
        return StoreStatus(
            self._index.live(),
            self._stored.count + self._spill.count(),
            self._signals.log_count,
            self._signals.span_count,
            self._costs.count(),
            self.database.bytes_on_disk() + self._spill.journal_bytes(),
            int(first[filled].min()) if filled.any() else 0,
            int(last[filled].max()) if filled.any() else 0,
        )

    @property
    def archive(self) -> Archive:
        """Export to Parquet and import from it."""
        return Archive(
            self.database, self._index, self._partitions, self._stored, self._costs, self._exemplars, self.append
        )

    def usage(self) -> FileUsage:
        """What each signal takes of the file; reads the file's own tables, some ms each."""
        held = self.status()
        rows: dict[Signal, int] = {"metrics": held.samples, "logs": held.logs, "traces": held.spans}
        with self.database.read() as con:
            signals = signal_usage(con, rows, (held.oldest_ms, held.newest_ms))
            used = used_bytes(con)
        log_bytes = self.database.log_bytes()
        return FileUsage(
            signals, self.database.bytes_on_disk(), used + log_bytes, len(self._partitions.numbers("head")), held.series
        )

    def close(self) -> None:
        self._head.close()
        self.database.close()


def _journal_of(database: TelemetryDatabase) -> Journal | None:
    if database.path is None:
        return None
    key = key_of(database.settings)
    return Journal(database.path.with_suffix(".journal"), key.cipher() if key is not None else None)
