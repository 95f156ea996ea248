"""Encryption at rest of what the model layer keeps: AES-256-GCM over whole files, each bound to its name.

The key is derived from ``models.registry.encryption_key`` or, without one, from the store's; never from both, so that
a store may be handed on with its models closed.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from aiops.core.errors import ConfigError, InvalidInput
from aiops.settings.models import RegistrySettings
from aiops.settings.store import StoreSettings

MAGIC = b"AIOPSEN1"
"""How a sealed file begins; the nonce and the sealed bytes follow."""
_NONCE = 12


@dataclass(frozen=True, slots=True, repr=False)
class ArtifactKey:
    """The key of a data folder's models; never shown."""

    secret: bytes

    @property
    def for_parquet(self) -> bytes:
        """32 bytes for the snapshots, which DuckDB encrypts."""
        return hashlib.sha256(b"aiops datasets\0" + self.secret).digest()

    @property
    def for_files(self) -> bytes:
        """32 bytes for artifacts and checkpoints."""
        return hashlib.sha256(b"aiops models\0" + self.secret).digest()


def key_of(registry: RegistrySettings, store: StoreSettings) -> ArtifactKey | None:
    """The key that the settings give; ``None`` where nothing is encrypted.

    Raises:
        ConfigError: a key file cannot be read or is empty, or both a key and a file are set.
    """
    own = _secret(registry.encryption_key, registry.encryption_key_file, "models.registry")
    found = own or _secret(store.encryption_key, store.encryption_key_file, "store")
    return ArtifactKey(found) if found else None


def seal(plain: bytes, name: str, key: ArtifactKey | None) -> bytes:
    """The bytes to write: sealed for the file ``name``, or as they are without a key."""
    if key is None:
        return plain
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = os.urandom(_NONCE)
    return MAGIC + nonce + AESGCM(key.for_files).encrypt(nonce, plain, name.encode())


def unseal(data: bytes, name: str, key: ArtifactKey | None) -> bytes:
    """The plain bytes of a file, sealed or not.

    Raises:
        ConfigError: it is sealed and there is no key.
        InvalidInput: the key is another, a bit was changed, or the file had another name.
    """
    if not data.startswith(MAGIC):
        return data
    if key is None:
        raise ConfigError(
            "The model artifact is encrypted and no key is set.", hint="Set models.registry.encryption_key."
        )
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    start = len(MAGIC) + _NONCE
    try:
        return AESGCM(key.for_files).decrypt(data[len(MAGIC) : start], data[start:], name.encode())
    except (InvalidTag, ValueError) as error:
        raise InvalidInput(
            "The model artifact cannot be decrypted: the key is another, or the file was changed.",
            hint="Set models.registry.encryption_key to the key that it was written with.",
        ) from error


def _secret(text: SecretStr, place: Path | None, section: str) -> bytes:
    value = text.get_secret_value()
    if place is None:
        return value.encode()
    if value:
        raise ConfigError(f"Both {section}.encryption_key and {section}.encryption_key_file are set.")
    try:
        found = place.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The key file {place} of {section}.encryption_key_file cannot be read.") from error
    if not found:
        raise ConfigError(f"The key file {place} of {section}.encryption_key_file is empty.")
    return found.encode()
