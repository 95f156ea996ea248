"""Tables of the telemetry file. Rows that age are kept in one table a day, so that retention is DROP.

DELETE would bloat the file by half and give nothing back.

``head_<n>`` holds the samples of the open two-hour block ``n`` in arrival order. ``samples_<day>`` those that came
late for blocks which were closed by then, or were closed by a version before chunks; ``seen_<day>`` first and last
sample of each series in it. Both kinds of rows become chunks at idle times (``compaction.py``).
``chunks_<day>`` holds what is closed: a row a (series, block) with first and last time, number of samples, codec,
clock and values; ``clocks_<day>`` the times, a row a (block, clock), shared by the series that have the same ones.
The two BLOBs are columns of ``codec.py``. A sample is in one of these places only.
``rollup5m_<day>`` and ``rollup1h_<day>`` hold a day's buckets (``rollups.py``), which outlive its samples; in them
and in their ``...clocks_<day>``, ``block`` is the day.
"""

from __future__ import annotations

import duckdb

DAY_MS = 86_400_000
BLOCK_MS = 7_200_000

FIXED = """
CREATE TABLE IF NOT EXISTS series (sid INTEGER, names VARCHAR[], vals VARCHAR[]);
CREATE TABLE IF NOT EXISTS metric_metadata (name VARCHAR, type VARCHAR, unit VARCHAR, help VARCHAR);
CREATE TABLE IF NOT EXISTS ingest_keys (key VARCHAR, at_ms BIGINT);
CREATE TABLE IF NOT EXISTS journal (segment BIGINT);
CREATE TABLE IF NOT EXISTS cursors (source VARCHAR, cursor VARCHAR);
CREATE TABLE IF NOT EXISTS log_templates (
    id VARCHAR, service VARCHAR, pattern VARCHAR, form VARCHAR, holes INTEGER, merged_into VARCHAR, example VARCHAR,
    severity INTEGER, first_ms BIGINT, last_ms BIGINT, count BIGINT);
CREATE TABLE IF NOT EXISTS log_headers (service VARCHAR, pattern VARCHAR);
CREATE TABLE IF NOT EXISTS changes (
    time_ms BIGINT, kind VARCHAR, service VARCHAR, title VARCHAR, author VARCHAR, link VARCHAR,
    environment VARCHAR, attributes VARCHAR);
"""

_CLOCKS = "block INTEGER, clock INTEGER, n INTEGER, codec UTINYINT, ts BLOB"
_ROLLUPS = (
    "block INTEGER, sid INTEGER, t_min BIGINT, t_max BIGINT, n INTEGER, codec UTINYINT, clock INTEGER, low BLOB, "
    "high BLOB, total BLOB, num BLOB, last BLOB"
)
PARTITIONED = {
    "head": "sid INTEGER, ts BIGINT, val DOUBLE, nan BIGINT",
    "samples": "sid INTEGER, ts BIGINT, val DOUBLE, nan BIGINT",
    "seen": "sid INTEGER, first BIGINT, last BIGINT",
    "chunks": "block INTEGER, sid INTEGER, t_min BIGINT, t_max BIGINT, n INTEGER, codec UTINYINT, clock INTEGER, "
    "val BLOB",
    "clocks": _CLOCKS,
    "rollup5m": _ROLLUPS,
    "rollup5mclocks": _CLOCKS,
    "rollup1h": _ROLLUPS,
    "rollup1hclocks": _CLOCKS,
    "exemplars": "series VARCHAR, labels VARCHAR, ts BIGINT, bits BIGINT",
    "histograms": "series VARCHAR, ts BIGINT, payload BLOB",
    "logs": "ns BIGINT, severity INTEGER, severity_text VARCHAR, service VARCHAR, body VARCHAR, resource VARCHAR, "
    "attributes VARCHAR, trace_id VARCHAR, span_id VARCHAR, template_id VARCHAR DEFAULT ''",
    "spans": "trace_id VARCHAR, span_id VARCHAR, parent_span_id VARCHAR, name VARCHAR, kind VARCHAR, "
    "start_ns BIGINT, end_ns BIGINT, status VARCHAR, service VARCHAR, resource VARCHAR, attributes VARCHAR",
}
"""Columns by kind of table. ``val`` is NULL and ``nan`` holds the bits where a sample is a NaN."""


def create_schema(con: duckdb.DuckDBPyConnection) -> None:
    con.execute(FIXED)
    con.execute(costs_ddl())
    for (name,) in con.execute(
        "SELECT table_name FROM duckdb_tables() WHERE regexp_full_match(table_name, 'logs_m?[0-9]+') AND table_name "
        "NOT IN (SELECT table_name FROM duckdb_columns() WHERE column_name = 'template_id')"
    ).fetchall():
        con.execute(f"ALTER TABLE {name} ADD COLUMN template_id VARCHAR DEFAULT ''")


def stored_segment(con: duckdb.DuckDBPyConnection) -> int:
    """The first segment of the journal that the file, as this connection sees it, does not hold."""
    row = con.execute("SELECT max(segment) FROM journal").fetchone()
    return int(row[0]) if row and row[0] is not None else 0


def costs_ddl() -> str:
    from aiops.core.cost import STORED_COLUMNS

    columns = ", ".join(f'"{name}" {cost_type(name)}' for name in STORED_COLUMNS)
    return f"CREATE TABLE IF NOT EXISTS costs (x_source VARCHAR, {columns}, x_extra VARCHAR)"


def cost_type(column: str) -> str:
    if column.endswith(("PeriodStart", "PeriodEnd")):
        return "BIGINT"
    return "DOUBLE" if column.endswith(("Cost", "Quantity")) else "VARCHAR"


class Partitions:
    """Which ``<kind>_<number>`` tables exist. Kept in memory; changed by the writer thread only."""

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        self._numbers: dict[str, tuple[int, ...]] = {}
        self.load(con)

    def load(self, con: duckdb.DuckDBPyConnection) -> None:
        numbers: dict[str, list[int]] = {kind: [] for kind in PARTITIONED}
        for (name,) in con.execute(
            "SELECT table_name FROM duckdb_tables() WHERE database_name = current_database()"
        ).fetchall():
            kind, _, number = str(name).rpartition("_")
            if kind in PARTITIONED:
                numbers[kind].append(number_of(number))
        for kind, found in numbers.items():
            self._set(kind, tuple(found))

    def numbers(self, kind: str) -> tuple[int, ...]:
        """Ascending."""
        return self._numbers[kind]

    def between(self, kind: str, first: int, last: int) -> list[str]:
        return [table(kind, n) for n in self._numbers[kind] if first <= n <= last]

    def ensure(self, con: duckdb.DuckDBPyConnection, kind: str, number: int) -> str:
        """The table's name, created in the running transaction where missing; :meth:`added` after the commit."""
        name = table(kind, number)
        if number not in self._numbers[kind]:
            con.execute(f"CREATE TABLE IF NOT EXISTS {name} ({PARTITIONED[kind]})")
        return name

    def added(self, kind: str, number: int) -> None:
        if number not in self._numbers[kind]:
            self._set(kind, (*self._numbers[kind], number))

    def dropped(self, kind: str, number: int) -> None:
        self._set(kind, tuple(n for n in self._numbers[kind] if n != number))

    def _set(self, kind: str, numbers: tuple[int, ...]) -> None:
        self._numbers[kind] = tuple(sorted(numbers))


def table(kind: str, number: int) -> str:
    return f"{kind}_{number}" if number >= 0 else f"{kind}_m{-number}"


def number_of(text: str) -> int:
    return -int(text[1:]) if text.startswith("m") else int(text)
