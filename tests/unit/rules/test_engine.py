"""Groups at work: samples, states, failures, restarts, and what incidents are told."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from aiops.core.errors import TransientError
from aiops.core.incident import Severity, SignalKind
from aiops.core.principal import LOCAL
from aiops.core.series import Matcher, MatchOp, is_stale, labels_of
from aiops.rules.alerting import AlertState
from aiops.rules.engine import RuleEngine
from tests.unit.rules.conftest import NOW, Place, run


def group(rules: str, more: str = "") -> str:
    return f"groups:\n- name: g\n  interval: 15s\n{more}  rules:\n" + "".join(f"  {x}\n" for x in rules.splitlines())


HOT = group(
    "- alert: Hot\n  expr: m > 5\n  for: 30s\n  labels: {severity: critical}\n"
    "  annotations: {summary: '{{ $labels.host }} is at {{ $value }}', note: 'x'}"
)


def states(engine: RuleEngine, rule: int = 0) -> list[AlertState]:
    return [a.state for a in engine.status()[0].rules[rule].alerts]


def stored(place: Place, name: str) -> dict[tuple[tuple[str, str], ...], tuple[list[int], np.ndarray]]:
    block = place.store.scan((Matcher("__name__", MatchOp.EQUAL, name),), 0, NOW * 2, LOCAL)
    return {
        labels: ([(t - NOW) // 1000 for t in block.series(i)[0].tolist()], block.series(i)[1])
        for i, labels in enumerate(block.labels)
    }


def test_a_series_that_vanishes_gets_a_staleness_marker(place):
    engine = place.engine(group("- record: r\n  expr: m > 5\n  labels: {a: b}"))
    place.write(0, 7.0, host="x")
    run(engine, 1)
    place.write(14, 3.0, host="x")
    run(engine, 16)
    run(engine, 31)
    (times, values) = stored(place, "r")[labels_of({"__name__": "r", "host": "x", "a": "b"})]
    assert times == [1, 16]
    assert is_stale(values).tolist() == [False, True]
    assert place.ask("r", 17) == {}


def test_a_rule_reads_what_an_earlier_one_of_its_group_wrote(place):
    rules = "- record: a\n  expr: m * 2\n- record: b\n  expr: m * 3\n- record: c\n  expr: a + 1\n- record: d\n  expr: b"
    engine = place.engine(group(rules))
    place.write(0, 7.0)
    run(engine, 1)
    assert list(place.ask("c", 1).values()) == [15.0]
    assert list(place.ask("d", 1).values()) == [21.0]
    assert place.appends == 2  # one before c, one at the end; d's b was stored with the first


def test_a_failing_rule_is_a_state_and_the_rest_goes_on(place):
    rules = "- record: a\n  expr: m[5m]\n- record: b\n  expr: m\n- record: c\n  expr: m\n  labels: {host: same}"
    engine = place.engine(group(rules))
    place.write(0, 7.0, host="x")
    place.write(0, 8.0, host="y")
    run(engine, 1)
    health = [(r.outcome.health.value, r.outcome.error) for r in engine.status()[0].rules]
    assert [h for h, _ in health] == ["err", "ok", "err"]
    assert "not a vector or scalar" in health[0][1]
    assert "same labelset" in health[2][1]
    assert len(place.ask("b", 1)) == 2
    assert engine.failing() == ["g/a", "g/c"]


def test_limits(place):
    rules = "- record: a\n  expr: m\n- alert: A\n  expr: m"
    engine = place.engine(group(rules, "  limit: 1\n"))
    place.write(0, 7.0, host="x")
    run(engine, 1)
    assert engine.failing() == []
    place.write(2, 7.0, host="y")
    run(engine, 16)
    errors = [r.outcome.error for r in engine.status()[0].rules]
    assert errors == ["exceeded limit of 1 with 2 series", "exceeded limit of 1 with 2 alerts"]


def test_a_full_disk_fails_the_rules_and_alerts_are_told_all_the_same(place):
    engine = place.engine(group("- record: a\n  expr: m\n- alert: A\n  expr: m"))
    place.write(0, 7.0)
    place.full = True
    run(engine, 1)
    assert engine.failing() == ["g/a", "g/A"]
    assert [a.name for a in place.told] == ["A"]
    place.full = False
    run(engine, 16)
    assert engine.failing() == []
    assert len(place.ask("a", 16)) == 1


def test_query_offset_and_group_labels(place):
    engine = place.engine(group("- record: a\n  expr: m", "  query_offset: 10s\n  labels: {team: shop}\n"))
    place.write(0, 1.0)
    place.write(8, 2.0)
    run(engine, 15)
    assert stored(place, "a") == {labels_of({"__name__": "a", "team": "shop"}): ([5], np.array([1.0]))}


def test_an_alert_from_pending_to_its_end(place):
    engine = place.engine(HOT, external_labels={"region": "eu", "severity": "none"}, external_url="https://a.example/")
    place.write(0, 9.0, host="web\u202e1")
    for at in (1, 16):
        run(engine, at)
        assert states(engine) == [AlertState.PENDING]
    assert place.told == []
    run(engine, 31)
    (alert,) = place.told
    assert (alert.kind, alert.name, alert.severity) == (SignalKind.RULE, "Hot", Severity.CRITICAL)
    labels = {"alertname": "Hot", "host": "web\u202e1", "severity": "critical", "region": "eu"}
    assert dict(alert.labels) == labels
    assert str(alert.summary) == "web 1 is at 9"
    assert (alert.starts_ms, alert.ends_ms, alert.firing) == (NOW + 31_000, None, True)
    assert alert.expires_ms == NOW + 31_000 + 240_000
    assert alert.link == "https://a.example/api/v1/query?query=m%20%3E%205"
    run(engine, 46)
    assert len(place.told) == 1  # told again after a minute
    run(engine, 91)
    assert [a.fingerprint for a in place.told] == [alert.fingerprint] * 2
    place.write(100, 1.0, host="web\u202e1")
    run(engine, 106)
    run(engine, 121)
    assert len(place.told) == 3
    assert (place.told[2].fingerprint, place.told[2].ends_ms) == (alert.fingerprint, NOW + 106_000)
    assert states(engine) == []
    assert place.ask("ALERTS", 107) == {}


def test_a_rule_that_fails_ends_no_alert(place):
    engine = place.engine(group("- alert: A\n  expr: m > on () x"))
    place.write(0, 9.0)
    place.write(0, 1.0, "x")
    run(engine, 1)
    place.write(10, 1.0, "x", another="one")
    run(engine, 76)
    assert engine.failing() == ["g/A"]
    assert [a.firing for a in place.told] == [True, True]


def test_alerts_that_incidents_do_not_take_are_told_later(place):
    engine = place.engine(group("- alert: A\n  expr: m > 5"))
    place.write(0, 9.0)
    place.away = True
    run(engine, 1)
    place.away = False
    run(engine, 16)
    assert [a.firing for a in place.told] == [True]
    place.write(20, 1.0)
    place.away = True
    run(engine, 31)
    run(engine, 46)
    place.away = False
    run(engine, 61)
    assert [a.ends_ms for a in place.told] == [None, NOW + 31_000]
    run(engine, 76)
    assert len(place.told) == 2


@pytest.mark.parametrize(
    ("wait", "down_from", "up_at", "fires_at"),
    [
        ("30s", 46, 60, 61),  # it fired before: it fires on
        ("60s", 16, 61, 106),  # 15 s of 60 had passed: the 45 s left are waited for
        ("20m", 1201 - 60, 1200, 1801),  # of a long one 60 s were left: at least 10 min are waited
    ],
)
def test_a_restart_goes_on_where_it_was(place, wait, down_from, up_at, fires_at):
    rules = HOT.replace("30s", wait)
    engine = place.engine(rules)
    for at in range(0, 4000, 60):
        place.write(at, 9.0, host="x")
    for at in range(1, down_from + 1, 15):
        run(engine, at)
    again = place.engine(rules)
    first = None
    for at in range(up_at + 1, up_at + 1500, 15):
        run(again, at)
        if states(again) == [AlertState.FIRING]:
            first = at
            break
    assert first == pytest.approx(fires_at, abs=16)


def test_a_restart_with_its_store_away_looks_again(place):
    engine = place.engine(HOT)
    place.write(0, 9.0, host="x")
    for at in (1, 16, 31):
        run(engine, at)
    again = place.engine(HOT)
    instant = place.querier.instant

    def away(query, time_ms, principal):
        if "ALERTS_FOR_STATE" in query:
            raise TransientError("away")
        return instant(query, time_ms, principal)

    place.querier.instant = away
    run(again, 46)
    assert again.failing() == ["g/Hot"]
    place.querier.instant = instant
    run(again, 61)
    assert states(again) == [AlertState.FIRING]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -5.0, 1e300, (NOW + 900_000) / 1000])
def test_a_state_that_cannot_be_is_not_taken(place, value):
    place.write(0, 9.0, host="x")
    place.write(0, value, "ALERTS_FOR_STATE", alertname="Hot", host="x", severity="critical")
    engine = place.engine(HOT)
    run(engine, 1)
    run(engine, 31)
    assert engine.failing() == []
    assert states(engine) == [AlertState.FIRING]


def test_an_alert_that_ended_before_the_restart_begins_anew(place):
    engine = place.engine(HOT)
    place.write(0, 9.0, host="x")
    for at in (1, 16, 31):
        run(engine, at)
    place.write(40, 1.0, host="x")
    run(engine, 46)
    place.write(80, 9.0, host="x")
    again = place.engine(HOT)
    run(again, 91)
    assert states(again) == [AlertState.PENDING]


def test_the_loop_evaluates_at_whole_intervals_and_counts_what_it_missed(place):
    engine = place.engine(group("- record: a\n  expr: vector(1)").replace("15s", "10s"))
    place.now_ms = NOW + 3_000
    seen = threading.Event()
    append = place.append

    def counted(collected, key=""):
        done = append(collected, key)
        seen.set()
        return done

    place.append = counted
    engine.start()
    try:
        time.sleep(0.1)
        assert not seen.is_set()  # the instant before the start is not evaluated
        place.now_ms = NOW + 10_200
        assert seen.wait(10)
        seen.clear()
        place.now_ms = NOW + 45_000  # the machine slept
        assert seen.wait(10)
    finally:
        engine.stop()
    engine.stop()
    assert stored(place, "a")[(("__name__", "a"),)][0] == [10, 40]
    assert engine.status()[0].missed == 2


def test_without_groups_nothing_runs(place):
    engine = RuleEngine((), place.querier, place, place)
    before = threading.active_count()
    engine.start()
    assert threading.active_count() == before
    engine.stop()
    assert engine.status() == ()
