"""The telemetry file copied while it is written, and read back.

After a checkpoint DuckDB writes the file's used blocks no more until the next one: what is new goes to the log or to
free blocks. So the file is copied as it is while checkpoints are held back, which stops neither reads nor writes.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb

from aiops.core.errors import InvalidInput, PermanentError, TransientError
from aiops.settings import StoreSettings
from aiops.store.telemetry.connection import open_file
from aiops.store.telemetry.damage import is_damage
from aiops.store.telemetry.store import TelemetryStore

HEADER_BYTES = 3 * 4096
"""The main header and two database headers, one of which every checkpoint rewrites."""


def copy_telemetry(store: TelemetryStore, target: Path) -> None:
    """Copy all that was acknowledged before the call to ``target``.

    Raises:
        TransientError: the store is in memory, or was checkpointed meanwhile; try again.
    """
    source = store.database.path
    if source is None:
        raise TransientError("A store in memory cannot be copied.")
    store.flush()
    with store.database.checkpoints_held():
        before = _header(source)
        shutil.copyfile(source, target)
        if _header(source) != before or _header(target) != before:
            raise TransientError("The store was reopened during the backup.", hint="Try again.")


def verify_telemetry(path: Path, settings: StoreSettings) -> dict[str, int]:
    """Read every row of every table, which checks every block, and count them by table.

    Raises:
        InvalidInput: the file is damaged, or the key is missing or wrong.
        PermanentError: it cannot be read for another reason.
    """
    try:
        con = open_file(path, settings, read_only=True)
    except Exception as error:
        raise InvalidInput(f"{path} cannot be opened: {(str(error).splitlines() or [''])[0]}") from error
    try:
        names = con.execute(
            "SELECT table_name FROM duckdb_tables() WHERE database_name = current_database() ORDER BY 1"
        ).fetchall()
        found = {}
        for (name,) in names:
            row = con.execute(f"SELECT count(*), bit_xor(hash(COLUMNS(*))) FROM {name}").fetchone()  # noqa: S608
            found[str(name)] = int(row[0]) if row else 0
    except duckdb.Error as error:
        said = (str(error).splitlines() or [""])[0]
        if is_damage(said):
            raise InvalidInput(f"{path} is damaged: {said}") from error
        raise PermanentError(f"{path} cannot be read: {said}") from error
    finally:
        con.close()
    return found


def _header(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEADER_BYTES)
