"""One DuckDB file owned by this process: a writer thread with group commit, and cursors for readers."""

from __future__ import annotations

import logging
import os
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import duckdb

from aiops.core.errors import AiopsError, ConfigError, FolderInUse, PermanentError, TransientError
from aiops.core.ports import Clock, system_clock
from aiops.settings import StoreSettings
from aiops.store.telemetry.connection import CATALOG, CHECKPOINT_AT, open_file, why_not_opened
from aiops.store.telemetry.damage import HINT, is_damage, told
from aiops.store.telemetry.encryption import key_of
from aiops.store.telemetry.schema import DAY_MS, create_schema

log = logging.getLogger(__name__)

GROUP_LIMIT = 256
"""Jobs in one transaction at most, so that a flood cannot starve the first one of its answer."""
FOR_EVER = -(1 << 62)
IDLE_S = 0.25
IDLE_LOG_BYTES = 1 << 20
"""A longer log is moved into the file at an idle time."""
MAINTAIN_AGAIN_S = 5.0
"""After maintenance failed it is tried again so much later."""
LAST_BYTES = 8 << 20
"""Once a commit failed for want of room, writes wait until so much is free, however low the floor: each that failed
would have the file opened again."""
BUSY_S = 2.0
"""Under writes without a pause a step of maintenance runs this often, so that blocks close all the same."""
_open_paths: set[Path] = set()
_open_lock = threading.Lock()

PayloadT = TypeVar("PayloadT")
ResultT = TypeVar("ResultT")


@dataclass(slots=True)
class Transaction:
    """What a group sees: the writer's connection, and what to do once the outcome is known."""

    con: duckdb.DuckDBPyConnection
    on_commit: list[Callable[[], None]] = field(default_factory=list)
    on_rollback: list[Callable[[], None]] = field(default_factory=list)


Group = Callable[[Transaction, list[Any]], Sequence[Any]]
"""Applies all payloads queued for it in one transaction; returns one result a payload."""


@dataclass(slots=True)
class _Job:
    """``group`` is ``None`` where the payload is a function that runs alone, outside a transaction."""

    group: Group | None
    payload: Any
    future: Future[Any]


