"""A consistent copy of the data folder while the service runs, its check, and its way back.

The copy holds everything that was acknowledged before it began. It is built beside its final name and renamed when it
is whole and was read back, so that a folder under the final name is a backup, and a killed one leaves none.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from aiops.core.errors import Conflict, InvalidInput, PermanentError, TransientError
from aiops.store.state.database import StateDatabase
from aiops.store.telemetry.backup import copy_telemetry, verify_telemetry
from aiops.store.telemetry.manifest import Entry, Manifest, check, entry_of, read, sync_folder
from aiops.store.telemetry.store import TelemetryStore

TELEMETRY = "telemetry.duckdb"
SQLITE = ("state.db", "mlflow.db")
FOLDERS = ("models", "datasets", "checkpoints", "keys")
"""Artifacts, what they were trained on, what they became, and the keys that their signatures are checked with."""
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class BackupReport:
    """What a backup holds: rows by table of the telemetry, bytes, and what was left out with the reason."""

    files: int
    bytes: int
    rows: dict[str, int]
    left_out: tuple[str, ...]


def back_up(
    data_dir: Path, telemetry: TelemetryStore, state: StateDatabase | None, target: Path, now_ms: int
) -> BackupReport:
    """Copy the data folder to ``target``, which must not exist.

    Raises:
        Conflict: ``target`` exists or lies in the data folder.
        TransientError: there is no room, or the copy could not be made.
        PermanentError: the copy was read back and is damaged, as is then the original.
    """
    target = target.absolute()
    if target.exists():
        raise Conflict(f"{target} exists.", hint="A backup makes its folder itself.")
    if target.is_relative_to(data_dir.absolute()):
        raise Conflict(f"{target} lies in the data folder itself.", hint="Choose another place.")
    fresh = target.with_name(f".{target.name}.unfinished")
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True, mode=0o700)
        report = _fill(data_dir, telemetry, state, fresh, now_ms)
        fresh.rename(target)
        sync_folder(target.parent)
    except OSError as error:
        raise TransientError(f"The backup {target} cannot be written: {error.strerror}.") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return report


def _fill(
    data_dir: Path, telemetry: TelemetryStore, state: StateDatabase | None, folder: Path, now_ms: int
) -> BackupReport:
    left_out = []
    if state is not None and state.dialect != "sqlite":
        left_out.append("the state, which is in PostgreSQL: use pg_dump")
    for name in SQLITE:
        source = data_dir / name
        if source.exists():
            _copy_sqlite(source, folder / name)
    for name in FOLDERS:  # after their databases: what those name is there
        if (data_dir / name).is_dir():
            shutil.copytree(data_dir / name, folder / name, ignore=shutil.ignore_patterns(".*"))
    copy_telemetry(telemetry, folder / TELEMETRY)
    rows = verify_telemetry(folder / TELEMETRY, telemetry.database.settings)
    entries = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        _sync(path)
        entries.append(entry_of(folder, path))
    about = {"created_ms": now_ms, "rows": rows, "left_out": left_out, "encrypted": telemetry.database.encrypted}
    Manifest("aiops-backup", about, tuple(entries)).write(folder)
    return BackupReport(len(entries), sum(entry.bytes for entry in entries), rows, tuple(left_out))


def verify(folder: Path, telemetry_rows: Callable[[Path], dict[str, int]]) -> Iterator[Entry]:
    """Check a backup: every file against the manifest, every row of every table read, SQLite's own check.

    Args:
        folder: the backup.
        telemetry_rows: counts the rows of a telemetry file, reading all of them.

    Raises:
        InvalidInput: it is no backup, or a file differs; names the file.
    """
    manifest = read(folder, "aiops-backup")
    yield from check(folder, manifest)
    rows = telemetry_rows(folder / TELEMETRY)
    if rows != manifest.about.get("rows"):
        raise InvalidInput(f"{folder / TELEMETRY} has not the rows that the manifest counts.")
    for name in SQLITE:
        if (folder / name).exists():
            _check_sqlite(folder / name)


def restore(folder: Path, data_dir: Path) -> Manifest:
    """Copy a checked backup into a data folder that holds nothing yet.

    Raises:
        Conflict: the data folder is not empty.
        InvalidInput: the folder is no whole backup.
    """
    manifest = read(folder, "aiops-backup")
    for _ in check(folder, manifest):
        pass
    data_dir.mkdir(parents=True, exist_ok=True)
    if any(data_dir.iterdir()):
        raise Conflict(f"{data_dir} is not empty.", hint="Stop the service, move the folder away and try again.")
    for entry in manifest.entries:
        target = data_dir / entry.file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / entry.file, target)  # with its mode: the signing key is its owner's alone
        _sync(target)
        sync_folder(target.parent)
    return manifest


def _copy_sqlite(source: Path, target: Path) -> None:
    """By SQLite's backup, which waits for no writer and copies one moment."""
    try:
        with (
            closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as old,
            closing(sqlite3.connect(target)) as new,
        ):
            old.backup(new)
            new.execute("PRAGMA journal_mode=DELETE").close()  # one file, which may lie where nothing is written
    except sqlite3.Error as error:
        raise PermanentError(f"{source.name} cannot be copied: {error}.") from error
    _check_sqlite(target)


def _check_sqlite(path: Path) -> None:
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as con:
            said = con.execute("PRAGMA integrity_check").fetchone()
    except sqlite3.Error as error:
        raise InvalidInput(f"{path} is damaged: {error}.") from error
    if said != ("ok",):
        raise InvalidInput(f"{path} is damaged: {said[0] if said else 'no answer'}.")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
