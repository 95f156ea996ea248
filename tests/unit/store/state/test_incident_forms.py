from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from aiops.core.incident import Incident
from aiops.incidents.transitions import joined, noted, opened
from aiops.store.state import codec
from aiops.store.state.database import StateDatabase, sqlite_url
from aiops.store.state.incidents import IncidentRepository
from aiops.store.state.tables import IncidentRow
from tests.unit.incidents.signals import T0, alert


@pytest.fixture
def database(tmp_path: Path) -> Iterator[StateDatabase]:
    made = StateDatabase(sqlite_url(tmp_path))
    made.upgrade()
    yield made
    made.close()


def grown(incidents: int = 30) -> list[Incident]:
    """One incident as it grows, signal by signal."""
    states = [opened("INC-1", alert("Down", T0, service="cart"), T0)]
    for i in range(incidents):
        states.append(joined(states[-1], alert(f"Slow{i}", T0 + i, service="cart"), "same service cart", T0 + i))
    return [*states, noted(states[-1], T0 + 99, "sam", "note", "it is the db")]


def test_what_is_stored_of_a_growing_incident_is_its_plain_form(database: StateDatabase) -> None:
    repository = IncidentRepository(database)
    for state in grown():
        repository.save(state)
        with database.reader() as session:
            assert session.scalar(select(IncidentRow.body)) == codec.dumps(state)
    assert repository.get("INC-1") == grown()[-1]


def test_signals_are_found_while_the_incident_holds_them_and_not_after(database: StateDatabase) -> None:
    repository = IncidentRepository(database)
    whole = grown(3)[-1]
    repository.save(whole)
    first, *rest = whole.signals
    assert repository.find_by_fingerprint(first.alert.fingerprint) == whole
    left = replace(whole, signals=tuple(rest))
    repository.save(left)
    assert repository.find_by_fingerprint(first.alert.fingerprint) is None
    assert all(repository.find_by_fingerprint(s.alert.fingerprint) == left for s in rest)
