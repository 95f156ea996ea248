"""The journal: samples and new series that are acknowledged but not in the database file yet.

Numbered segments lie in a folder beside the file. A segment is a sequence of frames, each written and synced as one
group: ``magic, length, CRC-32`` and a payload of new series and sample columns. The database holds the number of the
first segment that it does not contain (table ``journal``), written in the transaction that took the samples over, so
that a crash between that commit and the removal of a segment doubles nothing.

A frame that ends early at the end of the last segment was never acknowledged: it is cut. Damage elsewhere is logged,
what follows is read, and the segment is kept under ``<name>.damaged``.
"""

from __future__ import annotations

import logging
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from aiops.core.errors import ConfigError, TransientError
from aiops.core.series import Labels
from aiops.store.telemetry.encryption import Cipher

log = logging.getLogger(__name__)

MAGIC, SEALED = b"AJF1", b"AJE1"
"""Of a frame in the clear, and of one that is encrypted as a whole."""
_HEADER = struct.Struct("<4sII")
_COUNTS = struct.Struct("<II")
_SAMPLE_BYTES = 20


@dataclass(frozen=True, slots=True)
class Frame:
    """One group: series that were new in it, and its samples as parallel columns (``sid`` int32, ms, float64)."""

    series: list[tuple[int, Labels]]
    sid: NDArray[np.int32]
    ts: NDArray[np.int64]
    values: NDArray[np.float64]


