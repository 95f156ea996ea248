"""Gives back room in the file: what deleted rows take, and free blocks before used ones.

A block of samples that is written anew leaves its former chunks in the day's table. DuckDB forgets deleted rows only
with their whole row group, or by joining row groups that lie side by side; a table that is smaller is copied here.
A checkpoint cuts free blocks off only at the end of the file: where many lie before it, the last tables are copied
into them.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from aiops.store.telemetry.database import TelemetryDatabase, Transaction
from aiops.store.telemetry.schema import PARTITIONED, Partitions, table

ROW_GROUP = 122_880
MOST_ROWS = 2 * ROW_GROUP
"""A larger table is left to DuckDB: copying it would hold up the writer thread."""
DEAD_SHARE = 2
"""Copied when deleted rows are at least one in so many of those that live; a copy takes room first, ..."""
DEAD_ROWS = 64
"""... and as many as this."""
FREE_SHARE = 16
"""Tables are moved when at least one block in so many is free ..."""
FREE_BLOCKS = 16
"""... and as many as this."""
LOOK_MS = 5_000
QUIET_MS = 15_000
"""Nothing is copied so soon after chunks were deleted: more may be."""
MOST_BLOCKS = 4096
"""A table of more stays where it is."""
MOST_TABLES = 8
ROUNDS = 4
"""What is copied may come to lie beyond the end as well, where it is freed only by what is copied next."""
IN_VAIN_MS = 3_600_000
"""Where that many have not done, it is tried again so much later."""
MOVED = ("chunks", "clocks", "rollup5m", "rollup5mclocks", "rollup1h", "rollup1hclocks")


class Vacuum:
    """Copies tables of one database. For the writer thread, at idle times."""

    def __init__(self, database: TelemetryDatabase, partitions: Partitions) -> None:
        self._database = database
        self._partitions = partitions
        self._since_ms, self._wait_ms = 0, 0
        self._rounds = 0
        self._days = set(partitions.numbers("chunks"))

    def deleted(self, day: int) -> None:
        """Chunks of the day were deleted."""
        self._days.add(day)
        self._since_ms, self._wait_ms = self._database.clock(), QUIET_MS

    def step(self) -> None:
        """Copy one table where that gives room back."""
        now = self._database.clock()
        if self._database.path is None or 0 <= now - self._since_ms < self._wait_ms:
            return
        while self._days:
            day = self._days.pop()
            if day in self._partitions.numbers("chunks") and self._is_loose(day):
                self._copy([("chunks", day)])
                return
        self._since_ms, self._wait_ms = now, self._move_last()

    def _is_loose(self, day: int) -> bool:
        live, dead = self._rows(day)
        return live <= MOST_ROWS and dead >= DEAD_ROWS and dead * DEAD_SHARE >= live

    def _rows(self, day: int) -> tuple[int, int]:
        """Rows that live, and rows that were deleted and are still held."""
        name = table("chunks", day)
        with self._database.read() as con:
            live = con.execute(f"SELECT count(*) FROM {name}").fetchone()  # noqa: S608
            held = con.execute(
                "SELECT sum(count) FROM pragma_storage_info(?) WHERE column_name = 'sid' AND segment_type = 'INTEGER'",
                [name],
            ).fetchone()
        count = int(live[0]) if live else 0
        return count, (int(held[0] or 0) if held else 0) - count

    def _move_last(self) -> int:
        """Copy what lies beyond where the file could end, if much is free; ms after which to look again."""
        with self._database.read() as con:
            row = con.execute(
                "SELECT used_blocks, free_blocks FROM pragma_database_size() WHERE database_name = current_database()"
            ).fetchone()
            used, free = (int(row[0]), int(row[1])) if row else (0, 0)
            if free < FREE_BLOCKS or free * FREE_SHARE < used:
                self._rounds = 0
                return LOOK_MS
            lying = [(*_extent(con, table(kind, n)), kind, n) for kind in MOVED for n in self._partitions.numbers(kind)]
        small = sorted((lies for lies in lying if 0 < lies[1] <= MOST_BLOCKS), reverse=True)
        # Where nothing lies beyond, what describes the tables does: it is written anew with them.
        beyond = [(kind, n) for last, _, kind, n in small if last > used] or [lies[2:] for lies in small[:1]]
        self._rounds += 1
        if not beyond or self._rounds > ROUNDS:
            self._rounds = 0
            return IN_VAIN_MS
        self._copy(beyond[:MOST_TABLES])
        return 0

    def _copy(self, tables: Sequence[tuple[str, int]]) -> None:
        def work(tx: Transaction) -> None:
            for kind, number in tables:
                name = table(kind, number)
                tx.con.execute(f"CREATE TABLE copied ({PARTITIONED[kind]})")
                tx.con.execute(f"INSERT INTO copied SELECT * FROM {name} ORDER BY 1, 2")  # noqa: S608
                tx.con.execute(f"DROP TABLE {name}")
                tx.con.execute(f"ALTER TABLE copied RENAME TO {name}")

        self._database.transaction(work)
        self._database.checkpoint_due = True


def _extent(con: duckdb.DuckDBPyConnection, name: str) -> tuple[int, int]:
    """The last block that a table takes, and how many."""
    row = con.execute(
        "SELECT max(b), count(DISTINCT b) FROM (SELECT unnest(list_append(additional_block_ids, block_id)) AS b "
        "FROM pragma_storage_info(?) WHERE persistent) WHERE b >= 0",
        [name],
    ).fetchone()
    return (int(row[0] or 0), int(row[1])) if row else (0, 0)
