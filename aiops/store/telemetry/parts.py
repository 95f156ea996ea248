"""Parquet files of an export: documented columns, written and read by a DuckDB of their own.

The columns are those of docs/operations.md; plain DuckDB and pyarrow read them. Times are integers since the epoch,
UTC, in the unit that the name says. A NaN sample is NaN in ``value`` with its bits in ``nan_bits``, so that a staleness
marker is told from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import duckdb
import numpy as np
from numpy.typing import NDArray

from aiops.core.cost import STORED_COLUMNS
from aiops.core.errors import InvalidInput
from aiops.core.series import METRIC_NAME, Labels, SampleBlock
from aiops.store.telemetry.schema import cost_type
from aiops.store.telemetry.usage import Exported

MEMORY = "384MB"
ROW_GROUP = 122_880
FETCH_ROWS = 20_000

COLUMNS: dict[Exported, dict[str, str]] = {
    "metrics": {
        "name": "VARCHAR",
        "labels": "MAP(VARCHAR, VARCHAR)",
        "time_ms": "BIGINT",
        "value": "DOUBLE",
        "nan_bits": "BIGINT",
    },
    "logs": {
        "time_ns": "BIGINT", "severity": "INTEGER", "severity_text": "VARCHAR", "service": "VARCHAR",
        "body": "VARCHAR", "resource": "VARCHAR", "attributes": "VARCHAR", "trace_id": "VARCHAR", "span_id": "VARCHAR",
    },
    "traces": {
        "trace_id": "VARCHAR", "span_id": "VARCHAR", "parent_span_id": "VARCHAR", "name": "VARCHAR",
        "kind": "VARCHAR", "start_ns": "BIGINT", "end_ns": "BIGINT", "status": "VARCHAR", "service": "VARCHAR",
        "resource": "VARCHAR", "attributes": "VARCHAR",
    },
    "changes": {
        "time_ms": "BIGINT", "kind": "VARCHAR", "service": "VARCHAR", "title": "VARCHAR", "author": "VARCHAR",
        "link": "VARCHAR", "environment": "VARCHAR", "attributes": "VARCHAR",
    },
    "costs": {
        "x_source": "VARCHAR", **{name: cost_type(name) for name in STORED_COLUMNS}, "x_extra": "VARCHAR",
    },
    "exemplars": {
        "series": "VARCHAR", "time_ms": "BIGINT", "labels": "VARCHAR", "value": "DOUBLE", "value_bits": "BIGINT",
    },
    "histograms": {"series": "VARCHAR", "time_ms": "BIGINT", "protobuf_hex": "VARCHAR"},
}  # fmt: skip
"""Column name to DuckDB type, by signal. ``resource``, ``attributes``, ``series`` and the ``labels`` of exemplars are
JSON objects as text; a native histogram is a ``prometheus.Histogram`` message."""


def _scratch(folder: Path) -> duckdb.DuckDBPyConnection:
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": MEMORY,
        "threads": 1,
        "temp_directory": str(folder / "spill"),
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "python_enable_replacements": False,
        "pandas_analyze_sample": 0,
    }
    return duckdb.connect(":memory:", config=config)


class PartWriter:
    """Collects rows of one signal and writes them as one file; memory stays below :data:`MEMORY`, the rest spills.

    Args:
        signal: which columns.
        folder: private to this writer; holds what spills.
    """

    def __init__(self, signal: Exported, folder: Path) -> None:
        self.signal = signal
        self.rows = 0
        self._con = _scratch(folder)
        self._con.execute(f"CREATE TABLE part ({_ddl(signal)})")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _t: type[BaseException] | None, _e: BaseException | None, _b: TracebackType | None) -> None:
        self._con.close()

    def add_rows(self, rows: list[tuple[Any, ...]]) -> None:
        """Rows of any signal but metrics, in the order of its columns."""
        if not rows:
            return
        kinds = COLUMNS[self.signal]
        by_column = zip(kinds.items(), zip(*rows, strict=True), strict=True)
        self._con.register("rows", {name: _column(values, kind) for (name, kind), values in by_column})
        self._con.execute(f"INSERT INTO part SELECT {', '.join(_quoted(n) for n in kinds)} FROM rows")  # noqa: S608
        self._con.unregister("rows")
        self.rows += len(rows)

    def add_samples(self, block: SampleBlock) -> None:
        if not block.sample_count:
            return
        labels = [tuple(pair for pair in found if pair[0] != METRIC_NAME) for found in block.labels]
        self._con.execute(
            "CREATE TEMP TABLE s AS SELECT unnest($1::INTEGER[]) i, unnest($2::VARCHAR[]) n, "
            "map(unnest($3::VARCHAR[][]), unnest($4::VARCHAR[][])) l",
            [
                list(range(len(block))),
                [dict(found).get(METRIC_NAME, "") for found in block.labels],
                [[k for k, _ in pairs] for pairs in labels],
                [[v for _, v in pairs] for pairs in labels],
            ],
        )
        is_nan = np.isnan(block.values)
        owner = np.repeat(np.arange(len(block), dtype=np.int32), np.diff(block.offsets))
        columns = {
            "i": owner, "t": block.ts, "v": block.values, "bits": block.values.view(np.int64), "isnan": is_nan,
        }  # fmt: skip
        self._con.register("rows", columns)
        self._con.execute(
            "INSERT INTO part SELECT s.n, s.l, t, CASE WHEN isnan THEN 'nan'::DOUBLE ELSE v END, "
            "CASE WHEN isnan THEN bits END FROM rows JOIN s USING (i)"
        )
        self._con.unregister("rows")
        self._con.execute("DROP TABLE s")
        self.rows += block.sample_count

    def write(self, path: Path) -> None:
        """The file, compressed with zstd."""
        self._con.execute(
            f"COPY part TO '{_literal(path)}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP})"
        )


class PartReader:
    """Reads one file of an export.

    Raises:
        InvalidInput: the file is no Parquet or has other columns than an export of ``signal``.
    """

    def __init__(self, signal: Exported, path: Path, folder: Path) -> None:
        self.signal = signal
        self._con = _scratch(folder)
        try:
            self._con.execute(f"CREATE VIEW part AS SELECT * FROM read_parquet('{_literal(path)}')")  # noqa: S608
            described = self._con.execute("DESCRIBE part").fetchall()
        except duckdb.Error as error:
            self._con.close()
            raise InvalidInput(f"The file cannot be read as Parquet: {str(error).splitlines()[0]}") from error
        found = {str(name): str(kind) for name, kind, *_ in described}
        if found != COLUMNS[signal]:
            self._con.close()
            raise InvalidInput(f"The file has not the columns of exported {signal}.")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _t: type[BaseException] | None, _e: BaseException | None, _b: TracebackType | None) -> None:
        self._con.close()

    def sample_blocks(self, series: int = 500) -> Iterator[SampleBlock]:
        """All samples, so many series at a time."""
        self._con.execute(
            "CREATE TEMP TABLE s AS SELECT row_number() OVER () - 1 AS i, * "
            "FROM (SELECT DISTINCT name, labels FROM part)"
        )
        self._con.execute(
            "CREATE TEMP TABLE t AS SELECT s.i, time_ms, value, nan_bits FROM part JOIN s USING (name, labels)"
        )
        names = self._con.execute("SELECT name, map_keys(labels), map_values(labels) FROM s ORDER BY i").fetchall()
        for first in range(0, len(names), series):
            got = self._con.execute(
                "SELECT i, time_ms, coalesce(value, 0) v, nan_bits IS NOT NULL isnan, coalesce(nan_bits, 0) bits "
                "FROM t WHERE i >= ? AND i < ? ORDER BY i, time_ms",
                [first, first + series],
            ).fetchnumpy()
            owner = _plain(got["i"]).astype(np.int64) - first
            values = _plain(got["v"]).astype(np.float64)
            is_nan = _plain(got["isnan"]).astype(np.bool_)
            values.view(np.int64)[is_nan] = _plain(got["bits"])[is_nan]
            chosen = names[first : first + series]
            offsets = np.searchsorted(owner, np.arange(len(chosen) + 1)).astype(np.int64)
            labels = tuple(_labels(*row) for row in chosen)
            yield SampleBlock(labels, offsets, _plain(got["time_ms"]).astype(np.int64), values)

    def rows(self, order: str = "") -> Iterator[list[tuple[Any, ...]]]:
        """Rows in chunks; where ``order`` names a column, rows with equal values of it share a chunk."""
        picked = ", ".join(
            f"coalesce({_quoted(name)}, '')" if kind == "VARCHAR" and self.signal != "costs" else _quoted(name)
            for name, kind in COLUMNS[self.signal].items()
        )
        self._con.execute(f"SELECT {picked} FROM part" + (f" ORDER BY {order}" if order else ""))  # noqa: S608
        at = list(COLUMNS[self.signal]).index(order) if order else -1
        held: list[tuple[Any, ...]] = []
        while found := self._con.fetchmany(FETCH_ROWS):
            held += found
            cut = len(held)
            if order:
                while cut and held[cut - 1][at] == held[-1][at]:
                    cut -= 1
            if cut:
                yield held[:cut]
                held = held[cut:]
        if held:
            yield held


def _ddl(signal: Exported) -> str:
    return ", ".join(f"{_quoted(name)} {kind}" for name, kind in COLUMNS[signal].items())


def _quoted(name: str) -> str:
    return f'"{name}"'


def _literal(path: Path) -> str:
    return str(path).replace("'", "''")


def _column(values: tuple[Any, ...], kind: str) -> NDArray[Any]:
    """DuckDB takes NaN for NULL, and an object for text, which is exact for integers but not for doubles."""
    if kind == "DOUBLE":
        return np.array([np.nan if v is None else v for v in values], np.float64)
    if kind in ("BIGINT", "INTEGER") and None not in values:
        return np.array(values, np.int64)
    out = np.empty(len(values), object)
    out[:] = values
    return out


def _plain(array: Any) -> NDArray[Any]:
    return np.asarray(np.ma.getdata(array))


def _labels(name: str, keys: list[str], values: list[str]) -> Labels:
    pairs: Mapping[str, str] = dict(zip(keys, values, strict=True))
    return tuple(sorted({**pairs, METRIC_NAME: name}.items() if name else pairs.items()))
