"""How much of the file each signal takes, and from when to when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import duckdb

from aiops.store.telemetry.schema import PARTITIONED, number_of

Signal = Literal["metrics", "logs", "traces", "changes", "costs"]
SIGNALS: tuple[Signal, ...] = get_args(Signal)
Exported = Literal["metrics", "logs", "traces", "changes", "costs", "exemplars", "histograms"]
EXPORTED: tuple[Exported, ...] = get_args(Exported)
"""What an export tells apart; exemplars and native histograms are kept as long as metrics, and counted with them."""
KIND_OF: dict[Signal, str] = {"logs": "logs", "traces": "spans"}
"""Signals that have day tables of rows; every other kind of table belongs to the metrics."""
NS = 1_000_000


@dataclass(frozen=True, slots=True)
class SignalUsage:
    """One signal's share of the file.

    Attributes:
        rows: samples, lines, spans, changes or charges.
        bytes: of the blocks that its tables use. Small tables share blocks, so the sum is about the file's size.
        oldest_ms, newest_ms: 0 where there is nothing.
    """

    signal: Signal
    rows: int
    bytes: int
    oldest_ms: int
    newest_ms: int


@dataclass(frozen=True, slots=True)
class FileUsage:
    """The file as a whole.

    Attributes:
        signals: one of each.
        file_bytes: what the file and its log take on the disk.
        used_bytes: blocks in use, and the log. The difference is given back by itself or used again.
        open_blocks: two-hour blocks that still take samples in arrival order.
        series: interned label sets.
    """

    signals: tuple[SignalUsage, ...]
    file_bytes: int
    used_bytes: int
    open_blocks: int
    series: int


def signal_usage(
    con: duckdb.DuckDBPyConnection, rows: Mapping[Signal, int], metrics_span: tuple[int, int]
) -> tuple[SignalUsage, ...]:
    """Every signal's share, given the rows of those that are counted anyway and the times of the metrics (ms)."""
    con.execute("BEGIN TRANSACTION")  # a table that maintenance drops meanwhile is still there
    tables = _tables(con)
    found = []
    for signal in SIGNALS:
        oldest, newest = metrics_span
        own = tables[signal]
        if signal in KIND_OF:
            column = "ns" if signal == "logs" else "start_ns"
            low, high = _span(con, own[:1], column)[0], _span(con, own[-1:], column)[1]
            oldest, newest = low // NS, high // NS
        elif signal == "changes":
            oldest, newest = _span(con, own, "time_ms")
        elif signal == "costs":
            oldest, newest = _span(con, own, '"ChargePeriodStart"')
        count = rows[signal] if signal in rows else _count(con, own[0])
        found.append(SignalUsage(signal, count, table_bytes(con, own), oldest, newest))
    con.execute("ROLLBACK")
    return tuple(found)


def _tables(con: duckdb.DuckDBPyConnection) -> dict[Signal, list[str]]:
    """Names of each signal's tables, those of days in order of time."""
    signal_of = {kind: signal for signal, kind in KIND_OF.items()}
    found: dict[Signal, list[tuple[int, str]]] = {signal: [] for signal in SIGNALS}
    names = con.execute("SELECT table_name FROM duckdb_tables() WHERE database_name = current_database()").fetchall()
    for (name,) in names:
        kind, _, number = str(name).rpartition("_")
        if kind in PARTITIONED:
            found[signal_of.get(kind, "metrics")].append((number_of(number), name))
        elif name in ("changes", "costs"):
            found[name].append((0, name))
        else:
            found["metrics"].append((0, name))
    return {signal: [name for _, name in sorted(pairs)] for signal, pairs in found.items()}


def _count(con: duckdb.DuckDBPyConnection, table: str) -> int:
    row = con.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608
    return int(row[0]) if row else 0


def _span(con: duckdb.DuckDBPyConnection, tables: Sequence[str], column: str) -> tuple[int, int]:
    """Least and greatest, 0 where there is none."""
    if not tables:
        return 0, 0
    row = con.execute(f"SELECT min({column}), max({column}) FROM {tables[0]}").fetchone()  # noqa: S608
    return (int(row[0] or 0), int(row[1] or 0)) if row else (0, 0)


def table_bytes(con: duckdb.DuckDBPyConnection, tables: Sequence[str]) -> int:
    """Bytes of the blocks that the tables use on the disk; nothing for what is not checkpointed yet."""
    blocks: set[int] = set()
    for name in tables:
        con.execute(
            "SELECT DISTINCT unnest(list_append(additional_block_ids, block_id)) FROM pragma_storage_info(?) "
            "WHERE persistent",
            [name],
        )
        blocks.update(row[0] for row in con.fetchall())
    return len(blocks - {-1}) * block_size(con)


def block_size(con: duckdb.DuckDBPyConnection) -> int:
    return _size_row(con)[0]


def used_bytes(con: duckdb.DuckDBPyConnection) -> int:
    """Bytes of blocks in use, without the log."""
    size, used = _size_row(con)
    return size * used


def _size_row(con: duckdb.DuckDBPyConnection) -> tuple[int, int]:
    row = con.execute(
        "SELECT block_size, used_blocks FROM pragma_database_size() WHERE database_name = current_database()"
    ).fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)
