"""Signatures of artifact folders: made at registration, checked at every load.

A signature is OpenSSF's model signing: the SHA-256 of every file in an in-toto statement, signed by an elliptic-curve
key, as a Sigstore bundle in ``model.sig``; ``model_signing verify key`` checks it without us. What a folder may hold
is a list of kinds that cannot run code.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import json
import os
import re
import threading
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from aiops.core.errors import ConfigError, InvalidInput
from aiops.settings.models import RegistrySettings

SIGNATURE = "model.sig"
KEY_FILE, PUBLIC_FILE = "signing.pem", "signing.pub"
KEY_FOLDER = "keys"
_NOTE = "registered_model_meta"
"""MLflow's note of the name under which a model was loaded, written into the folder by whoever loads it."""
_UNSIGNED = frozenset({SIGNATURE, _NOTE})
_DATA = frozenset({".safetensors", ".onnx", ".json", ".yaml", ".txt", ".md"})
_NAMES = frozenset({"MLmodel", SIGNATURE, _NOTE})
_PICKLES = frozenset({".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib", ".dill", ".cloudpickle"})
_FOUND = (
    (re.compile(r"Hash mismatch for [\\]*'(.*?)[\\]*': Expected"), "files were changed after they were signed"),
    (re.compile(r"Extra files found in model .*?': (.*?)[\"'](?:, |\])"), "files that were not signed were added"),
    (re.compile(r"Missing files in model .*?': (.*?)[\"'](?:, |\])"), "files that were signed are missing"),
)
"""How the library says what differs, and how we do."""
_RESTORE = "Restore the folder from a backup, or roll back to another version."