class TelemetryDatabase:
    """The file, its lock, its writer.

    Args:
        path: the database file; ``None`` keeps everything in memory, without retention.
        settings: memory limit, threads, floor of free space, retention.
        clock: ms UTC.

    Raises:
        FolderInUse: another process, or this one, holds the file.
        ConfigError: the folder cannot be written or the file is damaged.
    """

    def __init__(self, path: Path | None, settings: StoreSettings, clock: Clock = system_clock) -> None:
        self.path = path.absolute() if path is not None else None
        self.settings = settings
        self.clock = clock
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._idle: list[Callable[[], bool]] = []
        self._reopened: list[Callable[[duckdb.DuckDBPyConnection], None]] = []
        self.encrypted = path is not None and key_of(settings) is not None
        self._holds = 0
        self._closed = False
        self._failed = ""
        self._lacked_room = False
        self.damage = ""
        """What is wrong with the file on the disk, once a read or the maintenance met it."""
        self.checkpoint_due = False
        """Set by idle work that freed blocks, on the writer thread."""
        self._written = False
        self._maintain_from = 0.0
        if self.path is not None:
            _claim(self.path)
        try:
            self._con = self._connect()
        except BaseException:
            self._release()
            raise
        self._writer = threading.Thread(target=self._run, name="telemetry-writer", daemon=True)
        self._writer.start()

    # ------------------------------------------------------------------ opening and closing

    def _connect(self) -> duckdb.DuckDBPyConnection:
        con = open_file(self.path, self.settings)
        try:
            create_schema(con)
        except duckdb.Error as error:
            con.close()
            raise why_not_opened(self.path, str(error), self.encrypted) from error
        return con

    def close(self) -> None:
        """Finish what is queued, checkpoint, release the file. Later writes are refused."""
        if self._closed:
            return
        self._closed = True
        self._jobs.put(None)
        self._writer.join()
        try:
            if not self._failed:
                self._con.execute("CHECKPOINT")
        except duckdb.Error as error:
            log.warning("The last checkpoint failed; the log is replayed at the next start: %s", _first_line(error))
        finally:
            self._con.close()
            self._release()

    def _release(self) -> None:
        if self.path is not None:
            with _open_lock:
                _open_paths.discard(self.path)

    def healthy(self) -> bool:
        """True while the writer runs and the database answers."""
        if self._closed or self._failed or not self._writer.is_alive():
            return False
        try:
            with self.read() as con:
                con.execute("SELECT 1")
        except (duckdb.Error, AiopsError):
            return False
        return True

    # ------------------------------------------------------------------ reading

    @contextmanager
    def read(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor of its own; reads see committed data only. Raises ``TransientError`` when closed or failed."""
        if self._closed:
            raise TransientError("The telemetry store is closed.")
        try:
            cursor = self._con.cursor()
            if self.encrypted:
                cursor.execute(f"USE {CATALOG}")
        except duckdb.Error as error:
            raise TransientError(f"The telemetry store is reopening: {_first_line(error)}", retry_after_s=2) from error
        try:
            yield cursor
        except duckdb.FatalException as error:
            self._fail(error)
            raise TransientError("The telemetry store failed and reopens.", retry_after_s=2) from error
        except duckdb.OutOfMemoryException as error:
            raise TransientError(
                f"The read needs more than {self.settings.memory_limit} of memory.",
                hint="Ask for a shorter time range or fewer series, or raise store.memory_limit.",
            ) from error
        except duckdb.Error as error:
            if is_damage(str(error)):
                self._found_damage(error)
                raise PermanentError(self.damage, hint=HINT) from error
            raise TransientError(f"The telemetry store could not read: {_first_line(error)}") from error
        finally:
            cursor.close()

    # ------------------------------------------------------------------ writing

    def write(
        self, group: Callable[[Transaction, list[PayloadT]], Sequence[ResultT]], payload: PayloadT, frees: bool = False
    ) -> ResultT:
        """Hand ``payload`` to the writer and wait until its transaction is committed and synced.

        Args:
            group: applies the payloads of all who wait.
            payload: one of them.
            frees: the work makes room, so that it is done however little is left.

        Raises:
            TransientError: the disk is nearly full, the commit failed or the store is closed; nothing was kept.
        """
        if self._closed:
            raise TransientError("The telemetry store is closed.", retry_after_s=5)
        if not frees:
            self.check_space()
            if self._failed:
                raise TransientError(f"The telemetry store is reopening: {self._failed}", retry_after_s=2)
        return cast(ResultT, self._result_of(_Job(cast(Group, group), payload, Future())))

    def post(self, group: Callable[[Transaction, list[PayloadT]], Sequence[ResultT]], payload: PayloadT) -> None:
        """Hand ``payload`` to the writer without waiting for it."""
        self._jobs.put(_Job(cast(Group, group), payload, Future()))

    def alone(self, work: Callable[[duckdb.DuckDBPyConnection], ResultT]) -> ResultT:
        """Run ``work`` on the writer's connection between two transactions; nothing is written meanwhile.

        Raises:
            TransientError: the store is closed, or ``work`` met an error of the database.
        """
        if self._closed:
            raise TransientError("The telemetry store is closed.", retry_after_s=5)
        return cast(ResultT, self._result_of(_Job(None, work, Future())))

    def checkpoint(self) -> None:
        """Move the log into the file and free what was dropped."""

        def work(con: duckdb.DuckDBPyConnection) -> None:
            if not self._holds:
                con.execute("CHECKPOINT")

        self.alone(work)

    @contextmanager
    def checkpoints_held(self) -> Iterator[None]:
        """Checkpoint, then none until the end: blocks that the file uses now are not written meanwhile."""

        def hold(con: duckdb.DuckDBPyConnection) -> None:
            if not self._holds:
                con.execute("CHECKPOINT")
                con.execute("SET checkpoint_threshold = '900TB'")
            self._holds += 1

        def release(con: duckdb.DuckDBPyConnection) -> None:
            self._holds -= 1
            if not self._holds:
                con.execute(f"SET checkpoint_threshold = '{CHECKPOINT_AT}'")

        self.alone(hold)
        try:
            yield
        finally:
            self.alone(release)

    def _result_of(self, job: _Job) -> Any:
        future = job.future
        self._jobs.put(job)
        while True:
            try:
                return future.result(timeout=1.0)
            except TimeoutError as error:
                if future.done():
                    if future.exception() is error:
                        raise
                    continue
                if not self._writer.is_alive():
                    raise TransientError("The telemetry store has stopped.", retry_after_s=5) from error

    def when_idle(self, work: Callable[[], bool]) -> None:
        """Run ``work`` on the writer thread between groups; it returns true when more is left."""
        self._idle.append(work)

    def when_reopened(self, reload: Callable[[duckdb.DuckDBPyConnection], None]) -> None:
        """Run ``reload`` on the writer thread after a reopening: what was in memory may differ from the file."""
        self._reopened.append(reload)

    def check_space(self) -> None:
        """Raises ``TransientError`` where the disk has less room than the floor."""
        if self.path is None:
            return
        free = shutil.disk_usage(self.path.parent).free
        floor = max(self.settings.free_space_floor_bytes, LAST_BYTES if self._lacked_room else 0)
        if free < floor:
            raise TransientError(
                f"The disk of {self.path.parent} has {free >> 20} MB left, below the floor of "
                f"{floor >> 20} MB; nothing is written until space is freed.",
                retry_after_s=30 if floor > LAST_BYTES else 5,
            )
        self._lacked_room = False

    def transaction(self, work: Callable[[Transaction], ResultT]) -> ResultT:
        """Run ``work`` in a transaction; only on the writer thread or before any write."""
        tx = Transaction(self._con)
        self._con.execute("BEGIN TRANSACTION")
        committing = False
        try:
            result = work(tx)
            committing = True
            self._con.execute("COMMIT")
        except BaseException as error:
            if committing or isinstance(error, duckdb.FatalException) or "invalidated" in str(error):
                # Whether a commit that failed is on the disk shows only when the file is read again.
                self._fail(error)
            try:
                self._con.execute("ROLLBACK")
            except duckdb.Error as error:
                log.debug("nothing to roll back: %s", _first_line(error))
            for undo in tx.on_rollback:
                undo()
            raise
        for after in tx.on_commit:
            after()
        self._written = True
        return result

    def _run(self) -> None:
        more = False
        maintained = time.monotonic()
        while True:
            try:
                job = self._jobs.get(timeout=0.01 if more else IDLE_S)
            except queue.Empty:
                more = self._maintain()
                maintained = time.monotonic()
                continue
            jobs, stop = [], job is None
            if job is not None:
                jobs.append(job)
            while not stop and len(jobs) < GROUP_LIMIT:
                try:
                    following = self._jobs.get_nowait()
                except queue.Empty:
                    break
                stop = following is None
                if following is not None:
                    jobs.append(following)
            if jobs:
                self._commit([job for job in jobs if job.group is not None])
                for job in jobs:
                    if job.group is None:
                        self._run_alone(job)
                self._written = True
                if not stop and time.monotonic() - maintained > BUSY_S:
                    more = self._maintain()
                    maintained = time.monotonic()
            if stop:
                return

    def _run_alone(self, job: _Job) -> None:
        if self._failed:
            self._reopen()
        try:
            job.future.set_result(job.payload(self._con))
        except Exception as error:  # noqa: BLE001 - the writer's loop boundary: every failure goes to its caller
            if isinstance(error, duckdb.FatalException):
                self._fail(error)
            job.future.set_exception(_as_ours(error))

    def _commit(self, jobs: list[_Job]) -> None:
        if not jobs:
            return
        if self._failed:
            self._reopen()
        try:
            results = self.transaction(lambda tx: _apply(tx, jobs))
        except Exception as error:  # noqa: BLE001 - the writer's loop boundary: every failure goes to its caller
            if len(jobs) > 1 and not self._failed:
                for job in jobs:
                    self._commit([job])
                return
            self._lacked_room = self.path is not None and shutil.disk_usage(self.path.parent).free < LAST_BYTES
            for job in jobs:
                job.future.set_exception(_as_ours(error))
            return
        for job, result in zip(jobs, results, strict=True):
            job.future.set_result(result)

    def _maintain(self) -> bool:
        if self._failed:
            self._reopen()
            return False
        if time.monotonic() < self._maintain_from:
            return False
        more = False
        try:
            for work in self._idle:
                more = work() or more
            much = self.checkpoint_due or (self._written and self.log_bytes() > IDLE_LOG_BYTES)
            if much and not more and not self._holds:
                self.checkpoint_due = False
                self._con.execute("CHECKPOINT")
            self._written = more
        except Exception as error:  # noqa: BLE001 - the writer's loop boundary
            log.warning("Maintenance of the telemetry store failed: %s", _first_line(error))
            self._maintain_from = time.monotonic() + MAINTAIN_AGAIN_S
            if is_damage(str(error)):
                self._found_damage(error)
            if isinstance(error, duckdb.FatalException):
                self._fail(error)
            return False
        return more

    def _found_damage(self, error: BaseException) -> None:
        self.damage = self.damage or told(self.path, str(error))

    def _fail(self, error: BaseException) -> None:
        if self.path is not None and not self._failed:
            self._failed = _first_line(error)
            log.error("The telemetry store failed and will be reopened: %s", self._failed)

    def _reopen(self) -> None:
        """DuckDB refuses all use of an instance after a fatal error; committed data is there after reopening."""
        if self.path is None:
            return
        try:
            self._con.close()
            self._con = self._connect()
            for reload in self._reopened:
                reload(self._con)
        except (duckdb.Error, ConfigError) as error:
            log.error("The telemetry store cannot be reopened yet: %s", _first_line(error))
        else:
            log.warning("The telemetry store was reopened after: %s", self._failed)
            self._failed = ""

    def oldest_ms(self, signal: str) -> int:
        """Rows of ``signal`` before it are past their time; a store in memory keeps all."""
        days = self.settings.days_of(signal)
        if self.path is None or days is None:
            return FOR_EVER
        return self.clock() - days * DAY_MS

    # ------------------------------------------------------------------ size

    def log_bytes(self) -> int:
        """Bytes of the write-ahead log, which the next checkpoint moves into the file."""
        return _size(Path(str(self.path) + ".wal")) if self.path is not None else 0

    def bytes_on_disk(self) -> int:
        return _size(self.path) + self.log_bytes() if self.path is not None else 0


def _apply(tx: Transaction, jobs: list[_Job]) -> list[Any]:
    """Run each group once with all its payloads: a group learns only by the commit what it wrote."""
    groups: dict[Group, list[int]] = {}
    for i, job in enumerate(jobs):
        if job.group is not None:
            groups.setdefault(job.group, []).append(i)
    results: list[Any] = [None] * len(jobs)
    for group, places in groups.items():
        for i, result in zip(places, group(tx, [jobs[i].payload for i in places]), strict=True):
            results[i] = result
    return results


def _as_ours(error: Exception) -> Exception:
    if isinstance(error, AiopsError):
        return error
    if isinstance(error, duckdb.Error):
        return TransientError(f"The telemetry store could not commit: {_first_line(error)}", retry_after_s=10)
    return error


def _claim(path: Path) -> None:
    with _open_lock:
        if path in _open_paths:
            raise FolderInUse(f"The data folder {path.parent} is in use by pid {os.getpid()}, this very process.")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"The data folder {path.parent} cannot be created: {error.strerror}.") from error
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise ConfigError(f"The data folder {path.parent} cannot be written.", hint="Choose another by --data-dir.")
        _open_paths.add(path)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
