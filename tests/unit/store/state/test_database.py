from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import text

from aiops.core.errors import ConfigError, TransientError
from aiops.core.model import UseKind
from aiops.store.state.database import MIGRATIONS, StateDatabase, sqlite_url
from aiops.store.state.incidents import IncidentRepository
from aiops.store.state.model_uses import ModelUseRepository
from aiops.store.state.tables import Base


def test_models_and_migrations_agree(database: StateDatabase) -> None:
    with database.connection() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": "aiops_alembic_version", "compare_type": True}
        )
        assert compare_metadata(context, Base.metadata) == []


def test_the_version_table_is_ours_alone(tmp_path: Path, database: StateDatabase) -> None:
    with sqlite3.connect(tmp_path / "state.db") as raw:
        tables = {row[0] for row in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        pragma = raw.execute("PRAGMA journal_mode").fetchone()
    raw.close()
    assert "aiops_alembic_version" in tables
    assert "alembic_version" not in tables
    assert pragma == ("wal",)


def test_upgrading_twice_changes_nothing(database: StateDatabase) -> None:
    IncidentRepository(database).next_id()
    database.upgrade()
    assert IncidentRepository(database).next_id() == "INC-2"


@pytest.mark.parametrize("revision", ["0001", "0002", "0003", "0004", "0005"])
def test_every_earlier_version_is_brought_up_with_its_rows(tmp_path: Path, revision: str) -> None:
    database = StateDatabase(sqlite_url(tmp_path))
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    with database.connection() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.execute(text("INSERT INTO counters (name, value) VALUES ('incident', 6)"))
        connection.execute(text("INSERT INTO llm_usage VALUES ('openai:gpt-5-mini', '2025-11-25', 0.25, 3)"))
    database.upgrade()
    assert IncidentRepository(database).next_id() == "INC-7"
    noon = 1_764_072_000_000
    [use] = ModelUseRepository(database).list(noon - 43_200_000, noon)
    assert (use.model, use.kind, use.cost, use.quantity) == ("openai:gpt-5-mini", UseKind.LLM, 0.25, 3.0)
    test_models_and_migrations_agree(database)
    database.close()


def test_commits_are_synced(database: StateDatabase) -> None:
    with database.session() as session:
        assert session.scalar(text("PRAGMA synchronous")) == 2
        assert session.scalar(text("PRAGMA foreign_keys")) == 1


def test_an_error_rolls_the_transaction_back(database: StateDatabase) -> None:
    def fail() -> None:
        with database.session() as session:
            session.execute(text("INSERT INTO counters (name, value) VALUES ('x', 1)"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with database.reader() as session:
        assert session.scalar(text("SELECT count(*) FROM counters")) == 0


def test_many_threads_write_at_once(database: StateDatabase) -> None:
    repository, ids = IncidentRepository(database), []

    def work() -> None:
        for _ in range(10):
            ids.append(repository.next_id())

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 60


def test_a_newer_database_is_refused(database: StateDatabase) -> None:
    with database.session() as session:
        session.execute(text("UPDATE aiops_alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigError, match="newer version"):
        database.upgrade()


def test_a_file_that_is_no_database_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"not a database at all, but long enough to be read as one" * 50)
    database = StateDatabase(sqlite_url(tmp_path))
    with pytest.raises(ConfigError, match="cannot be opened"):
        database.upgrade()
    assert not database.healthy()
    database.close()


@pytest.mark.parametrize("url", ["nonsense", "mysql://a/b"])
def test_bad_urls_are_config_errors(url: str) -> None:
    with pytest.raises(ConfigError, match=r"state\.url"):
        StateDatabase(url)


def test_a_folder_that_cannot_be_made_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be made"):
        StateDatabase(sqlite_url(tmp_path / "file" / "sub"))


def test_a_password_is_not_shown() -> None:
    pytest.importorskip("psycopg")
    assert "secret" not in StateDatabase("postgresql://u:secret@127.0.0.1:1/db").shown_url


def test_a_missing_schema_is_transient_not_a_crash(tmp_path: Path) -> None:
    database = StateDatabase(sqlite_url(tmp_path))
    with pytest.raises(TransientError):
        IncidentRepository(database).next_id()
    database.close()


def test_memory_databases_work_for_one_process() -> None:
    database = StateDatabase("sqlite://")
    database.upgrade()
    assert IncidentRepository(database).next_id() == "INC-1"
    assert IncidentRepository(database).active() == ()
    assert database.healthy()
    database.close()
