"""Scores of a batch as one Parquet file, written part by part, and read back as CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb
import numpy as np
from numpy.typing import NDArray

from aiops.core.errors import NotFound, TransientError

COLUMNS = ("value", "score", "expected", "lower", "upper", "threshold")


class ScoreFile:
    """One file under ``path``, whole once :meth:`finish` returns. Used by one thread.

    Rows are series, time (UTC), and ``COLUMNS`` as 32-bit floats; NaN is a NULL.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parts: list[Path] = []

    def add(self, ids: Sequence[str], times: NDArray[np.int64], columns: Mapping[str, NDArray[np.float32]]) -> None:
        """Append rows, all [N]; raises ``TransientError`` where the disk refuses."""
        part = self._path.with_name(f".{self._path.name}.{len(self._parts)}.part")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with duckdb.connect(":memory:", config={"threads": 1}) as con:
                names, owner = np.unique(np.array(ids, object), return_inverse=True)
                con.execute("SET VARIABLE names = $1", [names.tolist()])
                con.register("points", {"owner": owner.astype(np.int64), "time": times, **columns})
                floats = ", ".join(f"CASE WHEN isnan({c}) THEN NULL ELSE {c} END AS {c}" for c in COLUMNS)
                rows = f"SELECT getvariable('names')[owner + 1] AS series, make_timestamp_ms(time) AS time, {floats}"
                con.execute(f"COPY ({rows} FROM points) TO '{_quoted(part)}' (FORMAT parquet, COMPRESSION zstd)")
            self._parts.append(part)
        except (duckdb.Error, OSError) as error:
            raise TransientError(f"The scores cannot be written: {_first(error)}.") from error

    def finish(self) -> None:
        """Put the parts together; without any, there is no file."""
        if not self._parts:
            return
        try:
            if len(self._parts) == 1:
                self._parts[0].replace(self._path)
            else:
                draft = self._path.with_name(f".{self._path.name}.whole.part")
                listed = ", ".join(f"'{_quoted(part)}'" for part in self._parts)
                with duckdb.connect(":memory:", config={"threads": 1}) as con:
                    con.execute(
                        f"COPY (SELECT * FROM read_parquet([{listed}])) TO '{_quoted(draft)}' "  # noqa: S608
                        "(FORMAT parquet, COMPRESSION zstd)"
                    )
                draft.replace(self._path)
        except (duckdb.Error, OSError) as error:
            raise TransientError(f"The scores cannot be written: {_first(error)}.") from error
        finally:
            self.discard()

    def discard(self) -> None:
        """Drop parts that are not in the file."""
        for part in self._parts:
            part.unlink(missing_ok=True)
        self._parts.clear()


def as_csv(path: Path) -> bytes:
    """The file's rows as CSV with a header. Raises ``NotFound``."""
    if not path.is_file():
        raise NotFound("There are no scores.")
    out = path.with_name(f".{path.name}.csv.part")
    try:
        with duckdb.connect(":memory:", config={"threads": 1}) as con:
            con.execute(f"COPY (SELECT * FROM '{_quoted(path)}') TO '{_quoted(out)}' (FORMAT csv, HEADER)")  # noqa: S608
        return out.read_bytes()
    except (duckdb.Error, OSError) as error:
        raise TransientError(f"The scores cannot be read: {_first(error)}.") from error
    finally:
        out.unlink(missing_ok=True)


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def _first(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".")
