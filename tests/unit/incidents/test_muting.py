"""Silences, maintenance and inhibition: who is not told, and what is told all the same."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from aiops.core.errors import ConfigError, Conflict, Forbidden, InvalidInput, NotFound
from aiops.core.incident import IncidentStatus, Severity
from aiops.core.plugins import build
from aiops.core.ports import PluginContext
from aiops.core.principal import Principal, Role
from aiops.core.series import Matcher, MatchOp
from aiops.incidents.lifecycle import IncidentService
from aiops.incidents.muting import Firing, Muting, inhibitions_of, windows_of
from aiops.incidents.oncall import OnCall
from aiops.incidents.silences import READ_AGAIN_MS, Silences, text_of
from aiops.incidents.telling import ANNOUNCE_MS
from aiops.settings import IncidentSettings
from aiops.store.state.database import StateDatabase
from aiops.store.state.incidents import IncidentRepository
from aiops.store.state.silences import SilenceRepository
from tests.unit.incidents.signals import MINUTE, T0, alert
from tests.unit.incidents.test_lifecycle import ALICE, Desk

HOUR = 3_600_000


class QuietDesk(Desk):
    """A desk whose incidents know of silences and of the settings' windows and inhibitions."""

    settings = IncidentSettings()

    def restarted(self) -> IncidentService:
        self.silences = Silences(SilenceRepository(self.database), self.settings, self.clock)
        self.service = IncidentService(
            IncidentRepository(self.database), self.causes, self.routes, self.settings, self.clock,
            mutes=Muting(self.silences.active, self.settings), background=False,
        )  # fmt: skip
        return self.service

    def silence(self, *matchers: str, s: float = 3600) -> str:
        return self.silences.create(matchers, ALICE, duration_s=s, comment="deploy").id


@pytest.fixture
def desk(database: StateDatabase) -> QuietDesk:
    return QuietDesk(database, None)


def test_a_silenced_alert_opens_an_incident_that_nobody_hears_of_until_the_silence_ends(desk: QuietDesk) -> None:
    mute = desk.silence("service=web", s=600)
    desk.service.submit([alert("Down", service="web")])
    assert desk.told() == []
    assert desk.only.muted == f"silenced by key:alice ({mute}): deploy"
    desk.pass_time(5 * MINUTE, 5000)
    assert desk.told() == []
    assert [e.event for e in desk.only.timeline].count("muted") == 1
    desk.pass_time(6 * MINUTE, 5000)
    assert sorted(desk.told()) == [("hook", "opened"), ("pager", "opened")]
    assert desk.only.muted == ""
    assert "audible again" in [e.event for e in desk.only.timeline]


def test_ending_a_silence_tells_at_once(desk: QuietDesk) -> None:
    mute = desk.silence('service=~"web|cart"')
    desk.service.submit([alert("Down", service="web")])
    desk.pass_time(MINUTE)
    desk.silences.end(mute, ALICE)
    desk.pass_time(ANNOUNCE_MS)
    assert ("pager", "opened") in desk.told()


def test_the_resolve_of_what_was_paged_is_sent_though_silenced_since(desk: QuietDesk) -> None:
    signal = alert("Down", service="web")
    desk.service.submit([signal])
    assert ("pager", "opened") in desk.told()
    desk.silence("service=web")
    desk.pass_time(MINUTE)
    desk.end(signal)
    desk.pass_time(30 * MINUTE, 5000)
    assert desk.only.status is IncidentStatus.RESOLVED
    assert ("pager", "resolved") in desk.told()


def test_a_silenced_incident_that_ends_is_never_told_of(desk: QuietDesk) -> None:
    signal = alert("Down", service="web")
    desk.silence("service=web")
    desk.service.submit([signal])
    desk.end(signal)
    desk.pass_time(30 * MINUTE, 5000)
    assert desk.only.status is IncidentStatus.RESOLVED
    assert desk.told() == []


def test_a_second_signal_that_is_not_silenced_tells(desk: QuietDesk) -> None:
    desk.silence("alertname=Slow")
    first = alert("Down", service="web")
    slow = replace(first, name="Slow", fingerprint="a" * 16)
    desk.service.submit([slow])
    assert desk.told() == []
    desk.service.submit([replace(first, name="Down", fingerprint="b" * 16)])
    assert ("pager", "opened") in desk.told()


def test_silences_live_in_the_state_store_and_reach_another_service(desk: QuietDesk) -> None:
    other = Silences(SilenceRepository(desk.database), desk.settings, desk.clock)
    assert other.active(desk.clock.now) == ()
    made = desk.silence("service=web")
    desk.clock.now += READ_AGAIN_MS
    assert [s.id for s in other.active(desk.clock.now)] == [made]
    assert [s.id for s in desk.restarted().list(ALICE)] == []
    assert desk.silences.get(made).matchers == (Matcher("service", MatchOp.EQUAL, "web"),)
    assert text_of(desk.silences.get(made)) == ['service="web"']


