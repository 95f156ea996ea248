"""Silences, objectives, schedules, splits and postmortems by the commands that a user types."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aiops import wiring
from aiops.cli.app import run
from aiops.core.ports import system_clock
from tests.unit.incidents.signals import alert

ROTA = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:x
BEGIN:VEVENT
UID:1
SUMMARY:On call: Alice
DTSTART:20200101T000000Z
DTEND:20200102T000000Z
RRULE:FREQ=DAILY
END:VEVENT
END:VCALENDAR
"""
SLO = {"objective": 0.999, "service": "web", "errors": "rate(e[$window])", "total": "rate(t[$window])"}


@pytest.fixture
def said(
    serve: Callable[..., wiring.Service], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> Callable[..., str]:
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "rota.ics").write_text(ROTA)
    service = serve(
        detection={"enabled": False},
        slos={"web": SLO},
        connectors={"oncall": {"shop": {"plugin": "ical", "path": str(tmp_path / "rota.ics")}}},
    )
    service.oncall.read()
    first = alert("Down", system_clock(), service="web")
    service.incidents.submit([first, replace(first, name="Slow", fingerprint="b" * 16)])

    def command(*words: str, status: int = 0) -> str:
        assert run([*words, "--url", service.url]) == status
        out = capsys.readouterr()
        return str(out.out + out.err)

    return command


def test_commands(said: Callable[..., str]) -> None:
    assert "SIL-1 is in force until" in said("silences", "add", "service=web", "--for", "1h30m", "-c", "deploying")
    assert "deploying" in said("silences", "list")
    assert "SIL-1 is over" in said("silences", "end", "SIL-1")
    assert "No silences" in said("silences", "list")
    assert "ends" not in said("silences", "end", "SIL-1", status=1)
    assert "0.999 over 30 d" in said("slo", "list")
    assert "Alice" in said("oncall", "list")
    assert "INC-2 was split from INC-1" in said("incidents", "split", "INC-1", "b" * 16, "--reason", "another fault")
    assert "Noted on INC-2" in said("incidents", "note", "INC-2", "looking at it")
    assert "INC-2 is part of INC-1" in said("incidents", "merge", "INC-2", "--into", "INC-1")
    assert "No past incident" in said("incidents", "similar", "INC-1")
    assert "# Postmortem of INC-1" in said("report", "incident", "INC-1", "--postmortem")


def test_mistakes_are_one_line(said: Callable[..., str]) -> None:
    assert "not a duration" in said("silences", "add", "service=web", "--for", "soon", "-c", "x", status=2)
    wide = said("silences", "add", 'service=~".*"', "-c", "x", status=1)
    assert "every alert" in wide
    assert len(wide.strip().splitlines()) == 1
