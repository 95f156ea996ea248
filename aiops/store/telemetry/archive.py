"""Export of a time range to Parquet, part by part, and import of such parts.

A part is one signal's rows of one two-hour window (metrics: of :data:`SLICE` series of it; costs: one billing period),
so that memory is bounded and an interrupted export or import goes on where it was. Every row obeys the principal's
scope. Import adds nothing twice: samples and histograms are known by (series, time), spans by their ids, lines,
exemplars and changes by their whole content, costs replace their source's billing period.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from aiops.core.errors import InvalidInput
from aiops.core.ports import Collected
from aiops.core.principal import Principal
from aiops.core.signals import ChangeEvent, LogRecord, Span
from aiops.core.untrusted import Untrusted
from aiops.store.telemetry.archive_extras import EXTRAS, collected, rows_of
from aiops.store.telemetry.closed import ClosedSamples
from aiops.store.telemetry.costs import Costs
from aiops.store.telemetry.database import TelemetryDatabase, Transaction
from aiops.store.telemetry.exemplars import Exemplars
from aiops.store.telemetry.labels import SeriesIndex
from aiops.store.telemetry.parts import COLUMNS, PartReader, PartWriter
from aiops.store.telemetry.schema import BLOCK_MS, DAY_MS, Partitions
from aiops.store.telemetry.signals import in_scope, load_labels
from aiops.store.telemetry.usage import Exported

WINDOW_MS = BLOCK_MS
SLICE = 2000
"""Series in one part at most: 2 M samples of a two-hour window at 15 s, 7 MB on the disk."""
SCAN_SERIES = 250
FETCH_ROWS = 20_000
NS = 1_000_000

_SQL = {
    "logs": ("logs", "ns", "ns, severity, severity_text, service, body, resource, attributes, trace_id, span_id"),
    "traces": (
        "spans",
        "start_ns",
        "trace_id, span_id, parent_span_id, name, kind, start_ns, end_ns, status, service, resource, attributes",
    ),
}
"""Kind of day table, its time, its columns in the order of the part's."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one file holds: rows with ``start_ms <= time < end_ms``; ``number`` is the slice of series."""

    signal: Exported
    start_ms: int
    end_ms: int
    number: int = 0

    @property
    def name(self) -> str:
        """Its place in the folder, the same for the same part."""
        return f"{self.signal}/{self.start_ms}-{self.end_ms}-{self.number}.parquet"


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a part's rows: new, known already, refused since they are past their time or in the future."""

    added: int = 0
    known: int = 0
    refused: int = 0


