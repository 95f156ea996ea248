"""Training windows as Parquet files that any tool reads: series, time, value, observed, one row a point.

Rows go series by series, each in the order of time, so that a window comes back as it was written. NaN is a NULL there.
Columns have no dictionaries: those would make -0 a 0, and the files larger.
"""

from __future__ import annotations

import base64
from pathlib import Path

import duckdb
import numpy as np

from aiops.core.anomaly import Batch
from aiops.core.errors import InvalidInput, TransientError
from aiops.store.telemetry.encryption import extension_path

_KEY = "aiops"


def write_batch(batch: Batch, path: Path, *, about: str = "", key: bytes | None = None) -> None:
    """Write a window; a half-written file never stands under ``path``.

    Args:
        about: text for the file's metadata, such as the query.
        key: 32 bytes to encrypt it with, footer and columns.

    Raises:
        InvalidInput: the window's times are not spaced by its step.
        TransientError: the disk refuses.
        ConfigError: encryption is asked for and DuckDB's module is not installed.
    """
    steps = len(batch.timestamps)
    if not len(batch) or not steps or not np.array_equal(np.diff(batch.timestamps), [batch.step_ms] * (steps - 1)):
        raise InvalidInput("A snapshot needs series at evenly spaced times.")
    draft = path.with_name(f".{path.name}.part")
    con = _connect(key)
    try:
        con.register("points", {"value": batch.values.reshape(-1), "observed": batch.mask.reshape(-1)})
        con.execute("SET VARIABLE ids = $1", [list(batch.series_ids)])
        owners: list[str | None] = [*batch.groups] if batch.groups else [None] * len(batch)
        con.execute("SET VARIABLE owners = $1", [owners])
        con.execute("SET VARIABLE about = $1", [about])
        con.execute(
            f"""COPY (
              SELECT getvariable('ids')[i // {steps} + 1] AS series, getvariable('owners')[i // {steps} + 1] AS owner,
                make_timestamp_ms({int(batch.timestamps[0])} + {batch.step_ms} * (i % {steps})) AS time, value, observed
              FROM points POSITIONAL JOIN range({batch.values.size}) AS numbers(i)
            ) TO '{_quoted(draft)}' (FORMAT parquet, COMPRESSION zstd, PARQUET_VERSION v2, DICTIONARY_SIZE_LIMIT 0,
              KV_METADATA {{aiops: getvariable('about')}}{_footer(key, ", ENCRYPTION_CONFIG ")})"""  # noqa: S608
        )
        draft.replace(path)
    except (duckdb.Error, OSError) as error:
        raise TransientError(f"The snapshot {path.name} cannot be written: {_first(error)}.") from error
    finally:
        con.close()
        draft.unlink(missing_ok=True)


def read_batch(path: Path, step_ms: int, steps: int, *, key: bytes | None = None) -> Batch:
    """The window that :func:`write_batch` wrote, bit for bit.

    Raises:
        InvalidInput: the file is damaged, of another shape, or encrypted with another key.
        TransientError: it is not there.
    """
    if not path.is_file():
        raise TransientError(f"The snapshot {path.name} is not there.")
    con = _connect(key)
    source = f"read_parquet('{_quoted(path)}', file_row_number = true{_footer(key, ', encryption_config = ')})"
    try:
        got = con.execute(f"SELECT value, observed FROM {source}").fetchnumpy()  # noqa: S608
        heads = con.execute(
            f"SELECT series, owner, epoch_ms(time) FROM {source} WHERE file_row_number % {steps} = 0"  # noqa: S608
        ).fetchall()
    except duckdb.Error as error:
        raise InvalidInput(f"The snapshot {path.name} cannot be read: {_first(error)}.") from error
    finally:
        con.close()
    values, observed = np.ma.filled(got["value"], np.nan), np.ma.getdata(got["observed"])
    if values.size != len(heads) * steps or not heads or values.dtype != np.float32 or observed.dtype != np.bool_:
        raise InvalidInput(f"The snapshot {path.name} does not hold {steps} steps of each series.")
    return Batch(
        values.reshape(-1, steps),
        observed.reshape(-1, steps),
        heads[0][2] + step_ms * np.arange(steps, dtype=np.int64),
        step_ms,
        tuple(series for series, _, _ in heads),
        () if heads[0][1] is None else tuple(owner for _, owner, _ in heads),
    )


def _connect(key: bytes | None) -> duckdb.DuckDBPyConnection:
    con = duckdb.connect(":memory:", config={"threads": 1, "autoinstall_known_extensions": False})
    if key is not None:
        con.execute(f"LOAD '{_quoted(extension_path())}'")
        con.execute(f"PRAGMA add_parquet_key('{_KEY}', '{base64.b64encode(key).decode('ascii')}')")
    return con


def _footer(key: bytes | None, words: str) -> str:
    return "" if key is None else f"{words}{{footer_key: '{_KEY}'}}"


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def _first(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".")
