"""The state database: engine, transactions, migrations."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, NoSuchModuleError, OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from aiops.core.errors import AiopsError, ConfigError, PermanentError, TransientError

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_TIMEOUT_MS = 15_000
MIGRATION_LOCK = 7_420_001
"""Key of the PostgreSQL advisory lock that keeps two starting services from migrating at once."""

log = logging.getLogger(__name__)


def sqlite_url(data_dir: Path) -> str:
    """The default: ``state.db`` in the data folder."""
    return f"sqlite:///{data_dir / 'state.db'}"


class StateDatabase:
    """SQLite (WAL, ``synchronous=FULL``) or PostgreSQL behind short transactions.

    Args:
        url: a SQLAlchemy URL such as ``sqlite:////var/lib/aiops/state.db`` or
            ``postgresql+psycopg://aiops@db/aiops``.

    Raises:
        ConfigError: the URL is malformed, its driver is missing, or its folder cannot be written.
    """

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(url)
        except ArgumentError as error:
            raise ConfigError(
                "state.url is not a database URL.", hint="Example: postgresql+psycopg://host/db."
            ) from error
        self.dialect = parsed.get_backend_name()
        if self.dialect not in ("sqlite", "postgresql"):
            raise ConfigError(f"state.url names '{self.dialect}'; only sqlite and postgresql are supported.")
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        self._memory = self.dialect == "sqlite" and parsed.database in (None, "", ":memory:")
        if self.dialect == "sqlite" and not self._memory:
            _make_folder(Path(str(parsed.database)).parent)
        self.shown_url = parsed.render_as_string(hide_password=True)
        options: dict[str, Any] = {"pool_pre_ping": True}
        if self.dialect == "sqlite":
            options = {"connect_args": {"check_same_thread": False, "timeout": BUSY_TIMEOUT_MS / 1000}}
            if self._memory:
                options["poolclass"] = StaticPool
        try:
            self._engine = create_engine(parsed, **options)
        except (ModuleNotFoundError, NoSuchModuleError) as error:
            raise ConfigError(
                "The PostgreSQL driver is not installed.", hint="Install aiops-assistant[postgres]."
            ) from error
        # Writers of one process queue here rather than in SQLite's busy handler, which sleeps and is unfair.
        self._write_lock = threading.RLock()
        self._readers = self._engine.execution_options(aiops_read_only=True)
        if self.dialect == "sqlite":
            event.listen(self._engine, "connect", _prepare_sqlite)
            event.listen(self._engine, "begin", _begin_sqlite)

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """A write transaction: commits at exit, rolls back on an exception. Never nest them.

        Raises:
            TransientError: the database is locked, full, or away.
        """
        with self._writing(), _translated(), Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextlib.contextmanager
    def reader(self) -> Iterator[Session]:
        """A read transaction that never waits for writers. Raises as :meth:`session` does."""
        guard = self._write_lock if self._memory else contextlib.nullcontext()
        with guard, _translated(), Session(self._readers, expire_on_commit=False) as session, session.begin():
            yield session

    @contextlib.contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection in a write transaction, for migrations and their checks."""
        with self._writing(), self._engine.begin() as connection:
            yield connection

    def upgrade(self) -> None:
        """Bring the schema up to date; does nothing when it is.

        Raises:
            ConfigError: the database was written by a newer version, or cannot be opened.
        """
        from alembic import command
        from alembic.config import Config
        from alembic.util import CommandError

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        try:
            with self.connection() as connection:
                if self.dialect == "postgresql":
                    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except CommandError as error:
            raise ConfigError(
                f"The state database {self.shown_url} cannot be migrated: {error}",
                hint="It was probably written by a newer version of aiops.",
            ) from error
        except DBAPIError as error:
            raise ConfigError(f"The state database {self.shown_url} cannot be opened: {error.orig}.") from error

    def healthy(self) -> bool:
        """True when a trivial read succeeds."""
        try:
            with self.reader() as session:
                session.execute(text("SELECT 1"))
        except AiopsError:
            return False
        return True

    def close(self) -> None:
        self._engine.dispose()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        if self.dialect != "sqlite":
            yield
            return
        with self._write_lock:
            yield


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"The folder {folder} for the state database cannot be made: {error.strerror}.") from error


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # BEGIN is ours (see _begin_sqlite); the driver's own deferred BEGIN cannot be upgraded safely under WAL.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY_TIMEOUT_MS}"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    read_only = connection.get_execution_options().get("aiops_read_only", False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        log.warning("state store: %s", error.orig)
        raise TransientError("The state store cannot be reached or written.", retry_after_s=5) from error
    except DatabaseError as error:
        if type(error) is not DatabaseError:
            raise
        log.error("state store: %s", error.orig)
        raise PermanentError("The state store's file is damaged.", hint="Restore it from a backup.") from error