class Archive:
    """Export and import over the parts of one store.

    Args:
        append: :meth:`TelemetryStore.append`.
    """

    def __init__(
        self,
        database: TelemetryDatabase,
        index: SeriesIndex,
        partitions: Partitions,
        samples: ClosedSamples,
        costs: Costs,
        exemplars: Exemplars,
        append: Any,
    ) -> None:
        self._database = database
        self._index = index
        self._partitions = partitions
        self._samples = samples
        self._costs = costs
        self._exemplars = exemplars
        self._append = append

    # ------------------------------------------------------------------ export

    def plan(self, start_ms: int, end_ms: int, signals: Sequence[Exported], principal: Principal) -> list[Part]:
        """The parts of ``[start_ms, end_ms)``; some may turn out to be empty.

        Raises:
            InvalidInput: the range is empty.
        """
        if end_ms <= start_ms:
            raise InvalidInput("The range is empty: its end is not after its start.")
        found: list[Part] = []
        for signal in signals:
            found += getattr(self, f"_{signal}_parts")(start_ms, end_ms, principal)
        return found

    def write(self, part: Part, principal: Principal, path: Path) -> int:
        """Write one part to ``path`` unless it is empty; gives its rows."""
        with tempfile.TemporaryDirectory(prefix="aiops-part-") as scratch, PartWriter(part.signal, Path(scratch)) as to:
            if part.signal == "metrics":
                self._write_metrics(part, principal, to)
            elif part.signal == "costs":
                self._write_costs(part, principal, to)
            elif part.signal == "changes":
                self._write_changes(part, principal, to)
            elif part.signal in EXTRAS:
                to.add_rows(rows_of(self._exemplars, part.signal, part.start_ms, part.end_ms, principal))
            else:
                self._write_rows(part, principal, to)
            if to.rows:
                to.write(path)
            return to.rows

    def _metrics_parts(self, start_ms: int, end_ms: int, principal: Principal) -> list[Part]:
        found = []
        sids = self._index.select((), principal, start_ms, end_ms - 1)
        if not len(sids):
            return []
        first = max(start_ms, int(self._index.first[sids].min()))
        last = min(end_ms, int(self._index.last[sids].max()) + 1)
        for low, high in _windows(first, last, start_ms, end_ms):
            held = sids[(self._index.first[sids] < high) & (self._index.last[sids] >= low)]
            found += [Part("metrics", low, high, n) for n in np.unique(held // SLICE).tolist()]
        return found

    def _logs_parts(self, start_ms: int, end_ms: int, _principal: Principal) -> list[Part]:
        return self._day_parts("logs", start_ms, end_ms)

    def _traces_parts(self, start_ms: int, end_ms: int, _principal: Principal) -> list[Part]:
        return self._day_parts("traces", start_ms, end_ms)

    def _exemplars_parts(self, start_ms: int, end_ms: int, _principal: Principal) -> list[Part]:
        return self._day_parts("exemplars", start_ms, end_ms)

    def _histograms_parts(self, start_ms: int, end_ms: int, _principal: Principal) -> list[Part]:
        return self._day_parts("histograms", start_ms, end_ms)

    def _day_parts(self, signal: Exported, start_ms: int, end_ms: int) -> list[Part]:
        found = []
        for day in self._partitions.numbers(_SQL[signal][0] if signal in _SQL else signal):
            low, high = max(day * DAY_MS, start_ms), min((day + 1) * DAY_MS, end_ms)
            found += [Part(signal, a, b) for a, b in _windows(low, high, start_ms, end_ms)]
        return found

    def _changes_parts(self, start_ms: int, end_ms: int, _principal: Principal) -> list[Part]:
        return [Part("changes", start_ms, end_ms)]

    def _costs_parts(self, start_ms: int, end_ms: int, principal: Principal) -> list[Part]:
        """Whole billing periods, since an import replaces them."""
        return [Part("costs", low, high) for low, high in self._costs.periods(start_ms, end_ms, principal)]

    def _write_metrics(self, part: Part, principal: Principal, to: PartWriter) -> None:
        sids = self._index.select((), principal, part.start_ms, part.end_ms - 1)
        sids = sids[sids // SLICE == part.number]
        for at in range(0, len(sids), SCAN_SERIES):
            to.add_samples(self._samples.scan(sids[at : at + SCAN_SERIES], part.start_ms, part.end_ms - 1))

    def _write_rows(self, part: Part, principal: Principal, to: PartWriter) -> None:
        kind, time, columns = _SQL[part.signal]
        visible = in_scope(principal)
        for name in self._partitions.between(kind, part.start_ms // DAY_MS, (part.end_ms - 1) // DAY_MS):
            with self._database.read() as con:
                con.execute(
                    f"SELECT {columns} FROM {name} WHERE {time} >= ? AND {time} < ? ORDER BY {time}",  # noqa: S608
                    [part.start_ms * NS, part.end_ms * NS],
                )
                resource = list(COLUMNS[part.signal]).index("resource")
                for rows in _chunks(con):
                    if principal.scope:
                        rows = [r for r in rows if visible(load_labels(r[resource]), load_labels(r[resource + 1]))]
                    to.add_rows(rows)

    def _write_changes(self, part: Part, principal: Principal, to: PartWriter) -> None:
        visible = in_scope(principal)
        with self._database.read() as con:
            con.execute(
                "SELECT * FROM changes WHERE time_ms >= ? AND time_ms < ? ORDER BY time_ms",
                [part.start_ms, part.end_ms],
            )
            for rows in _chunks(con):
                to.add_rows([r for r in rows if visible((("service.name", r[2]),), load_labels(r[7]))])

    def _write_costs(self, part: Part, principal: Principal, to: PartWriter) -> None:
        for rows in self._costs.rows(part.start_ms, part.end_ms, principal):
            to.add_rows(rows)

    # ------------------------------------------------------------------ import

    def read(self, signal: Exported, path: Path) -> Imported:
        """Add the rows of one part that are not there yet.

        Raises:
            InvalidInput: the file is no part of an export of ``signal``.
        """
        try:
            with (
                tempfile.TemporaryDirectory(prefix="aiops-part-") as place,
                PartReader(signal, path, Path(place)) as part,
            ):
                return _sum(self._imports(part))
        except (duckdb.Error, ValueError, AttributeError, TypeError) as error:
            raise InvalidInput(f"The file is no export of {signal}: {(str(error).splitlines() or [''])[0]}") from error

    def _imports(self, part: PartReader) -> Iterator[Imported]:
        if part.signal == "metrics":
            return self._append_samples(part)
        if part.signal == "costs":
            return (self._replace_costs(rows) for rows in _whole_periods(part))
        if part.signal == "logs":
            return (self._append_logs(rows) for rows in part.rows("time_ns"))
        if part.signal == "changes":
            return (self._append_changes(rows) for rows in part.rows("time_ms"))
        if part.signal in EXTRAS:
            return (self._append_extras(part.signal, rows) for rows in part.rows())
        return (self._append_spans(rows) for rows in part.rows("start_ns"))

    def _append_samples(self, part: PartReader) -> Iterator[Imported]:
        for block in part.sample_blocks():
            report = self._append(Collected(block))
            known = report.duplicates + report.conflicts
            yield Imported(report.accepted, known, report.too_old + report.too_new + report.over_limit)

    def _append_logs(self, rows: list[tuple[Any, ...]]) -> Imported:
        new = self._missing("logs", rows, rows[0][0], rows[-1][0])
        records = [
            LogRecord(r[0], Untrusted(r[4]), r[1], r[2], load_labels(r[5]), load_labels(r[6]), r[7], r[8]) for r in new
        ]
        report = self._append(Collected(logs=tuple(records))) if records else None
        added = report.logs if report else 0
        return Imported(added, len(rows) - len(new), len(new) - added)

    def _append_spans(self, rows: list[tuple[Any, ...]]) -> Imported:
        spans = tuple(
            Span(r[0], r[1], r[2], Untrusted(r[3]), r[4], r[5], r[6], r[7], load_labels(r[9]), load_labels(r[10]))
            for r in rows
        )
        report = self._append(Collected(spans=spans))
        return Imported(report.spans, report.duplicates, report.too_old + report.too_new)

    def _append_extras(self, kind: str, rows: list[tuple[Any, ...]]) -> Imported:
        report = self._append(collected(kind, rows))
        added, refused = report.exemplars + report.histograms, report.too_old + report.too_new
        return Imported(added, len(rows) - added - refused, refused)

    def _append_changes(self, rows: list[tuple[Any, ...]]) -> Imported:
        new = self._missing("changes", rows, rows[0][0], rows[-1][0])
        changes = tuple(
            ChangeEvent(r[0], r[1], r[2], Untrusted(r[3]), r[4], r[5], r[6], load_labels(r[7])) for r in new
        )
        if changes:
            self._append(Collected(changes=changes))
        return Imported(len(changes), len(rows) - len(changes))

    def _missing(self, signal: Exported, rows: list[tuple[Any, ...]], low: int, high: int) -> list[tuple[Any, ...]]:
        """Rows that are not stored yet; of equal ones as many as lack."""
        tables, time, columns = ["changes"], "time_ms", "*"
        if signal in _SQL:
            kind, time, columns = _SQL[signal]
            tables = self._partitions.between(kind, low // NS // DAY_MS, high // NS // DAY_MS)
        held: Counter[tuple[Any, ...]] = Counter()
        with self._database.read() as con:
            for name in tables:
                con.execute(f"SELECT {columns} FROM {name} WHERE {time} BETWEEN ? AND ?", [low, high])  # noqa: S608
                for chunk in _chunks(con):
                    held.update(chunk)
        new = []
        for row in rows:
            if held[row] > 0:
                held[row] -= 1
            else:
                new.append(row)
        return new

    def _replace_costs(self, rows: list[tuple[Any, ...]]) -> Imported:
        def replace(tx: Transaction, payloads: list[list[tuple[Any, ...]]]) -> list[int]:
            return [self._costs.replace_rows(tx, payload) for payload in payloads]

        return Imported(self._database.write(replace, rows))


def narrowed(principal: Principal, matchers: Iterable[Any]) -> Principal:
    """The principal with more matchers: what an export is limited to is a scope like any other."""
    more = tuple(matchers)
    if not more:
        return principal
    return Principal(principal.name, principal.role, (*(principal.scope or ()), *more), principal.can_approve)


def _windows(low: int, high: int, start_ms: int, end_ms: int) -> Iterator[tuple[int, int]]:
    """Aligned windows that cover ``[low, high)``, cut to ``[start_ms, end_ms)``."""
    for number in range(low // WINDOW_MS, -(-high // WINDOW_MS)):
        yield max(number * WINDOW_MS, start_ms), min((number + 1) * WINDOW_MS, end_ms)


def _whole_periods(part: PartReader) -> Iterator[list[tuple[Any, ...]]]:
    """All rows at once: a billing period is replaced whole."""
    rows = [row for chunk in part.rows() for row in chunk]
    if rows:
        yield rows


def _chunks(con: duckdb.DuckDBPyConnection) -> Iterator[list[tuple[Any, ...]]]:
    while rows := con.fetchmany(FETCH_ROWS):
        yield rows


def _sum(parts: Iterable[Imported]) -> Imported:
    added = known = refused = 0
    for part in parts:
        added, known, refused = added + part.added, known + part.known, refused + part.refused
    return Imported(added, known, refused)
