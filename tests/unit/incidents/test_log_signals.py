"""New, bursting and vanished templates: told when they should be, quiet when nothing happens."""

from __future__ import annotations

import numpy as np
import pytest

from aiops.core.errors import TransientError
from aiops.core.incident import Severity, SignalKind
from aiops.core.ports import Collected
from aiops.core.principal import LOCAL
from aiops.core.signals import LogRecord
from aiops.core.untrusted import Untrusted
from aiops.incidents.log_baseline import Baseline, tail_above
from aiops.incidents.log_signals import LAG_MS, STEP_MS, LogSignals
from aiops.incidents.wording import headline
from aiops.ingest.log_templates.miner import TemplateMiner
from aiops.settings import IncidentSettings, SignalSettings, StoreSettings
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore

T0 = 1_700_000_040_000


class Sink:
    def __init__(self) -> None:
        self.alerts = []
        self.full = False

    def submit(self, alerts):
        if self.full:
            raise TransientError("full")
        self.alerts += alerts


class House:
    def __init__(self, **settings) -> None:
        self.now = T0
        self.store = TelemetryStore(TelemetryDatabase(None, StoreSettings(), lambda: self.now))
        self.store.mine_logs_with(TemplateMiner())
        self.sink = Sink()
        self.signals = LogSignals(
            self.store, self.sink, SignalSettings(**settings), IncidentSettings(), lambda: self.now
        )
        self._number = 0

    def minute(self, *lines):
        """One step: (text, count, severity, service) each; ``{n}`` in a text is a number of its own."""
        records = []
        for text, count, severity, service in lines:
            resource = (("service.name", service), ("service.namespace", "shop"))
            for i in range(count):
                self._number += 1
                at = self.now + int(i * STEP_MS / max(count, 1))
                body = Untrusted(text.replace("{n}", str(self._number)))
                records.append(LogRecord(at * 1_000_000, body, severity, resource=resource))
        self.now += STEP_MS
        if records:
            self.store.append(Collected(logs=tuple(records)))
        self.now += LAG_MS
        told = self.signals.run_once(self.now)
        self.now -= LAG_MS
        return told

    def warm_up(self, minutes=36, per=20):
        for i in range(minutes):
            self.minute(("served request {n} in 5 ms", per + i % 3, 9, "api"), ("tick {n}", 1, 9, "api"))


USUAL = (("served request {n} in 5 ms", 20, 9, "api"), ("tick {n}", 1, 9, "api"))


@pytest.fixture
def house():
    found = House(learning_s=1800)
    found.warm_up()
    yield found
    found.store.close()


def test_nothing_is_told_while_learning_or_when_nothing_happens(house):
    assert house.sink.alerts == []


def test_a_new_error_is_told_with_its_template_and_first_line(house):
    (alert,) = house.minute(*USUAL, ("order {n} failed: no route", 4, 17, "api"))
    assert alert.kind is SignalKind.ANOMALY and alert.severity is Severity.WARNING
    assert alert.name == "new log line" and alert.service == "api" and alert.firing
    said = {name: text.raw for name, text in alert.annotations}
    assert said["template"] == "order <*> failed: no route" and said["count"] == "4" and said["service"] == "api"
    assert said["first_line"].startswith("order ") and said["first_line"].endswith("failed: no route")
    assert "order <*> failed" in headline(alert)
    assert dict(alert.labels)["service_namespace"] == "shop"
    assert house.sink.alerts[-1] is alert


def test_a_new_template_needs_lines_enough_and_is_told_once(house):
    assert house.minute(*USUAL, ("hello {n} world", 5, 9, "api")) == []
    told = [a for _ in range(6) for a in house.minute(*USUAL, ("hello {n} world", 5, 9, "api"))]
    assert len({a.fingerprint for a in told}) == 1
    assert sum(a.firing for a in told) >= 1


def test_a_new_episode_ends_when_its_lines_do(house):
    house.minute(*USUAL, ("order {n} failed: no route", 4, 17, "api"))
    told = [a for _ in range(8) for a in house.minute(*USUAL)]
    assert not told[-1].firing and told[-1].anomaly.ended_ms == told[-1].ends_ms
    assert house.minute(*USUAL) == []


def test_new_templates_of_a_service_that_is_itself_new_are_not_told(house):
    assert house.minute(*USUAL, ("order {n} failed", 30, 17, "young")) == []


