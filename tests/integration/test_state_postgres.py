"""The state store on a real PostgreSQL: migrations, claims by several workers, the audit chain."""

from __future__ import annotations

import getpass
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from aiops.core.action import Action, ActionProposal, ProposalStatus
from aiops.core.errors import Conflict, LimitExceeded, TransientError
from aiops.core.incident import (
    Alert,
    Incident,
    IncidentSignal,
    IncidentStatus,
    Notification,
    NotificationEvent,
    Severity,
    SignalKind,
)
from aiops.core.job import Job, JobLimit, JobStatus
from aiops.core.model import ModelUse, UseKind
from aiops.core.untrusted import Untrusted
from aiops.store.state.actions import ActionRepository
from aiops.store.state.audit import AuditLog
from aiops.store.state.database import StateDatabase
from aiops.store.state.incidents import IncidentRepository
from aiops.store.state.jobs import JobRepository
from aiops.store.state.model_uses import ModelUseRepository
from aiops.store.state.outbox import OutboxRepository
from aiops.store.state.tables import Base
from tests.integration.servers import free_port

NOW = 1_764_000_000_000


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        if os.environ.get("CI"):
            pytest.fail("the server binary 'postgres' is not installed")
        pytest.skip("the server binary 'postgres' is not installed")
    return found[-1].parent


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    pytest.importorskip("psycopg")
    programs = _programs()
    # PostgreSQL refuses to run as root.
    user = "postgres" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        if user:
            import pwd

            os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        data, port = f"{folder}/data", free_port()
        name = user or getpass.getuser()
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", name, "-A", "trust", "-E", "UTF8", "--no-sync"],
            check=True, capture_output=True, user=user, cwd=folder, env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        process = subprocess.Popen(
            [programs / "postgres", "-D", data, "-p", str(port), "-k", folder, "-h", "127.0.0.1"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, user=user, cwd=folder,
            env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        url = f"postgresql://{name}@127.0.0.1:{port}/postgres"
        try:
            deadline = time.monotonic() + 30
            probe = StateDatabase(url)
            while not probe.healthy():
                assert time.monotonic() < deadline, "PostgreSQL did not start"
                time.sleep(0.1)
            probe.close()
            yield url
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture
def database(server: str) -> Iterator[StateDatabase]:
    state = StateDatabase(server)
    with state.connection() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    state.upgrade()
    yield state
    state.close()


def incident(number: int) -> Incident:
    alert = Alert(
        "f\x00\ud800", SignalKind.ALERT, "a", (("x", "\x00"),), Severity.INFO, NOW, NOW, summary=Untrusted("\x00\ud800")
    )
    signal = IncidentSignal(alert, "first", NOW)
    return Incident(
        f"INC-{number}", IncidentStatus.OPEN, Severity.INFO, "t\x00", "s", NOW + number, NOW, signals=(signal,)
    )


def together(count: int, work: object) -> None:
    threads = [threading.Thread(target=work, args=(n,)) for n in range(count)]  # type: ignore[arg-type]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_models_and_migrations_agree(database: StateDatabase) -> None:
    database.upgrade()
    with database.connection() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": "aiops_alembic_version", "compare_type": True}
        )
        assert compare_metadata(context, Base.metadata) == []


def test_incidents_and_outbox(database: StateDatabase) -> None:
    repository, outbox = IncidentRepository(database), OutboxRepository(database)
    for number in range(20):
        one = incident(number)
        repository.save(one, [Notification(f"n{number}", "ops", NotificationEvent.OPENED, one, NOW, one.id)])
    assert repository.find_by_fingerprint("f\x00\ud800") == incident(19)
    taken: list[str] = []

    def work(_: int) -> None:
        while found := outbox.due(NOW, limit=2):
            taken.extend(d.notification.id for d in found)

    together(4, work)
    assert sorted(taken) == sorted(f"n{n}" for n in range(20))
    outbox.delivered("n1", "t", NOW)
    assert outbox.thread_of("ops", "INC-1") == "t"


def test_ids_and_sums_under_contention(database: StateDatabase) -> None:
    repository, usage = IncidentRepository(database), ModelUseRepository(database)
    ids: list[str] = []

    def work(_: int) -> None:
        for _ in range(5):
            ids.append(repository.next_id())
            usage.add([ModelUse("a", "1", UseKind.LLM, "key:1", NOW, 1.0, "calls", 1.0)])

    together(4, work)
    assert len(set(ids)) == 20
    assert [one.cost for one in usage.spent(NOW, NOW + 1)] == [20.0]


def test_the_audit_chain(database: StateDatabase) -> None:
    log = AuditLog(database, lambda: NOW)
    together(4, lambda n: [log.append(f"key:{n}\x00", "act", "x") for _ in range(5)])
    assert (log.count(), log.verify()) == (20, None)

    def tamper() -> None:
        with database.connection() as connection:
            connection.execute(text("UPDATE audit SET actor = 'z'"))

    with pytest.raises(DBAPIError, match="append-only"):
        tamper()


def test_a_decision_is_made_once(database: StateDatabase) -> None:
    repository = ActionRepository(database)
    repository.add(ActionProposal("A", Action("webhook", "x"), "INC-1", "r", (), "p", NOW, NOW + 1, "n"))
    lost: list[int] = []

    def work(number: int) -> None:
        try:
            repository.decide("A", ProposalStatus.PROPOSED, ProposalStatus.APPROVED, str(number), NOW)
        except Conflict:
            lost.append(number)

    together(4, work)
    assert len(lost) == 3


def test_jobs_are_claimed_once(database: StateDatabase) -> None:
    repository = JobRepository(database)
    for number in range(20):
        repository.add(Job(f"j{number}", "k", (), JobStatus.QUEUED, NOW, NOW), unique_key=f"u{number}")
    taken: list[str] = []

    def work(number: int) -> None:
        while job := repository.claim(f"w{number}", ["k"], NOW, 60_000):
            taken.append(job.id)

    together(4, work)
    assert sorted(taken) == sorted(f"j{n}" for n in range(20))


def test_the_most_urgent_job_is_claimed_first_and_limits_hold_between_services(database: StateDatabase) -> None:
    repository = JobRepository(database)
    for name, priority in (("low", 0), ("high", 5)):
        repository.add(Job(name, "k", (), JobStatus.QUEUED, NOW, NOW, priority=priority, pool="p"))
    assert repository.waiting("p", 0, NOW)
    assert not repository.waiting("p", 5, NOW)
    claimed = [job.id for _ in range(2) if (job := repository.claim("w", ["k"], NOW, 60_000, "p")) is not None]
    assert claimed == ["high", "low"]
    limit = JobLimit(("t",), ("key:1",), NOW, 5, "Five a day")
    refused: list[int] = []

    def work(number: int) -> None:
        for turn in range(4):
            try:
                job = Job(f"{number}-{turn}", "t", (), JobStatus.QUEUED, NOW, NOW, "key:1")
                JobRepository(database).add(job, limits=[limit])
            except LimitExceeded:
                refused.append(number)

    together(4, work)
    assert len(repository.list(kind="t")) == 5
    assert len(refused) == 11


def test_a_server_that_is_away_is_transient() -> None:
    pytest.importorskip("psycopg")
    database = StateDatabase(f"postgresql://nobody@127.0.0.1:{free_port()}/none")
    assert not database.healthy()
    with pytest.raises(TransientError):
        IncidentRepository(database).next_id()
    database.close()
