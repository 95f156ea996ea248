"""Encryption at rest: the key, DuckDB's module that encrypts, and the journal's cipher.

The key of the settings is any text. What is handed on are its SHA-256, as hex, to DuckDB (AES-256-GCM over blocks, log
and what spills), and another digest of it to the journal (AES-256-GCM over each frame).
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

from aiops.core.errors import ConfigError
from aiops.settings import StoreSettings

PACKAGE, EXTENSION = "duckdb_extension_httpfs", "httpfs.duckdb_extension"
INSTALL = "Install aiops-assistant[encryption]."
NONCE_BYTES = 12


@dataclass(frozen=True, slots=True, repr=False)
class StoreKey:
    """The key of one store; never shown."""

    secret: bytes

    @property
    def for_duckdb(self) -> str:
        """Hex, so that it needs no quoting; `ATTACH … (ENCRYPTION_KEY '<this>')` opens the file elsewhere."""
        return hashlib.sha256(self.secret).hexdigest()

    def cipher(self) -> Cipher:
        """For the journal. Raises ``ConfigError`` where the package is missing."""
        return Cipher(hashlib.sha256(b"aiops journal\0" + self.secret).digest())


class Cipher:
    """AES-256-GCM with a fresh nonce a message."""

    def __init__(self, key: bytes) -> None:
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ModuleNotFoundError as error:
            raise ConfigError("Encryption needs the package cryptography.", hint=INSTALL) from error
        self._aead = AESGCM(key)

    def seal(self, plain: bytes) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, plain, None)

    def open(self, sealed: bytes) -> bytes | None:
        """The plain bytes, or ``None`` where the key is another or a bit was changed."""
        from cryptography.exceptions import InvalidTag

        try:
            return self._aead.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], None)
        except (InvalidTag, ValueError):
            return None


def key_of(settings: StoreSettings) -> StoreKey | None:
    """The key that the settings give, by value or by file; ``None`` where none is set.

    Raises:
        ConfigError: the file cannot be read or is empty, or both are set.
    """
    text = settings.encryption_key.get_secret_value()
    place = settings.encryption_key_file
    if place is None:
        return StoreKey(text.encode()) if text else None
    if text:
        raise ConfigError("Both store.encryption_key and store.encryption_key_file are set.", hint="Keep one of them.")
    try:
        found = place.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The key file {place} of store.encryption_key_file cannot be read.") from error
    if not found:
        raise ConfigError(f"The key file {place} of store.encryption_key_file is empty.")
    return StoreKey(found.encode())


def extension_path() -> Path:
    """DuckDB's module with OpenSSL, from the wheel that is pinned to DuckDB's version; nothing is downloaded.

    Raises:
        ConfigError: the wheel is not installed.
    """
    package = importlib.util.find_spec(PACKAGE)
    folders = package.submodule_search_locations if package is not None else None
    found = sorted(path for folder in folders or () for path in Path(folder).rglob(EXTENSION))
    if not found:
        raise ConfigError("Encryption needs DuckDB's module httpfs.", hint=INSTALL)
    return found[-1]
