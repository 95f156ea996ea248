"""The manifest of a folder that leaves the store: an export or a backup. It is written last, so a half folder has none.

It names every file with its size and SHA-256, and holds the SHA-256 of itself. That finds damage and careless edits;
who can rewrite the whole folder can rewrite the manifest too, so keep it where only you can write.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from aiops.core.errors import InvalidInput

NAME = "manifest.json"
VERSION = 1
CHUNK = 1 << 20
Kind = Literal["aiops-export", "aiops-backup"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One file: its place below the folder, bytes and SHA-256, and what is said of it."""

    file: str
    bytes: int
    sha256: str
    about: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a folder holds. ``about`` is the kind's own: range, signals, rows, versions."""

    kind: Kind
    about: dict[str, Any]
    entries: tuple[Entry, ...]
    version: int = VERSION

    def write(self, folder: Path) -> None:
        """Put it into the folder, synced and at once whole."""
        body: dict[str, Any] = {"kind": self.kind, "version": self.version, "about": self.about}
        body["files"] = [asdict(entry) for entry in self.entries]
        body["sha256"] = _digest(body)
        fresh = folder / f".{NAME}"
        with fresh.open("w", encoding="utf-8") as out:
            json.dump(body, out, indent=1, sort_keys=True, ensure_ascii=False)
            out.flush()
            os.fsync(out.fileno())
        fresh.replace(folder / NAME)
        sync_folder(folder)


def read(folder: Path, kind: Kind | None = None) -> Manifest:
    """The folder's manifest, its own hash checked.

    Raises:
        InvalidInput: there is none, it was changed, or it is of another kind or a newer version.
    """
    try:
        body = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InvalidInput(
            f"{folder} has no {NAME}: it is no export or backup of aiops, or it was not finished."
        ) from error
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{folder / NAME} cannot be read: {error}.") from error
    if not isinstance(body, dict) or body.get("kind") not in ("aiops-export", "aiops-backup"):
        raise InvalidInput(f"{folder / NAME} is not a manifest of aiops.")
    if body.get("version") != VERSION:
        raise InvalidInput(f"{folder / NAME} is of version {body.get('version')}; this aiops reads {VERSION}.")
    claimed = body.pop("sha256", "")
    if claimed != _digest(body):
        raise InvalidInput(f"{folder / NAME} was changed after it was written.")
    if kind is not None and body["kind"] != kind:
        raise InvalidInput(f"{folder} is an {body['kind'].replace('-', ' ')}, not an {kind.replace('-', ' ')}.")
    try:
        entries = tuple(Entry(**entry) for entry in body["files"])
    except (KeyError, TypeError) as error:
        raise InvalidInput(f"{folder / NAME} is not a manifest of aiops.") from error
    for entry in entries:
        place = PurePosixPath(entry.file)
        if place.is_absolute() or ".." in place.parts:
            raise InvalidInput(f"{folder / NAME} names a file outside its folder.")
    return Manifest(body["kind"], body["about"], entries)


def check(folder: Path, manifest: Manifest) -> Iterator[Entry]:
    """Read every file and compare; yields each entry that holds.

    Raises:
        InvalidInput: naming the first file that lacks, differs or does not belong to the folder.
    """
    known = {entry.file for entry in manifest.entries} | {NAME}
    for found in sorted(p for p in folder.rglob("*") if not p.is_dir() or p.is_symlink()):
        name = found.relative_to(folder).as_posix()
        if name not in known or found.is_symlink():
            raise InvalidInput(f"{found} does not belong to this {manifest.kind.removeprefix('aiops-')}.")
    for entry in manifest.entries:
        path = folder / entry.file
        if not path.is_file():
            raise InvalidInput(f"{path} is missing.")
        if path.stat().st_size != entry.bytes or sha256_of(path) != entry.sha256:
            raise InvalidInput(f"{path} is not what the manifest says: it is damaged or was changed.")
        yield entry


def entry_of(folder: Path, path: Path, about: Mapping[str, Any] | None = None) -> Entry:
    """The entry of a file below ``folder`` as it is now."""
    return Entry(path.relative_to(folder).as_posix(), path.stat().st_size, sha256_of(path), dict(about or {}))


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def sync_folder(folder: Path) -> None:
    """Make names in the folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _digest(body: Mapping[str, Any]) -> str:
    text = json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