class Signer:
    """Signs and verifies folders. Thread-safe; a key is made on the first signature, readable by its owner alone.

    Args:
        folder: holds the key pair that is made, ``signing.pem`` and ``signing.pub``.
        settings: another private key, further trusted public keys, whether a signature is required.
    """

    def __init__(self, folder: Path, settings: RegistrySettings | None = None) -> None:
        self._folder = folder
        self._settings = settings or RegistrySettings()
        self._lock = threading.Lock()

    def sign(self, folder: Path, programs: Collection[str] = ()) -> None:
        """Write ``model.sig`` over every file of ``folder``; ``programs`` are files of ours that may be there too.

        Raises:
            ConfigError: the key cannot be made, read or opened.
            InvalidInput: the folder holds a file that no model may hold.
        """
        check_kinds(folder, programs)
        private = self._private_key()
        config = _signing().Config().set_hashing_config(_hashing(folder))
        secret = self._settings.signing_key_password.get_secret_value()
        try:
            config.use_elliptic_key_signer(private_key=private, password=secret.encode() if secret else None)
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(
                f"The key {private} cannot sign models: {_first(error)}.",
                hint="It must be the PEM of a P-256, P-384 or P-521 private key, with its password.",
            ) from error
        config.sign(folder, folder / SIGNATURE)

    def verify(self, folder: Path, programs: Collection[str] = ()) -> None:
        """Check every file of ``folder`` against its signature.

        Raises:
            InvalidInput: with the reason: a file is of a kind that can run code, changed, missing or not signed; the
                signature is broken or by a key that is not trusted; or there is none and one is required.
        """
        check_kinds(folder, programs)
        if not (folder / SIGNATURE).is_file():
            if self._settings.require_signature:
                raise InvalidInput(
                    f"The model in {folder.name} is not signed.",
                    hint="Train it again, or set models.registry.require_signature to false and take the risk.",
                )
            return
        public = self._public_key(folder)
        config = _verifying().Config().set_hashing_config(_hashing(folder))
        try:
            config.use_elliptic_key_verifier(public_key=public).verify(folder, folder / SIGNATURE)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, OSError) as error:
            raise InvalidInput(f"The model in {folder.name} is refused: {_reason(error)}.", hint=_RESTORE) from error
        except _invalid_signature() as error:
            raise InvalidInput(
                f"The model in {folder.name} is refused: its signature does not fit what it signs.", hint=_RESTORE
            ) from error

    @property
    def public_key(self) -> Path:
        """The public key that goes with what this signs; both are made where there are none yet."""
        private = self._private_key()
        return self._folder / PUBLIC_FILE if private.parent == self._folder else self._public_of(private)

    # ---------------------------------------------------------------- keys

    def _private_key(self) -> Path:
        if self._settings.signing_key_file is not None:
            return self._settings.signing_key_file
        path = self._folder / KEY_FILE
        with self._lock:
            if not path.is_file() or not (self._folder / PUBLIC_FILE).is_file():
                _make_key(self._folder)
        return path

    def _public_of(self, private: Path) -> Path:
        """The public half of a configured key, written beside our own."""
        from cryptography.hazmat.primitives import serialization

        secret = self._settings.signing_key_password.get_secret_value()
        try:
            key = serialization.load_pem_private_key(private.read_bytes(), secret.encode() if secret else None)
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = self._folder / "configured.pub"
            text = _public_pem(key)
            if not path.is_file() or path.read_bytes() != text:
                path.write_bytes(text)
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(f"The key {private} cannot be read: {_first(error)}.") from error
        return path

    def _trusted(self) -> list[Path]:
        own = [self._folder / PUBLIC_FILE] if (self._folder / PUBLIC_FILE).is_file() else []
        if self._settings.signing_key_file is not None:
            own.append(self._public_of(self._settings.signing_key_file))
        return [*own, *self._settings.trusted_keys]

    def _public_key(self, folder: Path) -> Path:
        """The trusted key that the signature names."""
        try:
            named = json.loads((folder / SIGNATURE).read_bytes())["verificationMaterial"]["publicKey"]["hint"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidInput(f"The signature of the model in {folder.name} is malformed.", hint=_RESTORE) from error
        for path in self._trusted():
            try:
                text = path.read_bytes()
            except OSError as error:
                raise ConfigError(f"The trusted key {path} cannot be read: {error.strerror}.") from error
            if named in (hashlib.sha256(text).hexdigest(), hashlib.sha256(_normal(path, text)).hexdigest()):
                return path
        raise InvalidInput(
            f"The model in {folder.name} is signed by a key that is not trusted ({str(named)[:16]}…).",
            hint="Name the signer's public key under models.registry.trusted_keys.",
        )


def check_kinds(folder: Path, programs: Collection[str] = ()) -> None:
    """Refuse what no model may hold, by name and by content, but for ``programs``. Raises ``InvalidInput`` naming the
    file."""
    if not folder.is_dir():
        raise InvalidInput(f"There is no model in {folder.name}.", hint=_RESTORE)
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise InvalidInput(f"The model in {folder.name} is refused: '{name}' is a link to somewhere else.")
        if path.is_dir():
            if path.name in _UNSIGNED:
                raise InvalidInput(f"The model in {folder.name} is refused: '{name}' is a folder.")
            continue
        if path.suffix.lower() in _PICKLES or _holds_pickle(path):
            raise InvalidInput(
                f"The model in {folder.name} is refused: '{name}' is a pickle, which runs code when it is read.",
                hint="Models are safetensors or ONNX.",
            )
        if name not in programs and path.name not in _NAMES and path.suffix.lower() not in _DATA:
            raise InvalidInput(f"The model in {folder.name} is refused: '{name}' is of a kind that no model has.")


def _holds_pickle(path: Path) -> bool:
    """Whether the content is a pickle of protocol 2 or later, or a zip that holds one as torch's files do."""
    with path.open("rb") as file:
        head = file.read(4)
    if len(head) >= 2 and head[0] == 0x80 and 2 <= head[1] <= 5 and path.suffix != ".safetensors":
        return True
    if head[:2] != b"PK":
        return False
    try:
        with zipfile.ZipFile(path) as packed:
            return any(Path(name).suffix in _PICKLES for name in packed.namelist())
    except (zipfile.BadZipFile, OSError):
        return False


def _make_key(folder: Path) -> None:
    """A P-256 pair, never half written: the private half readable by its owner alone, the first one made holds."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = folder / f".{KEY_FILE}.{os.getpid()}.{threading.get_ident()}"
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # another process was first: its key holds
            os.link(draft, folder / KEY_FILE)
        draft.unlink()
        made = serialization.load_pem_private_key((folder / KEY_FILE).read_bytes(), None)
        public = folder / f"{draft.name}.pub"
        public.write_bytes(_public_pem(made))
        public.replace(folder / PUBLIC_FILE)
    except OSError as error:
        raise ConfigError(f"The signing key cannot be made in {folder}: {error.strerror}.") from error


def _public_pem(key: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    text: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return text


def _normal(path: Path, text: bytes) -> bytes:
    """The key as OpenSSL would write it, so that comments and line ends do not count."""
    from cryptography.hazmat.primitives import serialization

    try:
        key = serialization.load_pem_public_key(text)
    except ValueError as error:
        raise ConfigError(f"The trusted key {path} is not the PEM of a public key.") from error
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _reason(error: Exception) -> str:
    """What the library found, in our words where they are known."""
    text = _first(error)
    for said, meant in _FOUND:
        if names := [name for found in said.findall(text) for name in found.split(", ")]:
            return f"{meant} ({', '.join(names)})"
    return f"its signature cannot be checked ({text[:200]})"


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _hashing(folder: Path) -> Any:
    hashing: Any = importlib.import_module("model_signing.hashing")
    unsigned = [folder / name for name in sorted(_UNSIGNED)]
    return hashing.Config().set_ignored_paths(paths=unsigned, ignore_git_paths=False)


def _signing() -> Any:
    return importlib.import_module("model_signing.signing")


def _verifying() -> Any:
    return importlib.import_module("model_signing.verifying")


@functools.cache
def _invalid_signature() -> type[Exception]:
    from cryptography.exceptions import InvalidSignature

    return InvalidSignature
