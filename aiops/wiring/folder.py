"""The data folder, and what can be opened in it without the service."""

from __future__ import annotations

import tempfile
from pathlib import Path

from aiops.access.keys import KeyService
from aiops.core.errors import ConfigError
from aiops.settings import Settings
from aiops.store.state.audit import AuditLog
from aiops.store.state.database import StateDatabase, sqlite_url
from aiops.store.state.keys import KeyRepository


def writable(folder: Path) -> Path:
    """The folder, made where it is missing. Raises ``ConfigError`` when it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            f"The data folder {folder} cannot be written: {error.strerror}.", hint="Choose another with --data-dir."
        ) from error
    return folder


def open_state(settings: Settings) -> StateDatabase:
    """The state store, migrated."""
    state = StateDatabase(settings.state.url or sqlite_url(writable(settings.data_dir)))
    try:
        state.upgrade()
    except BaseException:
        state.close()
        raise
    return state


def keys(settings: Settings) -> KeyService:
    """The keys of the state store alone; works beside a running service."""
    state = open_state(settings)
    return KeyService(KeyRepository(state), audit=AuditLog(state))


def audit(settings: Settings) -> AuditLog:
    """The audit log of the state store alone; works beside a running service."""
    return AuditLog(open_state(settings))
