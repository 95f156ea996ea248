"""Every schedule source, found by discovery: shifts of a day, errors that say who must react."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from aiops.core.errors import ConfigError, PermanentError, TransientError
from aiops.core.incident import Shift
from aiops.core.plugins import build, discover, load
from aiops.core.ports import PluginContext, ScheduleSource
from tests.contract.peers import Answer, Peer, peer

TOKEN = "very-secret-token"


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


START, END = at("2026-11-24 00:00"), at("2026-11-25 00:00")
CALENDAR = b"""BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//t//EN
BEGIN:VEVENT
UID:1
SUMMARY:On call: Alice
DTSTART:20261124T000000Z
DTEND:20261124T120000Z
END:VEVENT
BEGIN:VEVENT
UID:2
SUMMARY:Bob
DTSTART:20261124T120000Z
DTEND:20261125T000000Z
END:VEVENT
END:VCALENDAR
"""


def person(name: str) -> dict[str, str]:
    return {"id": name, "type": "user_reference", "summary": name, "name": name}


PAGERDUTY = {
    "oncalls": [
        {
            "user": person("Alice"),
            "start": "2026-11-24T00:00:00Z",
            "end": "2026-11-24T12:00:00Z",
            "escalation_level": 1,
        },
        {"user": person("Bob"), "start": "2026-11-24T12:00:00Z", "end": "2026-11-25T00:00:00Z", "escalation_level": 1},
        {"user": person("Bob"), "start": "2026-11-24T12:00:00Z", "end": "2026-11-25T00:00:00Z", "escalation_level": 2},
    ],
    "limit": 100,
    "offset": 0,
    "more": False,
}
TIMELINE = {
    "finalTimeline": {
        "rotations": [
            {
                "periods": [
                    {
                        "startDate": "2026-11-24T00:00:00Z",
                        "endDate": "2026-11-24T12:00:00Z",
                        "recipient": person("Alice"),
                    },
                    {
                        "startDate": "2026-11-24T12:00:00Z",
                        "endDate": "2026-11-25T00:00:00Z",
                        "recipient": person("Bob"),
                    },
                    {
                        "startDate": "2026-11-25T00:00:00Z",
                        "endDate": "2026-11-25T12:00:00Z",
                        "recipient": person("Eve"),
                    },
                ]
            }
        ]
    }
}
SOURCES: dict[str, tuple[Callable[[str], dict[str, Any]], Answer]] = {
    "ical": (lambda url: {"url": f"{url}/{TOKEN}.ics"}, Answer(200, CALENDAR, {"content-type": "text/calendar"})),
    "pagerduty": (
        lambda url: {"url": url, "token": TOKEN, "schedule": "P1"}, Answer(200, json.dumps(PAGERDUTY).encode())
    ),
    "jira_service_management": (
        lambda url: {"url": url, "token": TOKEN, "user": "a@example.org", "schedule": "s 1"},
        Answer(200, json.dumps(TIMELINE).encode()),
    ),
}  # fmt: skip


def made(name: str, options: dict[str, Any]) -> ScheduleSource[Any]:
    built = build("connectors.oncall", name, {"timeout_s": 0.5, **options}, PluginContext("rota", lambda: START))
    assert isinstance(built, ScheduleSource)
    return built


@pytest.fixture(params=sorted(discover("connectors.oncall")))
def case(request: pytest.FixtureRequest) -> Iterator[tuple[ScheduleSource[Any], Peer]]:
    options, usual = SOURCES[request.param]
    with peer(usual) as server:
        source = made(request.param, options(server.url))
        yield source, server
        source.close()


def test_reads_the_shifts_of_a_day(case: tuple[ScheduleSource[Any], Peer]) -> None:
    source, _ = case
    noon = at("2026-11-24 12:00")
    assert list(source.shifts(START, END)) == [Shift("Alice", START, noon), Shift("Bob", noon, END)]
    assert source.interval_s >= 10


@pytest.mark.parametrize("answer", [Answer(503), Answer(429), Answer(delay_s=1.5)], ids=["503", "429", "hangs"])
def test_an_absent_source_is_transient(case: tuple[ScheduleSource[Any], Peer], answer: Answer) -> None:
    source, server = case
    server.usual = answer
    with pytest.raises(TransientError) as caught:
        source.shifts(START, END)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    "answer", [Answer(401), Answer(404), Answer(200, b"<html>"), Answer(200, b"[]"), Answer(200, b'{"oncalls":1}')]
)
def test_a_refusal_or_nonsense_is_permanent(case: tuple[ScheduleSource[Any], Peer], answer: Answer) -> None:
    source, server = case
    server.usual = answer
    with pytest.raises(PermanentError) as caught:
        source.shifts(START, END)
    assert TOKEN not in str(caught.value)


def test_documented_and_without_secrets_in_sight(case: tuple[ScheduleSource[Any], Peer]) -> None:
    source, _ = case
    assert len((type(source).__doc__ or "").split()) > 15
    assert TOKEN not in repr(source.options)


def test_every_source_is_in_this_contract() -> None:
    assert set(discover("connectors.oncall")) == set(SOURCES)
    assert load("connectors.oncall", "ical").extra == "calendar"


def event(body: str) -> bytes:
    return f"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:x\nBEGIN:VEVENT\nUID:1\n{body}\nEND:VEVENT\nEND:VCALENDAR\n".encode()


def read(tmp_path: Path, body: bytes, **more: Any) -> list[Shift]:
    file = tmp_path / "rota.ics"
    file.write_bytes(body)
    return list(made("ical", {"path": str(file), **more}).shifts(START, END))


def test_a_calendar_s_recurrence_zone_and_whole_days(tmp_path: Path) -> None:
    weekly = event("SUMMARY:Carol\nDTSTART;TZID=Europe/Berlin:20261006T090000\nDURATION:PT8H\nRRULE:FREQ=WEEKLY")
    assert read(tmp_path, weekly) == [Shift("Carol", at("2026-11-24 08:00"), at("2026-11-24 16:00"))]
    gone = weekly.replace(b"RRULE", b"EXDATE;TZID=Europe/Berlin:20261124T090000\nRRULE")
    assert read(tmp_path, gone) == []
    day = event("SUMMARY:Dan\nDTSTART;VALUE=DATE:20261124\nDTEND;VALUE=DATE:20261125")
    assert read(tmp_path, day, zone="Europe/Berlin") == [Shift("Dan", at("2026-11-23 23:00"), at("2026-11-24 23:00"))]
    assert read(tmp_path, event("SUMMARY:X\nSTATUS:CANCELLED\nDTSTART:20261124T000000Z\nDTEND:20261124T120000Z")) == []


def test_a_calendar_file_that_is_missing_or_no_calendar(tmp_path: Path) -> None:
    with pytest.raises(TransientError):
        made("ical", {"path": str(tmp_path / "none.ics")}).shifts(START, END)
    with pytest.raises(PermanentError):
        read(tmp_path, b"hello")
    for wrong in ({}, {"path": "x", "url": "http://x"}, {"path": "x", "zone": "Mars/X"}):
        with pytest.raises(ConfigError):
            made("ical", wrong)