def test_silences_end_are_listed_and_forgotten(desk: QuietDesk) -> None:
    first, second = desk.silence("service=web", s=60), desk.silence("service=cart")
    later = desk.silences.create(["service=db"], ALICE, duration_s=60, comment="x", starts_ms=desk.clock.now + HOUR)
    assert not later.active(desk.clock.now)
    assert later.active(desk.clock.now + HOUR)
    desk.clock.now += 61_000
    assert [s.id for s in desk.silences.list()] == [second, later.id]
    assert first in [s.id for s in desk.silences.list(past=True)]
    with pytest.raises(Conflict):
        desk.silences.end(first, ALICE)
    with pytest.raises(NotFound):
        desk.silences.end("SIL-99", ALICE)
    desk.clock.now += 40 * 24 * HOUR
    assert desk.silences.forget_old() == 3


@pytest.mark.parametrize(
    ("matchers", "duration", "comment", "complaint"),
    [
        (["service"], 60, "x", "not a matcher"),
        (['service=~"("'], 60, "x", "not a regular expression"),
        ([], 60, "x", "every alert"),
        (['service=~".*"'], 60, "x", "every alert"),
        (['service!="web"'], 60, "x", "every alert"),
        (["service=web"], 0, "x", "lasts between"),
        (["service=web"], 1e9, "x", "lasts between"),
        (["service=web"], 60, "  ", "comment"),
    ],
)
def test_silences_that_make_no_sense_are_refused(
    desk: QuietDesk, matchers: list[str], duration: float, comment: str, complaint: str
) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        desk.silences.create(matchers, ALICE, duration_s=duration, comment=comment)


def test_a_scoped_person_silences_within_the_scope_only(desk: QuietDesk) -> None:
    scope = (Matcher("team", MatchOp.EQUAL, "shop"),)
    bob = Principal("key:bob", Role.RESPONDER, scope)
    made = desk.silences.create(["service=web"], bob, duration_s=60, comment="x")
    assert scope[0] in made.matchers
    wide = desk.silence("service=web")
    with pytest.raises(Forbidden):
        desk.silences.end(wide, bob)
    desk.silences.end(made.id, bob)


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("moment", "covered"),
    [
        ("2026-11-24 01:59:59", False),
        ("2026-11-24 02:00:00", True),
        ("2026-11-24 03:29:59", True),
        ("2026-11-24 03:30:00", False),
    ],
)
def test_a_window_covers_its_time_in_its_zone(moment: str, covered: bool) -> None:
    entry = {"matchers": ["service=db"], "cron": "0 3 * * *", "zone": "Europe/Berlin", "duration_s": 5400}
    (window,) = windows_of(IncidentSettings.model_validate({"maintenance": {"nightly": entry}}))
    assert window.covers(at(moment)) is covered


def test_a_window_mutes_and_says_so(database: StateDatabase) -> None:
    class Nightly(QuietDesk):
        settings = IncidentSettings.model_validate(
            {"maintenance": {"always": {"matchers": ["service=web"], "cron": "* * * * *", "duration_s": 120}}}
        )

    desk = Nightly(database, None)
    desk.service.submit([alert("Down", service="web")])
    assert desk.told() == []
    assert desk.only.muted == "in maintenance: always"


