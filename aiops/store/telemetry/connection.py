"""Opens a telemetry file in DuckDB, plain or encrypted, closed to the file system and to extensions."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb

from aiops.core.errors import ConfigError, FolderInUse
from aiops.settings import StoreSettings
from aiops.store.telemetry.damage import HINT, is_damage, told
from aiops.store.telemetry.encryption import StoreKey, extension_path, key_of

CATALOG = "telemetry"
"""Name of an attached file; a plain one is opened directly and bears its own."""
CHECKPOINT_AT = "64MB"
NEW_FILE: dict[str, str | bool | int | float | list[str]] = {
    "default_block_size": 16_384,
    "storage_compatibility_version": "v1.4.0",
}
"""How a new file is laid out; an older one keeps what it was made with. A table takes whole blocks and there are
several tables a day: DuckDB's own 256 KiB would make a small store several times larger than what is in it. The
versions before 1.1 take 3 kB of statistics a column, and those before 1.3 pack strings less."""


def open_file(path: Path | None, settings: StoreSettings, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    """A connection whose current database is the file; ``None`` is one in memory.

    Raises:
        FolderInUse: another process holds the file.
        ConfigError: it cannot be opened, is damaged, or the key is missing, wrong or not wanted.
    """
    key = key_of(settings) if path is not None else None
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": settings.memory_limit,
        "threads": settings.threads,
        "checkpoint_threshold": CHECKPOINT_AT,
        **NEW_FILE,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "python_enable_replacements": False,
        "pandas_analyze_sample": 0,
    }
    if path is not None:
        config["temp_directory"] = str(path) + ".tmp"
    try:
        if path is None or key is None:
            config["enable_external_access"] = False
            return duckdb.connect(str(path) if path is not None else ":memory:", read_only=read_only, config=config)
        return _attach(path, key, config, read_only)
    except duckdb.Error as error:
        raise why_not_opened(path, str(error), key is not None) from error


def _attach(
    path: Path, key: StoreKey, config: dict[str, str | bool | int | float | list[str]], read_only: bool
) -> duckdb.DuckDBPyConnection:
    con = duckdb.connect(":memory:", config=config)
    try:
        con.execute(f"LOAD '{_quoted(extension_path())}'")
        mode = ", READ_ONLY" if read_only else ""
        con.execute(f"ATTACH '{_quoted(path)}' AS {CATALOG} (ENCRYPTION_KEY '{key.for_duckdb}'{mode})")
        con.execute("SET temp_file_encryption = true")
        con.execute("SET enable_external_access = false")
        con.execute(f"USE {CATALOG}")
    except BaseException:
        con.close()
        raise
    return con


def why_not_opened(path: Path | None, message: str, has_key: bool) -> ConfigError:
    """What DuckDB's refusal means to the operator, in one line."""
    low = message.lower()
    name = f"The telemetry store {path}"
    if path is not None and "could not set lock" in low:
        holder = re.search(r"PID (\d+)", message)
        by = f"by pid {holder[1]}" if holder else "by another process"
        return FolderInUse(f"The data folder {path.parent} is in use {by}.")
    if "encrypted database" in low and "without a key" in low:
        return ConfigError(f"{name} is encrypted.", hint="Set store.encryption_key or store.encryption_key_file.")
    if has_key and "is not encrypted" in low:
        return ConfigError(f"{name} is not encrypted, but a key is set.", hint="`aiops store encrypt` encrypts it.")
    if has_key and "encryption key" in low:
        return ConfigError(f"{name} cannot be opened: the key is wrong.", hint="See store.encryption_key.")
    if is_damage(message):
        return ConfigError(told(path, message, "opened"), hint=HINT)
    return ConfigError(f"{name} cannot be opened: {(message.splitlines() or [''])[0]}")


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
