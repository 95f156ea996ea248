"""Log templates as they are kept: what each looks like, how often it was seen, and since when.

Definitions are written in the transaction of the first lines that need them; counts follow with the next lines after
:data:`COUNTS_EVERY_MS`, so that a crash costs a minute of counts and no definition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import duckdb

from aiops.core.ports import Clock, LogMiner
from aiops.core.signals import OTHER_TEMPLATE, LogRecord, LogTemplate
from aiops.core.untrusted import Untrusted
from aiops.store.telemetry.database import Transaction
from aiops.store.telemetry.labels import encodable

COUNTS_EVERY_MS = 60_000
KEPT = 50_000
"""Templates kept at most; those seen last longest ago go first."""
_COLUMNS = "id, service, pattern, form, holes, merged_into, example, severity, first_ms, last_ms, count"


@dataclass(frozen=True, slots=True)
class KnownTemplate:
    """A template and what was seen of it; times are ms of the lines."""

    template: LogTemplate
    severity: int = 0
    first_ms: int = 0
    last_ms: int = 0
    count: int = 0


class LogTemplates:
    """The ``log_templates`` and ``log_headers`` tables. Methods with a transaction are for the writer thread only."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.miner: LogMiner | None = None
        self._known: dict[str, KnownTemplate] = {}
        self._headers: dict[str, str] = {}
        self._waiting: dict[str, LogTemplate] = {}
        self._uncounted: set[str] = set()
        self._saved_ms = 0
        self._stale = False

    def load(self, con: duckdb.DuckDBPyConnection) -> None:
        known: dict[str, KnownTemplate] = {}
        for row in con.execute(f"SELECT {_COLUMNS} FROM log_templates ORDER BY first_ms, id").fetchall():  # noqa: S608
            id, service, text, key, holes, merged, example, severity, first, last, count = row
            template = LogTemplate(id, service, Untrusted(text), key, holes, merged, Untrusted(example))
            known[id] = KnownTemplate(template, severity, first, last, count)
        self._known = known
        self._headers = dict(con.execute("SELECT service, pattern FROM log_headers").fetchall())
        self._stale = False

    def all(self) -> list[KnownTemplate]:
        """In order of their first line."""
        return list(self._known.values())

    def headers(self) -> dict[str, str]:
        return dict(self._headers)

    def root(self, id: str) -> KnownTemplate | None:
        """The template that now stands for an id; ``None`` where it is not known."""
        found = self._known.get(id)
        for _ in range(64):
            if found is None or not found.template.merged_into:
                return found
            found = self._known.get(found.template.merged_into)
        return found

    def mine(self, tx: Transaction, records: Sequence[LogRecord]) -> Sequence[LogRecord]:
        """The records with their templates' ids; what is new about templates is saved in the transaction."""
        if self.miner is None:
            return records
        if self._stale:
            self.load(tx.con)
        tx.on_rollback.append(self._rolled_back)
        mined = self.miner.mine(records)
        self._waiting.update((t.id, t) for t in self.miner.changes())
        self._count(mined)
        for id, template in self._waiting.items():
            self._known[id] = replace(self._known.get(id) or KnownTemplate(template), template=template)
        now = self._clock()
        due = set(self._waiting)
        if now - self._saved_ms >= COUNTS_EVERY_MS:
            due |= self._uncounted
            self._saved_ms = now
        self._save(tx, [id for id in due if id in self._known])
        self._save_headers(tx)
        return mined

    def _count(self, records: Sequence[LogRecord]) -> None:
        for record in records:
            if record.template_id == OTHER_TEMPLATE:
                continue
            at = record.time_unix_nano // 1_000_000
            found = self._known.get(record.template_id)
            if found is None:
                template = self._waiting.get(record.template_id)
                if template is None:
                    continue
                found = KnownTemplate(template, 0, at, at)
            self._known[record.template_id] = KnownTemplate(
                found.template,
                max(found.severity, record.severity_number),
                min(found.first_ms or at, at),
                max(found.last_ms, at),
                found.count + 1,
            )
            self._uncounted.add(record.template_id)

    def _save(self, tx: Transaction, ids: Sequence[str]) -> None:
        if not ids:
            return
        tx.con.execute("DELETE FROM log_templates WHERE id IN (SELECT unnest(?::VARCHAR[]))", [list(ids)])
        rows = []
        for id in ids:
            k = self._known[id]
            t = k.template
            text = map(encodable, (t.service, t.text.raw, t.key))
            rows.append(
                (
                    id,
                    *text,
                    t.holes,
                    t.merged_into,
                    encodable(t.example.raw),
                    k.severity,
                    k.first_ms,
                    k.last_ms,
                    k.count,
                )
            )
        tx.con.executemany(f"INSERT INTO log_templates ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)  # noqa: S608
        saved = set(ids)

        def committed() -> None:
            self._uncounted -= saved
            for id in saved:
                self._waiting.pop(id, None)

        tx.on_commit.append(committed)

    def _save_headers(self, tx: Transaction) -> None:
        assert self.miner is not None
        changed = {s: p for s, p in self.miner.headers().items() if self._headers.get(s) != p}
        if changed:
            tx.con.execute("DELETE FROM log_headers WHERE service IN (SELECT unnest(?::VARCHAR[]))", [list(changed)])
            tx.con.executemany("INSERT INTO log_headers VALUES (?, ?)", [(encodable(s), p) for s, p in changed.items()])
            tx.on_commit.append(lambda: self._headers.update(changed))

    def _rolled_back(self) -> None:
        self._stale = True

    def drop_before(self, tx: Transaction, cutoff_ms: int) -> None:
        """Forget templates not seen since the cutoff, and the longest unseen of more than :data:`KEPT`."""
        old = {id for id, k in self._known.items() if k.last_ms < cutoff_ms}
        rest = sorted((k.last_ms, id) for id, k in self._known.items() if id not in old)
        old |= {id for _, id in rest[: max(len(rest) - KEPT, 0)]}
        if old:
            tx.con.execute("DELETE FROM log_templates WHERE id IN (SELECT unnest(?::VARCHAR[]))", [list(old)])

            def committed() -> None:
                for id in old:
                    self._known.pop(id, None)

            tx.on_commit.append(committed)
