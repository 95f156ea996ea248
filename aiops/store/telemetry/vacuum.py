"""Gives back what deleted rows of chunk tables take.

A block that is written anew leaves its former chunks in the day's table. DuckDB forgets deleted rows only with the
whole row group, or by joining row groups that lie side by side; a table that is smaller than that is copied here.
"""

from __future__ import annotations

from aiops.store.telemetry.database import TelemetryDatabase, Transaction
from aiops.store.telemetry.schema import Partitions, table

ROW_GROUP = 122_880
MOST_ROWS = 2 * ROW_GROUP
"""A larger table is left to DuckDB: copying it would hold up the writer thread."""
DEAD_SHARE = 3
"""Copied when deleted rows are at least one in so many of those that live ..."""
DEAD_ROWS = 64
"""... and as many as this."""
LOOK_MS = 30_000


class Vacuum:
    """Copies tables of one database. For the writer thread, at idle times.

    Attributes:
        days: whose chunks may have been deleted since they were last looked at.
    """

    def __init__(self, database: TelemetryDatabase, partitions: Partitions) -> None:
        self._database = database
        self._partitions = partitions
        self._looked_ms = 0
        self.days = set(partitions.numbers("chunks"))

    def step(self) -> bool:
        """Look at one day's table and copy it where it is loose; true when more are to be looked at."""
        now = self._database.clock()
        if not self.days or 0 <= now - self._looked_ms < LOOK_MS or self._database.path is None:
            return False
        day = self.days.pop()
        if day in self._partitions.numbers("chunks"):
            live, dead = self._rows(day)
            if live <= MOST_ROWS and dead >= DEAD_ROWS and dead * DEAD_SHARE >= live:
                self._database.transaction(lambda tx: _copy(tx, table("chunks", day)))
        if not self.days:
            self._looked_ms = now
        return bool(self.days)

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


def _copy(tx: Transaction, name: str) -> None:
    tx.con.execute(f"CREATE TABLE vacuumed AS SELECT * FROM {name} ORDER BY block, sid")  # noqa: S608
    tx.con.execute(f"DROP TABLE {name}")
    tx.con.execute(f"ALTER TABLE vacuumed RENAME TO {name}")
