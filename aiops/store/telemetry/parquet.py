"""Reads Parquet files of others with DuckDB; injected where a plug-in needs it (``core.ports.TableReader``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from aiops.core.errors import InvalidInput

_NUMBERS = ("DECIMAL", "DOUBLE", "FLOAT", "REAL")
_NESTED = ("MAP", "STRUCT")


def read_parquet(path: Path) -> Mapping[str, NDArray[Any]]:
    """Columns as text (NULL as empty), float64 (NULL as NaN) or int64 ms for times (NULL as -1).

    Raises:
        InvalidInput: the file cannot be read as Parquet.
    """
    con = duckdb.connect(":memory:", config={"threads": 1, "autoinstall_known_extensions": False})
    try:
        described = con.execute("DESCRIBE SELECT * FROM read_parquet(?)", [str(path)]).fetchall()
        picked = ", ".join(_expression(name, kind) for name, kind, *_ in described)
        got = con.execute(f"SELECT {picked} FROM read_parquet(?)", [str(path)]).fetchnumpy()  # noqa: S608
    except duckdb.Error as error:
        raise InvalidInput(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}") from error
    finally:
        con.close()
    return {name: np.ma.getdata(column) for name, column in got.items()}


def _expression(name: str, kind: str) -> str:
    quoted = '"' + name.replace('"', '""') + '"'
    if kind.startswith(("TIMESTAMP", "DATE")):
        # A cast between the zoned and the plain type would apply this machine's zone.
        cast = "" if kind == "TIMESTAMP WITH TIME ZONE" else "::TIMESTAMP"
        return f"coalesce(epoch_ms({quoted}{cast}), -1) AS {quoted}"
    if kind.startswith(_NUMBERS):
        return f"coalesce({quoted}::DOUBLE, 'nan'::DOUBLE) AS {quoted}"
    if kind.startswith(_NESTED) or kind.endswith("[]"):
        return f"coalesce(to_json({quoted})::VARCHAR, '') AS {quoted}"
    return f"coalesce({quoted}::VARCHAR, '') AS {quoted}"
