"""What the state store acknowledged survives the process being killed."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from aiops.store.state.audit import AuditLog
from aiops.store.state.database import StateDatabase, sqlite_url
from aiops.store.state.incidents import IncidentRepository
from aiops.store.state.outbox import OutboxRepository

WRITER = """
import sys
from pathlib import Path
from aiops.core.incident import Incident, IncidentStatus, Notification, NotificationEvent, Severity
from aiops.store.state.audit import AuditLog
from aiops.store.state.database import StateDatabase, sqlite_url
from aiops.store.state.incidents import IncidentRepository

database = StateDatabase(sqlite_url(Path(sys.argv[1])))
incidents, audit = IncidentRepository(database), AuditLog(database)
while True:
    name = incidents.next_id()
    one = Incident(name, IncidentStatus.OPEN, Severity.INFO, "t", "s", 1, 1)
    incidents.save(one, [Notification(name, "ops", NotificationEvent.OPENED, one, 1, name)])
    audit.append("key:1", "open", name)
    print(name, flush=True)
"""


def test_killing_the_writer_loses_nothing_acknowledged(tmp_path: Path) -> None:
    database = StateDatabase(sqlite_url(tmp_path))
    database.upgrade()
    acknowledged: list[str] = []
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(0.3)
        process.kill()
        rest = process.stdout.read()
        process.stdout.close()
        process.wait()
        # The last line may be cut in the middle of its own write; a whole line ends in a newline.
        acknowledged += [line for line in (first + rest).split("\n")[:-1] if line]
    incidents, outbox = (
        IncidentRepository(database),
        {d.notification.id for d in OutboxRepository(database).list(limit=10**6)},
    )
    assert len(acknowledged) > 3
    assert len(set(acknowledged)) == len(acknowledged)
    for name in acknowledged:
        assert incidents.get(name) is not None
        assert name in outbox
    stored = {i.id for i in incidents.list(limit=10**6)}
    assert stored == outbox, "an incident and its notification are one transaction"
    log = AuditLog(database)
    assert log.verify() is None
    assert set(acknowledged) <= {e.subject for e in log.list(limit=10**6)}
    database.close()
