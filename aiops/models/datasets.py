"""Snapshots of training windows: immutable Parquet files under the hash of what is in them."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from aiops.core.anomaly import Batch
from aiops.core.errors import InvalidInput, NotFound, TransientError
from aiops.core.model import Dataset
from aiops.core.ports import Clock, system_clock
from aiops.models.encryption import ArtifactKey
from aiops.store.telemetry.snapshots import read_batch, write_batch

log = logging.getLogger(__name__)

FOLDER = "datasets"
Live = Callable[[str], Collection[str]]
"""Ids of the snapshots that a name's live versions were trained on."""


@dataclass(frozen=True)
class SnapshotFile:
    """Where a worker process reads a snapshot itself."""

    path: Path
    id: str
    step_ms: int
    steps: int
    key: bytes | None = field(default=None, repr=False)

    def load(self) -> Batch:
        """The window, bit for bit as it was written. Raises as :meth:`DatasetStore.load` does."""
        batch = read_batch(self.path, self.step_ms, self.steps, key=self.key)
        if content_hash(batch) != self.id:
            raise InvalidInput(
                f"The snapshot {self.path.name} is not the one that was written (its SHA-256 differs).",
                hint="Restore it from a backup, or train again.",
            )
        return batch


class DatasetRecords(Protocol):
    """Where the records are kept."""

    def save(self, dataset: Dataset) -> None: ...

    def get(self, dataset_id: str) -> Dataset | None: ...

    def of(self, name: str = "") -> tuple[Dataset, ...]: ...

    def delete(self, ids: list[str]) -> None: ...


class DatasetStore:
    """Writes, reads and forgets snapshots. Thread-safe.

    Args:
        data_dir: the files go into ``datasets/`` below it.
        records: who, when, which query.
        keep: newest snapshots kept of each name.
        key: encrypts the files.
        live: snapshots that :meth:`retain` must not drop.
    """

    def __init__(
        self,
        data_dir: Path,
        records: DatasetRecords,
        *,
        keep: int = 3,
        key: ArtifactKey | None = None,
        live: Live = lambda _name: (),
        clock: Clock = system_clock,
    ) -> None:
        self._data_dir = data_dir
        self._records = records
        self._keep = keep
        self._key = key
        self._live = live
        self._clock = clock
        self._lock = threading.Lock()

    def snapshot(self, name: str, batch: Batch, query: str) -> Dataset:
        """Keep a window under its hash; the same content again is the same snapshot.

        Raises:
            InvalidInput: an empty or uneven window.
            TransientError: it cannot be written.
        """
        digest = content_hash(batch)
        path = f"{FOLDER}/{digest.removeprefix('sha256:')}.parquet"
        with self._lock:
            known = self._records.get(digest)
            if known is not None and (self._data_dir / known.path).is_file():
                return known
            try:
                (self._data_dir / FOLDER).mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise TransientError(f"The folder of the snapshots cannot be made: {error.strerror}.") from error
            key = self._key.for_parquet if self._key else None
            write_batch(batch, self._data_dir / path, about=query, key=key)
            dataset = Dataset(
                id=digest,
                name=name,
                query=query,
                start_ms=int(batch.timestamps[0]),
                end_ms=int(batch.timestamps[-1]) + batch.step_ms,
                step_ms=batch.step_ms,
                series=len(batch),
                points=int(batch.mask.sum()),
                path=path,
                created_ms=self._clock(),
            )
            self._records.save(dataset)
            return dataset

    def get(self, dataset_id: str) -> Dataset:
        """The record of a snapshot. Raises ``NotFound``."""
        found = self._records.get(dataset_id)
        if found is None:
            raise NotFound(f"There is no snapshot {dataset_id[:19]}…; it may have been dropped by its retention.")
        return found

    def of(self, name: str = "") -> tuple[Dataset, ...]:
        """Snapshots of a model, or all, the newest first."""
        return self._records.of(name)

    def load(self, dataset_id: str) -> Batch:
        """The window, bit for bit as it was trained on.

        Raises:
            NotFound: there is no such snapshot.
            InvalidInput: its file was changed, or is encrypted with another key.
            TransientError: its file is not there.
        """
        return self.file(self.get(dataset_id)).load()

    def file(self, dataset: Dataset) -> SnapshotFile:
        """Where the snapshot lies, for a process that reads it itself."""
        steps = (dataset.end_ms - dataset.start_ms) // dataset.step_ms
        key = self._key.for_parquet if self._key else None
        return SnapshotFile(self._data_dir / dataset.path, dataset.id, dataset.step_ms, steps, key)

    @property
    def key(self) -> ArtifactKey | None:
        """What the files are encrypted with."""
        return self._key

    def retain(self, name: str) -> tuple[Dataset, ...]:
        """Drop what is neither among the newest nor used by a live version; returns what was dropped."""
        live = set(self._live(name))
        with self._lock:
            gone = [one for one in self._records.of(name)[self._keep :] if one.id not in live]
            for one in gone:
                (self._data_dir / one.path).unlink(missing_ok=True)
            if gone:
                self._records.delete([one.id for one in gone])
                log.info("%d snapshots of %s were dropped by their retention", len(gone), name)
        return tuple(gone)


def content_hash(batch: Batch) -> str:
    """SHA-256 over ids, groups, times, mask and the observed values, as ``sha256:<hex>``."""
    digest = hashlib.sha256()
    digest.update("\n".join(batch.series_ids).encode("utf-8", "surrogatepass"))
    if batch.groups:
        digest.update("\n".join(("", *batch.groups)).encode("utf-8", "surrogatepass"))
    for array in (batch.timestamps, batch.mask, np.where(batch.mask, batch.values, np.float32(0))):
        digest.update(np.ascontiguousarray(array).tobytes())
    return f"sha256:{digest.hexdigest()}"
