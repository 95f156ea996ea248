from __future__ import annotations

import sqlite3
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from aiops.core.access import ApiKey
from aiops.core.action import Action, ActionProposal, ProposalStatus
from aiops.core.anomaly import Anomaly
from aiops.core.conversation import Feedback, Message, Speaker
from aiops.core.errors import Conflict, NotFound
from aiops.core.evidence import Answer
from aiops.core.incident import (
    Alert,
    DeliveryStatus,
    Incident,
    IncidentSignal,
    IncidentStatus,
    Notification,
    NotificationEvent,
    Severity,
    SignalKind,
)
from aiops.core.principal import LOCAL, Role
from aiops.core.query import Question
from aiops.core.series import Matcher, MatchOp
from aiops.store.state.actions import ActionRepository
from aiops.store.state.audit import AuditLog, first_broken
from aiops.store.state.checkpoints import Checkpoint, CheckpointRepository
from aiops.store.state.conversations import ConversationRepository
from aiops.store.state.database import StateDatabase
from aiops.store.state.detection import DetectionRepository
from aiops.store.state.incidents import IncidentRepository
from aiops.store.state.keys import KeyRepository
from aiops.store.state.outbox import OutboxRepository
from aiops.store.state.reports import ReportRepository

NOW = 1_764_000_000_000


def incident(number: int = 1, *fingerprints: str, status: IncidentStatus = IncidentStatus.OPEN) -> Incident:
    signals = tuple(
        IncidentSignal(
            Alert(f, SignalKind.ALERT, "a", (("service", "x\x00\ud800"),), Severity.WARNING, NOW, NOW), "first", NOW
        )
        for f in fingerprints
    )
    return Incident(f"INC-{number}", status, Severity.WARNING, "t", "x", NOW + number, NOW + number, signals=signals)


def note(name: str, subject: Incident, receiver: str = "ops", at: int = NOW) -> Notification:
    return Notification(name, receiver, NotificationEvent.OPENED, subject, at, subject.id)


# ---------------------------------------------------------------- incidents


def test_incidents_are_kept_listed_and_replaced(database: StateDatabase) -> None:
    repository = IncidentRepository(database)
    assert [repository.next_id(), repository.next_id()] == ["INC-1", "INC-2"]
    first, second = incident(1, "f1"), incident(2, "f2", "f2")
    repository.save(first)
    repository.save(second)
    assert repository.get("INC-1") == first
    assert repository.get("INC-9") is None
    assert repository.list() == (second, first)
    assert repository.active() == (first, second)
    closed = replace(first, status=IncidentStatus.RESOLVED, updated_ms=NOW + 50)
    repository.save(closed)
    assert repository.list(IncidentStatus.RESOLVED) == (closed,)
    assert repository.list(since=NOW + 50) == (closed,)
    assert repository.list(limit=1) == (closed,)
    assert repository.active() == (second,)
    assert repository.counts() == {"open": 1, "resolved": 1}


def test_the_latest_unmerged_holder_of_an_alert_is_found(database: StateDatabase) -> None:
    repository = IncidentRepository(database)
    repository.save(incident(1, "f", status=IncidentStatus.RESOLVED))
    repository.save(incident(2, "f"))
    repository.save(incident(3, "f", status=IncidentStatus.MERGED))
    found = repository.find_by_fingerprint("f")
    assert found is not None
    assert found.id == "INC-2"
    repository.save(incident(2, "other"))
    found = repository.find_by_fingerprint("f")
    assert found is not None
    assert found.id == "INC-1"
    assert repository.find_by_fingerprint("none") is None


def test_hostile_fingerprints_are_only_text(database: StateDatabase) -> None:
    repository = IncidentRepository(database)
    name = "x\x00'; DROP TABLE incidents; --\ud800"
    repository.save(incident(1, name))
    found = repository.find_by_fingerprint(name)
    assert found is not None
    assert found.id == "INC-1"


# ---------------------------------------------------------------- outbox


def test_a_state_change_and_its_notifications_are_one_transaction(database: StateDatabase, tmp_path: Path) -> None:
    repository, outbox = IncidentRepository(database), OutboxRepository(database)
    with sqlite3.connect(tmp_path / "state.db") as raw:
        raw.execute("CREATE TRIGGER full BEFORE INSERT ON outbox BEGIN SELECT RAISE(ABORT, 'full'); END")
    raw.close()
    with pytest.raises(Exception, match="full"):
        repository.save(incident(1, "f"), [note("n1", incident(1))])
    assert repository.get("INC-1") is None
    assert outbox.list() == ()