def calendar_of(path: Path, start_ms: int, end_ms: int) -> OnCall:
    """A calendar file with one event, read as the service reads it."""
    begin, end = (datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y%m%dT%H%M%SZ") for ms in (start_ms, end_ms))
    path.write_text(
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:test\r\nBEGIN:VEVENT\r\nUID:1\r\nSUMMARY:Move of the racks\r\n"
        f"DTSTAMP:{begin}\r\nDTSTART:{begin}\r\nDTEND:{end}\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    )
    source = build("connectors.oncall", "ical", {"path": str(path)}, PluginContext("moves"))
    return OnCall({"moves": source}, lambda: start_ms)


def test_the_events_of_a_calendar_are_windows(database: StateDatabase, tmp_path: Path) -> None:
    calendar = calendar_of(tmp_path / "moves.ics", T0 + 5 * MINUTE, T0 + 10 * MINUTE)

    class Moving(QuietDesk):
        settings = IncidentSettings.model_validate(
            {"maintenance": {"moves": {"matchers": ["service=web"], "calendar": "moves"}}}
        )

        def restarted(self) -> IncidentService:
            self.silences = Silences(SilenceRepository(self.database), self.settings, self.clock)
            self.service = IncidentService(
                IncidentRepository(self.database), self.causes, self.routes, self.settings, self.clock,
                mutes=Muting(self.silences.active, self.settings, calendar.busy), background=False,
            )  # fmt: skip
            return self.service

    (window,) = windows_of(Moving.settings)
    inside = T0 + 6 * MINUTE
    assert not window.covers(inside, calendar.busy)  # a calendar that was never read mutes nothing
    calendar.read()
    assert [window.covers(T0 + m * MINUTE, calendar.busy) for m in (4, 5, 9, 10)] == [False, True, True, False]
    desk = Moving(database, None)
    desk.clock.now = inside
    desk.service.submit([alert("Down", inside, service="web")])
    assert desk.told() == []
    assert desk.only.muted == "in maintenance: moves"


@pytest.mark.parametrize("entry", [{}, {"cron": "* * * * *", "calendar": "moves"}, {"cron": "* * * * *"}])
def test_a_window_comes_from_a_cron_line_with_a_length_or_from_a_calendar(entry: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="give either cron or calendar|needs duration_s"):
        IncidentSettings.model_validate({"maintenance": {"x": {"matchers": ["a=b"], **entry}}})


RULE = {"source_matchers": ["severity=critical"], "target_matchers": ["severity=warning"], "equal": ["cluster"]}


class Inhibiting(QuietDesk):
    settings = IncidentSettings.model_validate({"inhibit_rules": [RULE]})


def placed(service: str, severity: Severity, cluster: str = "a") -> object:
    one = alert("Down", service=service)
    labels = tuple(sorted({**dict(one.labels), "cluster": cluster}.items()))
    return replace(one, severity=severity, labels=labels, fingerprint=f"{service}{severity.value}"[:16].ljust(16, "0"))


def test_inhibition_by_an_alert_of_another_incident_while_it_fires(database: StateDatabase) -> None:
    desk = Inhibiting(database, None)
    source = placed("db", Severity.CRITICAL)
    desk.service.submit([source])  # type: ignore[list-item]
    told = len(desk.told())
    desk.service.submit([placed("web", Severity.WARNING)])  # type: ignore[list-item]
    assert len(desk.told()) == told
    muted = next(i for i in desk.service.list(ALICE) if i.service == "web")
    assert muted.muted.startswith("inhibited by")
    desk.end(source)  # type: ignore[arg-type]
    desk.pass_time(ANNOUNCE_MS)
    assert len([t for t in desk.told() if t == ("pager", "opened")]) == 2


def test_inhibition_asks_for_equal_labels_and_not_for_itself() -> None:
    (rule,) = inhibitions_of(Inhibiting.settings)
    assert rule.equal == ("cluster",)
    muting = Muting(lambda _: (), Inhibiting.settings)
    source, same, other = (
        placed("db", Severity.CRITICAL), placed("web", Severity.WARNING), placed("cart", Severity.WARNING, "b")
    )  # fmt: skip
    from aiops.incidents.transitions import opened

    firing = Firing.of([opened("INC-1", source, T0)])  # type: ignore[arg-type]
    mutes = muting(T0)
    assert mutes.reason(same, firing).startswith("inhibited")  # type: ignore[arg-type]
    assert mutes.reason(other, firing) == ""  # type: ignore[arg-type]
    assert mutes.reason(source, firing) == ""  # type: ignore[arg-type]


def test_an_alert_of_both_sides_is_not_inhibited_by_another_of_both_sides() -> None:
    both = {"source_matchers": ["service=~web|db"], "target_matchers": ["service=~web|db"]}
    muting = Muting(lambda _: (), IncidentSettings.model_validate({"inhibit_rules": [both]}))
    from aiops.incidents.transitions import opened

    firing = Firing.of([opened("INC-1", alert("Down", service="db"), T0)])
    assert muting(T0).reason(alert("Down", service="web"), firing) == ""


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"maintenance": {"x": {"matchers": ["a"], "cron": "* * * * *", "duration_s": 5}}}, "maintenance.x"),
        ({"maintenance": {"x": {"matchers": ["a=b"], "cron": "61 * * * *", "duration_s": 5}}}, "maintenance.x"),
        (
            {"maintenance": {"x": {"matchers": ["a=b"], "cron": "* * * * *", "zone": "Mars/X", "duration_s": 5}}},
            "ance.x",
        ),
        ({"inhibit_rules": [{"source_matchers": ["a"], "target_matchers": ["b=c"]}]}, "rule 1"),
    ],
)
def test_settings_that_cannot_be_read_stop_the_start(settings: dict[str, object], place: str) -> None:
    with pytest.raises(ConfigError, match=place):
        Muting(lambda _: (), IncidentSettings.model_validate(settings))
