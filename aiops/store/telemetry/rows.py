"""Insertion of sample rows into a table of ``sid, ts, val, nan``."""

from __future__ import annotations

from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray


def insert_rows(
    con: duckdb.DuckDBPyConnection,
    name: str,
    sid: NDArray[np.int32],
    ts: NDArray[np.int64],
    values: NDArray[np.float64],
) -> None:
    """DuckDB reads a NumPy NaN as NULL, so a NaN's bits go to a column of their own."""
    is_nan = np.isnan(values)
    columns: dict[str, NDArray[Any]] = {"sid": sid, "ts": ts, "val": values}
    nan = "NULL"
    if is_nan.any():
        columns["bits"] = values.view(np.int64)
        columns["isnan"] = is_nan
        nan = "CASE WHEN isnan THEN bits END"
    con.register("rows", columns)
    con.execute(f"INSERT INTO {name} SELECT sid, ts, val, {nan} FROM rows")  # noqa: S608
    con.unregister("rows")