def test_deliveries_are_claimed_in_order_with_a_lease(database: StateDatabase) -> None:
    repository, outbox = IncidentRepository(database), OutboxRepository(database, lease_ms=1000)
    one, two = incident(1), incident(2)
    repository.save(one, [note("n1", one), note("n2", one), note("n3", one, "pager"), note("n4", two)])
    assert [d.notification.id for d in outbox.due(NOW)] == ["n1", "n3", "n4"], "n2 waits for n1"
    assert outbox.due(NOW) == (), "claimed"
    outbox.delivered("n1", "thread-1", NOW)
    second = outbox.due(NOW)
    assert [(d.notification.id, d.notification.thread, d.attempts) for d in second] == [("n2", "thread-1", 1)]
    again = outbox.due(NOW + 1000)
    assert [(d.notification.id, d.attempts) for d in again] == [("n2", 2), ("n3", 2), ("n4", 2)], "leases ran out"
    assert outbox.thread_of("ops", "INC-1") == "thread-1"
    assert outbox.thread_of("ops", "INC-2") == ""


def test_failures_come_back_later_and_dead_letters_by_hand(database: StateDatabase) -> None:
    repository, outbox = IncidentRepository(database), OutboxRepository(database)
    one = incident(1)
    repository.save(one, [note("n1", one), note("n2", one)])
    outbox.due(NOW)
    outbox.failed("n1", "503", NOW + 500)
    assert outbox.next_attempt_ms() == NOW
    assert outbox.due(NOW + 499) == (), "n2 waits for n1"
    assert [d.last_error for d in outbox.due(NOW + 500)] == ["503"]
    outbox.dead("n1", "gone")
    assert outbox.counts() == {"dead": 1, "pending": 1}
    assert [d.notification.id for d in outbox.due(NOW + 600)] == ["n2"], "a dead letter blocks nobody"
    assert [d.notification.id for d in outbox.list(DeliveryStatus.DEAD)] == ["n1"]
    assert outbox.resend("n1", NOW + 700).status is DeliveryStatus.PENDING
    assert [(d.notification.id, d.attempts) for d in outbox.due(NOW + 700)] == [("n1", 1)]
    with pytest.raises(NotFound):
        outbox.resend("n1")
    with pytest.raises(NotFound):
        outbox.delivered("none", "", NOW)


def test_a_notification_is_queued_once(database: StateDatabase) -> None:
    repository, outbox = IncidentRepository(database), OutboxRepository(database)
    one = incident(1)
    repository.save(one, [note("n1", one), note("n1", one)])
    repository.save(one, [note("n1", one)])
    outbox.add(note("n1", one))
    assert len(outbox.list()) == 1


def test_a_restart_releases_the_leases(database: StateDatabase) -> None:
    repository, outbox = IncidentRepository(database), OutboxRepository(database)
    one = incident(1)
    repository.save(one, [note("n1", one)])
    outbox.due(NOW)
    assert outbox.release() == 1
    assert len(outbox.due(NOW)) == 1


def test_two_dispatchers_never_share_a_row(database: StateDatabase) -> None:
    repository = IncidentRepository(database)
    for number in range(30):
        one = incident(number)
        repository.save(one, [note(f"n{number}", one)])
    taken: list[str] = []

    def work() -> None:
        outbox = OutboxRepository(database)
        while found := outbox.due(NOW + 100, limit=3):
            taken.extend(d.notification.id for d in found)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(f"n{n}" for n in range(30))


# ---------------------------------------------------------------- actions


def proposal(name: str = "A", expires: int = NOW + 1000) -> ActionProposal:
    return ActionProposal(name, Action("webhook", "db"), "INC-1", "r", ("s",), "system:detector", NOW, expires, "n")


