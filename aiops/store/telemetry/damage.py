"""Tells a damaged file from other failures, and says what to do about it."""

from __future__ import annotations

import re
from pathlib import Path

_SIGNS = re.compile(
    r"corrupt|checksum|could not read enough bytes|not a valid duckdb|failed to deserialize|failure while replaying wal"
    r"|serialization error",
    re.IGNORECASE,
)
HINT = "Restore it from a backup (docs/operations.md), or move it away to start empty."


def is_damage(message: str) -> bool:
    """Whether DuckDB's words mean that bytes on the disk are not what was written.

    >>> is_damage("IO Error: Corrupt database file: computed checksum 1 does not match stored checksum 2")
    True
    >>> is_damage("IO Error: Could not set lock on file")
    False
    """
    return _SIGNS.search(message) is not None


def told(path: Path | None, message: str, doing: str = "read") -> str:
    """One line that names the file and what is wrong with it; ``doing`` is what cannot be done to it."""
    what = re.sub(r' "[^"]*"', "", (message.splitlines() or [""])[0]).removeprefix("IO Error: ").rstrip(".!")
    return f"The telemetry store {path} is damaged and cannot be {doing}: {what}."
