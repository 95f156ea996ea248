"""Turns a plain telemetry file into an encrypted one, or the other way round; the service must not run."""

from __future__ import annotations

import os
from pathlib import Path

import duckdb

from aiops.core.errors import ConfigError, Conflict, PermanentError
from aiops.core.ports import Clock, system_clock
from aiops.settings import StoreSettings
from aiops.store.telemetry.connection import CATALOG, NEW_FILE
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.encryption import extension_path, key_of
from aiops.store.telemetry.manifest import sync_folder
from aiops.store.telemetry.store import TelemetryStore


def encrypt(path: Path, settings: StoreSettings, clock: Clock = system_clock) -> dict[str, int]:
    """Encrypt a plain file in place with the key of ``settings``; gives the rows of each table.

    The new file is written beside the old one, its rows are counted, and it then takes its place. What of the old
    one's bytes the disk still holds is beyond this: on an SSD only the encryption of the whole disk removes them.

    Raises:
        ConfigError: no key is set, the file is not there, or cannot be opened.
        FolderInUse: a service runs.
        Conflict: the file is encrypted already.
        PermanentError: the copy lacks rows; the old file is untouched.
    """
    key = key_of(settings)
    if key is None:
        raise ConfigError("No key is set.", hint="Set store.encryption_key or store.encryption_key_file.")
    if not path.exists():
        raise ConfigError(f"There is no telemetry store at {path}; a new one is encrypted from its start.")
    if is_encrypted(path):
        raise Conflict(f"{path} is encrypted already.")
    plain = settings.model_copy(
        update={"encryption_key": type(settings.encryption_key)(""), "encryption_key_file": None}
    )
    TelemetryStore(TelemetryDatabase(path, plain, clock)).close()  # takes over the journal and the log
    fresh = path.with_name(f".{path.name}.encrypting")
    fresh.unlink(missing_ok=True)
    con = duckdb.connect(
        ":memory:", config={"autoinstall_known_extensions": False, "threads": settings.threads, **NEW_FILE}
    )
    try:
        con.execute(f"LOAD '{_quoted(extension_path())}'")
        con.execute(f"ATTACH '{_quoted(path)}' AS old (READ_ONLY)")
        con.execute(f"ATTACH '{_quoted(fresh)}' AS {CATALOG} (ENCRYPTION_KEY '{key.for_duckdb}')")
        con.execute("SET preserve_insertion_order = true")
        con.execute(f"COPY FROM DATABASE old TO {CATALOG}")
        rows = {name: _counted(con, "old", name) for name in _tables(con)}
        if {name: _counted(con, CATALOG, name) for name in rows} != rows:
            raise PermanentError("The encrypted copy lacks rows; the plain file was left as it is.")
        con.execute(f"CHECKPOINT {CATALOG}")
    except duckdb.Error as error:
        raise PermanentError(f"{path} cannot be encrypted: {(str(error).splitlines() or [''])[0]}") from error
    finally:
        con.close()
    with fresh.open("rb") as file:
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(path.parent)
    return rows


def is_encrypted(path: Path) -> bool:
    """Whether DuckDB would need a key to open the file."""
    con = duckdb.connect(":memory:", config={"autoinstall_known_extensions": False})
    try:
        con.execute(f"ATTACH '{_quoted(path)}' AS probe (READ_ONLY)")
    except duckdb.Error as error:
        return "without a key" in str(error)
    finally:
        con.close()
    return False


def _tables(con: duckdb.DuckDBPyConnection) -> list[str]:
    return [
        str(name)
        for (name,) in con.execute("SELECT table_name FROM duckdb_tables() WHERE database_name = 'old'").fetchall()
    ]


def _counted(con: duckdb.DuckDBPyConnection, catalog: str, table: str) -> int:
    row = con.execute(f"SELECT count(*) FROM {catalog}.{table}").fetchone()  # noqa: S608
    return int(row[0]) if row else 0


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