def test_of_two_deciders_one_wins(database: StateDatabase) -> None:
    repository = ActionRepository(database)
    repository.add(proposal())
    outcomes: list[str] = []

    def decide(name: str) -> None:
        try:
            repository.decide("A", ProposalStatus.PROPOSED, ProposalStatus.APPROVED, name, NOW)
            outcomes.append(name)
        except Conflict:
            outcomes.append("refused")

    threads = [threading.Thread(target=decide, args=(f"key:{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winner = next(o for o in outcomes if o != "refused")
    assert outcomes.count("refused") == 7
    found = repository.get("A")
    assert found is not None
    assert (found.status, found.decided_by, found.decided_ms) == (ProposalStatus.APPROVED, winner, NOW)
    assert found.digest == proposal().digest


def test_an_action_ends_once(database: StateDatabase) -> None:
    repository = ActionRepository(database)
    repository.add(proposal())
    with pytest.raises(Conflict):
        repository.finish("A", ProposalStatus.EXECUTED, "done")
    repository.decide("A", ProposalStatus.PROPOSED, ProposalStatus.APPROVED, "key:1", NOW)
    assert repository.finish("A", ProposalStatus.EXECUTED, "done").result == "done"
    with pytest.raises(Conflict):
        repository.finish("A", ProposalStatus.FAILED, "again")
    with pytest.raises(NotFound):
        repository.finish("B", ProposalStatus.FAILED, "x")
    with pytest.raises(Conflict):
        repository.add(proposal())


def test_expiry_and_what_a_crash_left(database: StateDatabase) -> None:
    repository = ActionRepository(database)
    repository.add(proposal("old", NOW))
    repository.add(proposal("ran"))
    repository.add(proposal("waits"))
    repository.decide("ran", ProposalStatus.PROPOSED, ProposalStatus.APPROVED, "key:1", NOW)
    assert repository.expire(NOW) == ("old",)
    assert repository.expire(NOW) == ()
    assert repository.abandon_unfinished() == ("ran",)
    assert repository.abandon_unfinished() == ()
    assert repository.counts() == {"expired": 1, "unknown": 1, "proposed": 1}
    assert [p.id for p in repository.list(ProposalStatus.PROPOSED, incident_id="INC-1")] == ["waits"]
    assert repository.list(incident_id="INC-2") == ()


# ---------------------------------------------------------------- audit


def test_the_chain_holds_over_any_text(database: StateDatabase) -> None:
    log = AuditLog(database, lambda: NOW)
    assert log.verify() is None
    log.append("key:1", "login", "x")
    log.append("key\x00\ud800", "délete", "☃", {"b\x00": "2", "a": "\ud83d"})
    assert log.verify() is None
    assert [e.sequence for e in log.list()] == [2, 1]
    assert [e.sequence for e in log.list(before=2)] == [1]
    assert [e.subject for e in log.list(actor="key:1", action="login")] == ["x"]
    assert log.head() == (2, log.list(limit=1)[0].hash)
    assert log.count() == 2


def test_the_table_itself_refuses_changes(database: StateDatabase, tmp_path: Path) -> None:
    AuditLog(database, lambda: NOW).append("a", "b", "c")
    raw = sqlite3.connect(tmp_path / "state.db")
    for statement in ("UPDATE audit SET actor = 'z'", "DELETE FROM audit"):
        with pytest.raises(sqlite3.DatabaseError, match="append-only"):
            raw.execute(statement)
    raw.close()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit SET actor = 'mallory' WHERE sequence = 3",
        'UPDATE audit SET detail = \'[["k","other"]]\' WHERE sequence = 3',
        "UPDATE audit SET time_ms = 1 WHERE sequence = 3",
        "UPDATE audit SET detail = 'no json' WHERE sequence = 3",
        "DELETE FROM audit WHERE sequence = 3",
        "UPDATE audit SET sequence = 99 WHERE sequence = 3",
        "UPDATE audit SET hash = '00' WHERE sequence = 3",
    ],
)
def test_tampering_behind_its_back_is_found(database: StateDatabase, tmp_path: Path, change: str) -> None:
    log = AuditLog(database, lambda: NOW)
    for number in range(5):
        log.append("key:1", "act", str(number), {"k": "v"})
    with sqlite3.connect(tmp_path / "state.db") as raw:
        raw.execute("DROP TRIGGER audit_no_update")
        raw.execute("DROP TRIGGER audit_no_delete")
        raw.execute(change)
    raw.close()
    broken = log.verify()
    assert broken is not None
    assert broken.sequence in (3, 4)


def test_a_chain_without_its_head_is_broken(database: StateDatabase) -> None:
    log = AuditLog(database, lambda: NOW)
    for number in range(3):
        log.append("a", "b", str(number))
    entries = list(reversed(log.list()))
    assert first_broken(entries) is None
    assert first_broken(entries[1:]) == entries[1]


def test_threads_extend_one_chain(database: StateDatabase) -> None:
    log = AuditLog(database, lambda: NOW)
    threads = [
        threading.Thread(target=lambda n=n: [log.append(f"key:{n}", "act", "x") for _ in range(5)]) for n in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (log.count(), log.verify()) == (25, None)


# ---------------------------------------------------------------- the rest


def test_keys(database: StateDatabase) -> None:
    repository = KeyRepository(database)
    scope = (Matcher("team", MatchOp.REGEX, "a|b"),)
    first = ApiKey("aa", "first", Role.ADMIN, "d1", NOW)
    second = ApiKey("bb", "second", Role.VIEWER, "d2", NOW, scope, NOW + 1)
    assert repository.add_first(first)
    assert not repository.add_first(second)
    repository.add(second)
    assert repository.get("bb") == second
    assert repository.get("zz") is None
    repository.revoke("aa", NOW + 5)
    repository.revoke("aa", NOW + 9)
    assert repository.list() == (replace(first, revoked_ms=NOW + 5), second)
    with pytest.raises(NotFound):
        repository.revoke("zz", NOW)
    assert second.usable(NOW)
    assert not second.usable(NOW + 1)


def test_conversations(database: StateDatabase) -> None:
    repository = ConversationRepository(database)
    question = Question("up?", LOCAL, NOW, "c1")
    answer = Answer("a1", "up?", "yes", (), 1.0, True, "offline", NOW + 1)
    repository.save_answer(question, answer)
    repository.save_answer(question, answer)
    repository.add_message(Message("c1", Speaker.PERSON, "and now?", NOW + 2))
    assert [m.text for m in repository.messages("c1")] == ["up?", "yes", "and now?"]
    assert [m.text for m in repository.messages("c1", limit=1)] == ["and now?"]
    assert repository.messages("c2") == ()
    stored = repository.answer("a1")
    assert stored is not None
    assert (stored.answer, stored.asked_by, stored.conversation) == (answer, "local", "c1")
    assert repository.answers(asked_by="local") == repository.answers(conversation="c1") == (stored,)
    repository.add_feedback(Feedback("a1", "local", True, "", NOW))
    assert len(repository.feedback("a1")) == 1
    with pytest.raises(NotFound):
        repository.add_feedback(Feedback("zz", "local", True, "", NOW))
    repository.forget_before(NOW + 2)
    assert repository.answer("a1") is None
    assert repository.feedback("a1") == ()
    assert [m.text for m in repository.messages("c1")] == ["and now?"]


def anomaly(name: str, started: int, ended: int | None = None) -> Anomaly:
    return Anomaly(
        name, (("a", "b"),), "s", "m", "q", "latency", "up", started, started, ended, 1, 2, 0, float("inf"), 3, 0.1
    )


def test_detection(database: StateDatabase) -> None:
    repository = DetectionRepository(database, lambda: NOW)
    repository.save_anomalies([])
    repository.save_anomalies([anomaly("a", NOW), anomaly("b", NOW + 1, NOW + 5)])
    repository.save_anomalies([anomaly("a", NOW, NOW + 9), anomaly("c", NOW + 2)])
    assert [a.id for a in repository.open_anomalies()] == ["c"]
    assert [a.id for a in repository.anomalies(NOW, NOW + 2)] == ["b", "a"]
    repository.save_documents({"ledger": "{}", "judge": "x"})
    repository.save_documents({"ledger": '{"spent": 1}', "judge": ""})
    assert repository.document("ledger") == '{"spent": 1}'
    assert repository.document("judge") == ""


def test_checkpoints_are_kept_a_few_deep(database: StateDatabase) -> None:
    repository = CheckpointRepository(database)
    for number in range(4):
        made = Checkpoint("m", "m/1", NOW + number, f"p{number}", "d", (("k", "v"),))
        added, dropped = repository.add(made, keep=2)
    repository.add(Checkpoint("other", "other/1", NOW, "p", "d"), keep=2)
    assert [c.path for c in repository.of("m")] == ["p3", "p2"]
    assert [c.path for c in dropped] == ["p1"]
    assert added == repository.of("m")[0]
    assert (added.version, added.detail) == ("m/1", (("k", "v"),))


def test_a_report_is_delivered_once(database: StateDatabase) -> None:
    repository = ReportRepository(database)
    assert not repository.was_delivered("weekly", "2026-W48", "email")
    repository.delivered("weekly", "2026-W48", "email", NOW)
    repository.delivered("weekly", "2026-W48", "email", NOW + 1)
    assert repository.was_delivered("weekly", "2026-W48", "email")
    assert not repository.was_delivered("weekly", "2026-W48", "slack")
