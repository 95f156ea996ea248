"""Rule files read again while the engine runs."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from aiops.core.errors import ConfigError
from aiops.core.series import is_stale, labels_of
from aiops.rules.alerting import AlertState
from aiops.rules.engine import RuleEngine
from aiops.rules.files import load_groups
from tests.unit.rules.conftest import NOW, Place, run
from tests.unit.rules.test_engine import group, stored

HOT = "- alert: Hot\n  expr: m > 5\n  for: 30s\n  labels: {severity: page}"


def engine_of(place: Place, path: Path) -> RuleEngine:
    files = [str(path)]
    clock = lambda: place.now_ms  # noqa: E731
    return RuleEngine(load_groups(files), place.querier, place, place, clock, load=lambda: load_groups(files))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rules.yml"


def test_an_alert_stays_pending_over_a_reload(place: Place, path: Path) -> None:
    path.write_text(group(HOT))
    engine = engine_of(place, path)
    place.write(0, 7.0)
    run(engine, 1)
    path.write_text(group("- record: first\n  expr: m\n" + HOT + "\n  annotations: {summary: new}"))
    assert engine.reload() == 2
    run(engine, 31)
    (alert,) = engine.status()[0].rules[1].alerts
    assert (alert.state, alert.active_ms) == (AlertState.FIRING, NOW + 1000)
    assert dict(alert.annotations) == {"summary": "new"}
    assert [a.name for a in place.told] == ["Hot"]


def test_a_longer_for_counts_from_the_same_start(place: Place, path: Path) -> None:
    path.write_text(group(HOT))
    engine = engine_of(place, path)
    place.write(0, 7.0)
    run(engine, 1)
    path.write_text(group(HOT.replace("30s", "60s")))
    engine.reload()
    run(engine, 46)
    assert [a.state for a in engine.status()[0].rules[0].alerts] == [AlertState.PENDING]
    run(engine, 61)
    assert [a.state for a in engine.status()[0].rules[0].alerts] == [AlertState.FIRING]


def test_series_of_rules_and_groups_that_are_gone_end(place: Place, path: Path) -> None:
    other = group("- record: c\n  expr: m").removeprefix("groups:\n").replace("name: g", "name: h")
    path.write_text(group("- record: a\n  expr: m\n- record: b\n  expr: m") + other)
    engine = engine_of(place, path)
    place.write(0, 7.0)
    run(engine, 1)
    place.now_ms = NOW + 10_000
    path.write_text(group("- record: a\n  expr: m"))
    engine.reload()
    run(engine, 16)
    for name, times in (("b", [1, 16]), ("c", [1, 10])):
        ((found, values),) = stored(place, name).values()
        assert (found, is_stale(values).tolist()) == (times, [False, True])
    ((found, values),) = stored(place, "a").values()
    assert (found, is_stale(values).any()) == ([1, 16], False)
    run(engine, 31)
    assert stored(place, "b")[labels_of({"__name__": "b"})][0] == [1, 16]


def test_a_bad_file_changes_nothing(place: Place, path: Path) -> None:
    path.write_text(group(HOT))
    engine = engine_of(place, path)
    place.write(0, 7.0)
    run(engine, 1)
    path.write_text(group(HOT) + "rubbish: true\n")
    with pytest.raises(ConfigError, match="unknown key 'rubbish'"):
        engine.reload()
    run(engine, 31)
    assert [a.state for a in engine.status()[0].rules[0].alerts] == [AlertState.FIRING]
    with pytest.raises(ConfigError, match="no files"):
        place.engine(group(HOT)).reload()


def test_the_first_rules_start_an_engine_that_had_none(place: Place, path: Path) -> None:
    path.write_text("groups: []\n")
    engine = engine_of(place, path)
    engine.start()
    try:
        place.write(0, 7.0)
        path.write_text(group("- record: r\n  expr: m"))
        engine.reload()
        place.now_ms = NOW + 15_000
        deadline = time.monotonic() + 20
        while not stored(place, "r"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        engine.stop()