class Journal:
    """Segments in ``folder``, which is made where missing. One thread at a time may write.

    Raises:
        ConfigError: the folder cannot be made or read.
    """

    def __init__(self, folder: Path, cipher: Cipher | None = None) -> None:
        self.folder = folder
        self._cipher = cipher
        self._file = -1
        self._length = 0
        self._number = 0
        self.damaged_bytes = 0
        """Bytes that :meth:`replay` could not read."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._numbers = sorted(int(p.stem) for p in folder.glob("*.wal") if p.stem.isdecimal())
        except OSError as error:
            raise ConfigError(f"The journal {folder} cannot be opened: {error.strerror}.") from error

    # ------------------------------------------------------------------ writing

    def append(
        self, series: Sequence[tuple[int, Labels]], sid: NDArray[np.int32], ts: NDArray[np.int64],
        values: NDArray[np.float64],
    ) -> None:  # fmt: skip
        """Write one frame and sync it.

        Raises:
            TransientError: it could not be written; the segment is as it was before.
        """
        text = orjson.dumps(series) if series else b""
        parts: list[Any] = [_COUNTS.pack(len(text), len(sid)), text, sid.data, ts.data, values.data]
        magic = MAGIC
        if self._cipher is not None:
            magic, parts = SEALED, [self._cipher.seal(b"".join(parts))]
        length = sum(memoryview(part).nbytes for part in parts)
        crc = 0
        for part in parts:
            crc = zlib.crc32(part, crc)
        try:
            if self._file < 0:
                self._open(max(self._number, 1))
            _write_all(self._file, [_HEADER.pack(magic, length, crc), *parts])
            os.fdatasync(self._file)
        except OSError as error:
            self._undo()
            raise TransientError(f"The journal cannot be written: {error.strerror}.", retry_after_s=10) from error
        self._length += _HEADER.size + length

    def _undo(self) -> None:
        """Cut what was written of a frame; a segment that cannot be cut is left behind as it is."""
        if self._file < 0:
            return
        try:
            os.ftruncate(self._file, self._length)
        except OSError as error:
            log.error("The journal's segment %d cannot be cut back: %s", self._number, error.strerror)
            os.close(self._file)
            self._file = -1
            self._number += 1

    def _open(self, number: int) -> None:
        flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND
        self._file = os.open(self._path(number), flags, 0o600)
        self._length = os.fstat(self._file).st_size
        self._number = number
        if number not in self._numbers:
            self._numbers.append(number)
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def rotate(self) -> int:
        """Go on in a new segment; returns its number. All that was appended lies in segments before it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._number = max([self._number, *self._numbers], default=0) + 1
        return self._number

    def remove_before(self, number: int) -> None:
        """Segments before ``number`` are contained in the database file."""
        for n in [n for n in self._numbers if n < number]:
            try:
                self._path(n).unlink(missing_ok=True)
            except OSError as error:
                log.warning("The journal's segment %d cannot be removed yet: %s", n, error.strerror)
                continue
            self._numbers.remove(n)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def bytes_on_disk(self) -> int:
        total = 0
        for number in list(self._numbers):
            try:
                total += self._path(number).stat().st_size
            except OSError:
                continue
        return total

    # ------------------------------------------------------------------ reading

    def replay(self, first: int) -> Iterator[Frame]:
        """Frames of segments from ``first`` on, in order. Earlier segments are removed. To be called once, at first.

        Raises:
            ConfigError: a segment cannot be read.
        """
        self.remove_before(first)
        self._number = max([first, *self._numbers])
        for number in list(self._numbers):
            path = self._path(number)
            try:
                data = path.read_bytes()
            except OSError as error:
                raise ConfigError(f"The journal {path} cannot be read: {error.strerror}.") from error
            yield from self._frames(path, data, last=number == self._numbers[-1])
        if self._numbers:
            self.rotate()

    def _frames(self, path: Path, data: bytes, *, last: bool) -> Iterator[Frame]:
        at = lost = 0
        while at < len(data):
            frame, end = self._frame(data, at)
            if frame is not None:
                yield frame
                at = end
                continue
            magic = MAGIC if self._cipher is None else SEALED
            following = data.find(magic, at + 1)
            while following >= 0 and self._frame(data, following)[0] is None:
                following = data.find(magic, following + 1)
            if following < 0:
                if last:
                    log.info("The journal's last %d bytes were never acknowledged and are cut.", len(data) - at)
                else:
                    lost += len(data) - at
                break
            lost += following - at
            at = following
        if lost:
            self.damaged_bytes += lost
            aside = path.with_suffix(".damaged")
            aside.write_bytes(data)
            log.error("%d bytes of the journal %s are damaged and lost; a copy is in %s.", lost, path.name, aside.name)

    def _frame(self, data: bytes, at: int) -> tuple[Frame | None, int]:
        """The frame at a place and where it ends; ``None`` where there is none whole.

        Raises:
            ConfigError: it is encrypted with another key, or encrypted where no key is set, or the other way round.
        """
        if at + _HEADER.size > len(data):
            return None, at
        magic, length, crc = _HEADER.unpack_from(data, at)
        start = at + _HEADER.size
        end = start + length
        if magic not in (MAGIC, SEALED) or end > len(data) or zlib.crc32(memoryview(data)[start:end]) != crc:
            return None, at
        if (magic == SEALED) != (self._cipher is not None):
            is_ = "is encrypted" if magic == SEALED else "is not encrypted, but a key is set"
            raise ConfigError(f"The journal {self.folder} {is_}.", hint="See store.encryption_key.")
        payload = data[start:end]
        if self._cipher is not None:
            opened = self._cipher.open(payload)
            if opened is None:
                raise ConfigError(f"The journal {self.folder} cannot be read: the key is wrong.")
            payload = opened
        return _unpacked(payload), end

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:08d}.wal"


def _unpacked(payload: bytes) -> Frame | None:
    if len(payload) < _COUNTS.size:
        return None
    size, count = _COUNTS.unpack_from(payload, 0)
    start = _COUNTS.size
    if size + _SAMPLE_BYTES * count != len(payload) - start:
        return None
    series = [
        (int(sid), tuple((name, value) for name, value in labels))
        for sid, labels in (orjson.loads(payload[start : start + size]) if size else ())
    ]
    start += size
    sid = np.frombuffer(payload, "<i4", count, start)
    ts = np.frombuffer(payload, "<i8", count, start + 4 * count)
    values = np.frombuffer(payload, "<f8", count, start + 12 * count)
    return Frame(series, sid, ts, values)


def _write_all(file: int, parts: list[Any]) -> None:
    left = [memoryview(part).cast("B") for part in parts if len(part)]
    while left:
        done = os.writev(file, left)
        while left and done >= len(left[0]):
            done -= len(left.pop(0))
        if left and done:
            left[0] = left[0][done:]
