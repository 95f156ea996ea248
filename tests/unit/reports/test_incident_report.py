from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from aiops.core.incident import (
    Alert,
    CauseCandidate,
    Incident,
    IncidentSignal,
    IncidentStatus,
    Severity,
    SignalKind,
    TimelineEntry,
)  # fmt: skip
from aiops.core.untrusted import Untrusted
from aiops.reports import incident as report
from aiops.reports.markdown import escape

T = 1_764_000_000_000


def made(evil: str = "") -> Incident:
    alert = Alert(
        "f", SignalKind.ALERT, "HighLatency", (("service", "checkout"),), Severity.CRITICAL, T, T,
        summary=Untrusted(f"p95 is 2 s {evil}"),
    )  # fmt: skip
    cause = CauseCandidate(
        "payments", 0.8, "error ratio", 0.01, 0.3, T - 60_000, ("payments", "checkout"),
        (f"new log line {evil}",), 'sum(rate(x{job="`a`"}[5m]))', "deploy 1.2",
    )  # fmt: skip
    return Incident(
        "INC-1", IncidentStatus.RESOLVED, Severity.CRITICAL, f"checkout is slow {evil}", "checkout", T, T,
        resolved_ms=T + 600_000, signals=(IncidentSignal(alert, "first signal", T),), candidates=(cause,),
        clear_cause=True, timeline=(TimelineEntry(T, "system", "opened", f"by HighLatency {evil}"),), simulated=True,
    )  # fmt: skip


def test_text_tells_cause_evidence_signals_and_timeline() -> None:
    text = report.text(made(), "Europe/Berlin")
    for said in (
        "INC-1  checkout is slow  (SIMULATED)",
        "resolved 24 Nov 17:10:00 Europe/Berlin after 10 min",
        "80%  payments",
        "first deviation at 24 Nov 16:59:00",
        "path payments → checkout",
        "near: deploy 1.2",
        "24 Nov 17:00:00  opened: by HighLatency",
    ):
        assert said in text


EVIL = "<img src=x onerror=1> [a](http://evil.example) **b** `c` \x1b[31m"


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata"])
def test_nothing_from_telemetry_becomes_markup(zone: str) -> None:
    html = report.html(made(EVIL), zone)
    assert "<img src=x" not in html
    assert "SIMULATED" in html
    rendered = MarkdownIt("commonmark").render(report.markdown(made(EVIL), zone))
    assert "<img" not in rendered
    assert "<a " not in rendered
    assert "<strong>b</strong>" not in rendered
    assert "\x1b" not in html + rendered + report.text(made(EVIL))


@given(st.text(alphabet="ab*_`[]()<>|~#!\\ &", max_size=40))
def test_escaped_markdown_shows_as_it_is(text: str) -> None:
    rendered = MarkdownIt("commonmark").renderInline("x" + escape(text))
    assert "<" not in rendered.replace("&lt;", "")