def test_a_flood_of_new_templates_keeps_to_the_budget(house):
    words = ("alpha", "bravo", "delta", "golf", "hotel", "india", "kilo", "lima", "mike", "oscar", "papa", "quebec")
    told = set()
    for word in words:
        for _ in range(6):
            told |= {
                a.fingerprint for a in house.minute(*USUAL, (f"{word} {word} {word} broke at {{n}}", 5, 17, "api"))
            }
    assert len(told) <= 4


def test_a_burst_is_told_and_a_little_more_is_not(house):
    assert house.minute(("served request {n} in 5 ms", 32, 9, "api"), USUAL[1]) == []
    (alert,) = house.minute(("served request {n} in 5 ms", 400, 9, "api"), USUAL[1])
    assert alert.name == "burst of log lines" and alert.anomaly.direction == "up"
    assert alert.anomaly.value > 4 * alert.anomaly.expected
    assert alert.anomaly.p_value < 1e-6
    told = [a for _ in range(7) for a in house.minute(*USUAL)]
    assert not told[-1].firing


def test_a_rare_line_that_was_seen_before_bursts(house):
    for _ in range(3):
        house.minute(*USUAL, ("slow query {n}", 1, 13, "api"))
    for _ in range(12):
        house.minute(*USUAL)
    told = house.minute(*USUAL, ("slow query {n}", 60, 13, "api"))
    assert [a.name for a in told] == ["burst of log lines"]


def test_templates_that_become_one_are_no_burst(house):
    counts = (("amber", 1), ("birch", 30), ("cedar", 30))
    three = tuple((f"opened for {name} by {{n}}", count, 9, "api") for name, count in counts)
    for _ in range(36):
        house.minute(*USUAL, *three)
    before = len(house.sink.alerts)
    more = ("dogwood", "elder", "fir", "ginkgo", "hazel", "ivy", "jasmine", "larch", "maple")
    told = []
    for name in more:
        told += house.minute(*USUAL, *three, (f"opened for {name} by {{n}}", 1, 9, "api"))
    for _ in range(5):
        told += house.minute(*USUAL, *three)
    assert {p.pattern.raw for p in house.store.log_patterns(T0, house.now, LOCAL) if "opened" in p.pattern.raw} == {
        "opened for <*> by <*>"
    }
    assert [a for a in told if a.name != "new log line"] == []
    assert len(house.sink.alerts) == before + len(told)


def test_a_steady_line_that_stops_is_told_while_the_service_goes_on(house):
    told = [a for _ in range(4) for a in house.minute(USUAL[1])]
    assert [a.name for a in told if a.firing][:1] == ["log lines stopped"]
    (back,) = house.minute(*USUAL)
    assert not back.firing


def test_a_service_that_falls_silent_is_not_told_line_by_line(house):
    assert [a for _ in range(5) for a in house.minute()] == []


def test_what_the_sink_refuses_is_told_with_the_next_step(house):
    house.sink.full = True
    with pytest.raises(TransientError):
        house.minute(*USUAL, ("order {n} failed: no route", 4, 17, "api"))
    house.sink.full = False
    house.now += STEP_MS - LAG_MS
    house.minute(*USUAL, ("order {n} failed: no route", 4, 17, "api"))
    assert any(a.name == "new log line" for a in house.sink.alerts)


def test_quiet_poisson_templates_raise_almost_no_alarm():
    rng = np.random.default_rng(5)
    alarms = steps = 0
    for rate in (0.05, 3.0, 200.0):
        baseline = Baseline()
        for count in rng.poisson(rate, 4_000):
            if baseline.known:
                steps += 1
                alarms += baseline.above(int(count)) < 0.5 / 1440 / 100 and count >= max(10, 4 * baseline.mean())
            baseline.add(int(count))
    assert alarms <= 0.5 * steps / 1440 / 100 + 1


def test_the_bound_of_the_tail_holds():
    rng = np.random.default_rng(1)
    for mean in (0.1, 1.0, 10.0):
        drawn = rng.poisson(mean, 200_000)
        for count in (int(mean) + 1, int(2 * mean) + 2, int(4 * mean) + 4):
            assert (drawn >= count).mean() <= tail_above(count, mean) + 1e-3
