from __future__ import annotations

import numpy as np
import pytest

from aiops.core.anomaly import Anomaly, Batch, State
from aiops.core.series import labels_of
from aiops.incidents.episodes import Series, alert_of
from aiops.incidents.habits import habits
from aiops.incidents.presence import Presence, limits_of, targets_up
from aiops.incidents.watch import WatchEntry
from aiops.incidents.wording import headline

STEP = 60_000
RATE = WatchEntry("request_rate", "sum(rate(x[5m]))", STEP, "traffic", "down", "req/s")


def series(count: int) -> list[Series]:
    return [Series(str(i), RATE, labels_of({"service_name": f"s{i}", "job": "shop"})) for i in range(count)]


def presence(history: np.ndarray) -> Presence:
    mask = np.isfinite(history)
    state = State(tuple(map(str, range(len(history)))), STEP, habits(np.nan_to_num(history).astype(np.float32), mask))
    limits = limits_of(state, STEP)
    assert limits is not None
    return Presence(series(len(history)), limits, STEP, None, "anomaly-60s/presence")


def feed(one: Presence, values: list[list[float]], target: bool | None = True) -> list[Anomaly]:
    out: list[Anomaly] = []
    for step, column in enumerate(values):
        row = np.array(column, np.float32)[:, None]
        tick = Batch(row, np.isfinite(row), np.array([step * STEP]), STEP, tuple(map(str, range(len(column)))))
        out += one.step(tick, lambda _: target).values()
    return out


def lively(count: int = 1, steps: int = 3000) -> np.ndarray:
    return np.random.default_rng(0).normal(50, 5, (count, steps))


@pytest.mark.parametrize(("target", "said"), [(True, "is up"), (False, "is down"), (None, "is not known")])
def test_a_series_that_vanishes_is_told_of_with_the_state_of_its_target(target: bool | None, said: str) -> None:
    found = feed(presence(lively()), [[50.0 + i] for i in range(5)] + [[np.nan]] * 40, target)
    assert [a.metric for a in found] == ["request rate missing"]
    assert said in found[0].note
    assert found[0].started_ms == 5 * STEP
    assert headline(alert_of(found[0])) == f"s0: request rate missing: {found[0].note}"


def test_it_ends_when_the_series_is_back() -> None:
    found = feed(presence(lively()), [[np.nan]] * 30 + [[1.0], [2.0]])
    assert [a.ended_ms for a in found] == [None, 30 * STEP]
    assert found[0].id == found[1].id


def test_all_series_of_a_query_at_once_are_one_piece_of_news() -> None:
    (found,) = feed(presence(lively(7)), [[np.nan] * 7] * 40)
    assert "with 6 other series" in found.note


def test_a_series_that_is_often_away_is_given_as_long_as_it_takes() -> None:
    history = lively()
    history[0, 1000:1030] = np.nan
    one = presence(history)
    assert feed(one, [[np.nan]] * 85) == []
    assert len(feed(one, [[np.nan]] * 10)) == 1


def test_a_lively_series_that_repeats_one_value_is_stuck_and_a_rate_of_zero_has_stalled() -> None:
    (stuck,) = feed(presence(lively()), [[47.25]] * 200)
    assert stuck.metric == "request rate stuck"
    (stalled,) = feed(presence(lively()), [[0.0]] * 200)
    assert stalled.metric == "request rate stalled"


def test_a_series_that_stands_still_by_nature_is_not_stuck() -> None:
    history = np.zeros((1, 3000))
    history[0, ::700] = 1.0
    assert feed(presence(history), [[0.0]] * 1500) == []


def test_a_short_history_says_nothing_of_flat_lines() -> None:
    assert feed(presence(lively(steps=400)), [[3.0]] * 300) == []


def test_habits_count_gaps_between_observations_only() -> None:
    values = np.array([[np.nan, np.nan, 1, 1, 1, np.nan, 2, np.nan, np.nan]], np.float32)
    found = habits(np.nan_to_num(values), np.isfinite(values))
    assert [int(found[f"habit.{k}"][0]) for k in ("gap", "flat", "steps")] == [1, 2, 4]


def test_targets_are_matched_by_job_and_instance() -> None:
    up = {labels_of({"job": "shop", "instance": "a"}): 0.0, labels_of({"job": "node", "instance": "a"}): 1.0}
    target = targets_up(up)
    assert target(labels_of({"job": "shop", "service_name": "cart"})) is False
    assert target(labels_of({"instance": "a"})) is True
    assert target(labels_of({"service_name": "cart"})) is None
    assert target(labels_of({"job": "other"})) is None
