"""Exemplars and native histograms: kept whole beside the float samples, told by series and time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import orjson

from aiops.core.principal import Principal
from aiops.core.series import METRIC_NAME, Exemplar, Labels, Matcher, MatchOp, NativeHistogram
from aiops.store.telemetry.database import TelemetryDatabase, Transaction
from aiops.store.telemetry.labels import predicate
from aiops.store.telemetry.schema import DAY_MS, Partitions
from aiops.store.telemetry.signals import dump_labels, load_labels

KINDS = ("exemplars", "histograms")
ROWS_CAP = 10_000
_VALUES = {"exemplars": "c0, c1, c2, c3", "histograms": "c0, c1, unhex(c2)"}


class Exemplars:
    """Exemplar and native-histogram tables of one database. Writing methods are for the writer thread only."""

    def __init__(self, database: TelemetryDatabase, partitions: Partitions) -> None:
        self._database = database
        self._partitions = partitions
        self._stored_names: frozenset[str] | None = None
        self._new_names: set[str] = set()

    # ------------------------------------------------------------------ writing

    def append(self, tx: Transaction, exemplars: Sequence[Exemplar]) -> int:
        """Add those that are not there yet; returns how many. One is known by all that it holds."""
        rows = {
            (dump_labels(e.series), dump_labels(e.labels), e.ts, int(np.float64(e.value).view(np.int64)))
            for e in exemplars
        }
        return self._insert(tx, "exemplars", rows, 2, "t.series = n.c0 AND t.labels = n.c1 AND t.bits = n.c3")

    def append_histograms(self, tx: Transaction, histograms: Sequence[NativeHistogram]) -> int:
        """Add those whose (series, time) holds none yet, of equal ones the first; returns how many."""
        first: dict[tuple[str, int], bytes] = {}
        for h in histograms:
            first.setdefault((dump_labels(h.series), h.ts), h.payload)
        # DuckDB takes an array of bytes for text, so they go in as digits.
        rows = {(series, ts, payload.hex()) for (series, ts), payload in first.items()}
        tx.on_commit.append(partial(self._new_names.update, {dict(h.series).get(METRIC_NAME, "") for h in histograms}))
        return self._insert(tx, "histograms", rows, 1, "t.series = n.c0")

    def _insert(self, tx: Transaction, kind: str, rows: Iterable[tuple[Any, ...]], at: int, same: str) -> int:
        days: dict[int, list[tuple[Any, ...]]] = {}
        for row in rows:
            days.setdefault(row[at] // DAY_MS, []).append(row)
        added = 0
        for day, own in sorted(days.items()):
            name = self._partitions.ensure(tx.con, kind, day)
            columns = {f"c{i}": _column(values) for i, values in enumerate(zip(*own, strict=True))}
            tx.con.register("rows", columns)
            low, high = min(row[at] for row in own), max(row[at] for row in own)
            done = tx.con.execute(
                f"INSERT INTO {name} SELECT {_VALUES[kind]} FROM rows n WHERE NOT EXISTS (SELECT 1 FROM {name} t "  # noqa: S608
                f"WHERE t.ts BETWEEN {low} AND {high} AND t.ts = n.c{at} AND {same})"
            ).fetchone()
            tx.con.unregister("rows")
            added += int(done[0]) if done else 0
            tx.on_commit.append(partial(self._partitions.added, kind, day))
        return added

    def drop_before(self, tx: Transaction, cutoff_ms: int) -> int:
        gone = [(kind, n) for kind in KINDS for n in self._partitions.numbers(kind) if (n + 1) * DAY_MS <= cutoff_ms]
        for kind, n in gone:
            tx.con.execute(f"DROP TABLE {self._partitions.ensure(tx.con, kind, n)}")
            tx.on_commit.append(partial(self._partitions.dropped, kind, n))
        return len(gone)

    # ------------------------------------------------------------------ reading

    def read(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, principal: Principal, limit: int = ROWS_CAP
    ) -> list[Exemplar]:
        """Exemplars with ``start_ms <= ts <= end_ms`` of series that match, the newest ``limit``, oldest first."""
        found = [
            Exemplar(series, load_labels(labels), float(np.int64(bits).view(np.float64)), ts)
            for series, ts, labels, bits in self._rows(
                "exemplars", "labels, bits", matchers, start_ms, end_ms, principal, limit
            )
        ]
        found.reverse()
        return found

    def read_histograms(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, principal: Principal, limit: int = ROWS_CAP
    ) -> list[NativeHistogram]:
        """Native histograms with ``start_ms <= ts <= end_ms``, the newest ``limit``, oldest first."""
        if not self.may_hold_histograms(matchers):
            return []
        rows = self._rows("histograms", "payload", matchers, start_ms, end_ms, principal, limit)
        found = [NativeHistogram(series, ts, bytes(payload)) for series, ts, payload in rows]
        found.reverse()
        return found

    def histogram_series(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, principal: Principal
    ) -> list[Labels]:
        """Series that match and have a native histogram with ``start_ms <= ts <= end_ms``."""
        tables = self._partitions.between("histograms", start_ms // DAY_MS, end_ms // DAY_MS)
        if not tables or not self.may_hold_histograms(matchers):
            return []
        visible = _chosen(matchers, principal)
        where, parameters = _where(matchers, start_ms, end_ms)
        texts: set[str] = set()
        with self._database.read() as con:
            for name in tables:
                rows = con.execute(f"SELECT DISTINCT series FROM {name} WHERE {where}", parameters).fetchall()  # noqa: S608
                texts.update(text for (text,) in rows)
        return sorted(filter(visible, map(load_labels, texts)))

    def may_hold_histograms(self, matchers: Sequence[Matcher]) -> bool:
        """Whether any metric that ever had native histograms has a name that matches, told without reading tables."""
        if self._stored_names is None:
            texts: set[str] = set()
            with self._database.read() as con:
                for number in self._partitions.numbers("histograms"):
                    (name,) = self._partitions.between("histograms", number, number)
                    texts.update(t for (t,) in con.execute(f"SELECT DISTINCT series FROM {name}").fetchall())  # noqa: S608
            self._stored_names = frozenset(dict(load_labels(text)).get(METRIC_NAME, "") for text in texts)
        known = self._stored_names.union(self._new_names)
        named = [predicate(m) for m in matchers if m.name == METRIC_NAME]
        return any(all(matches(name) for matches in named) for name in known)

    def _rows(
        self, kind: str, columns: str, matchers: Sequence[Matcher], start_ms: int, end_ms: int,
        principal: Principal, limit: int,
    ) -> list[tuple[Any, ...]]:  # fmt: skip
        visible = _chosen(matchers, principal)
        where, parameters = _where(matchers, start_ms, end_ms)
        found: list[tuple[Any, ...]] = []
        known: dict[str, Labels | None] = {}
        with self._database.read() as con:
            for name in reversed(self._partitions.between(kind, start_ms // DAY_MS, end_ms // DAY_MS)):
                con.execute(
                    f"SELECT series, ts, {columns} FROM {name} WHERE {where} ORDER BY ts DESC, series",  # noqa: S608
                    parameters,
                )
                while rows := con.fetchmany(2000):
                    for text, *rest in rows:
                        if text not in known:
                            labels = load_labels(text)
                            known[text] = labels if visible(labels) else None
                        series = known[text]
                        if series is not None:
                            found.append((series, *rest))
                            if len(found) >= limit:
                                return found
        return found


def _where(matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> tuple[str, list[Any]]:
    """An SQL condition that prunes by time and metric name, and its parameters."""
    where, parameters = "ts BETWEEN ? AND ?", [start_ms, end_ms]
    names: list[str] = [m.value for m in matchers if m.name == METRIC_NAME and m.op is MatchOp.EQUAL and m.value]
    texts = [orjson.dumps({METRIC_NAME: name}).decode()[1:-1] for name in names]
    return where + " AND contains(series, ?)" * len(texts), [*parameters, *texts]


def _chosen(matchers: Sequence[Matcher], principal: Principal) -> Callable[[Labels], bool]:
    wanted = [(m.name, predicate(m)) for m in matchers]
    scope = [(m.name, predicate(m)) for m in principal.scope or ()]

    def visible(labels: Labels) -> bool:
        values = dict(labels)
        if not all(matches(values.get(name, "")) for name, matches in wanted):
            return False
        return all(name in values and matches(values[name]) for name, matches in scope)

    return visible


def _column(values: Sequence[Any]) -> Any:
    if isinstance(values[0], int):
        return np.array(values, np.int64)
    array = np.empty(len(values), object)
    array[:] = values
    return array
