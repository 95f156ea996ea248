from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops.core.anomaly import Batch, State
from aiops.core.plugins import build
from aiops.core.ports import Detector, PluginContext
from aiops.incidents.ledger import DAY_MS
from aiops.incidents.tails import RARITIES, Tail, calibrate, sustained, tail_of
from aiops.incidents.thresholds import Direction, Judge, Policy
from aiops.models.fitting import held_out_scores

STEP = 60_000


def state_of(arrays: dict[str, Any], size: int) -> State:
    return State(tuple(str(i) for i in range(size)), STEP, arrays)


def anywhere(size: int) -> Direction:
    return Direction(np.zeros(size, np.int8), np.zeros(size), np.zeros(size))


def judge(size: int = 1, direction: Direction | None = None, duration: int = 3, resolve: int = 4) -> Judge:
    tail = Tail(np.ones(size), np.full(size, 0.01), np.full(size, 0.2), 0.2 * np.tile(RARITIES, (size, 1)))
    return Judge(tail, direction or anywhere(size), Policy(1.0, duration, resolve), STEP, size)


def feed(judge: Judge, scores: list[float], value: float = 10.0, expected: float = 1.0) -> list[str]:
    out = []
    for score in scores:
        verdict = judge.step(np.array([score]), np.array([value]), np.array([expected]))
        out.append("o" if len(verdict.opened) else "+" if len(verdict.open) else "c" if len(verdict.closed) else ".")
    return out


def test_an_episode_needs_its_duration_and_closes_after_quiet_steps() -> None:
    assert feed(judge(), [9, 9, 0, 9, 9, 9, 9, 0, 0, 9, 0, 0, 0, 0, 0]) == list(".....o++++++" + "+c.")


def test_hysteresis_keeps_an_episode_open_below_the_threshold() -> None:
    one = judge()
    assert one.threshold[0] > 1.5
    assert feed(one, [9, 9, 9, 1.2, 1.2, 1.2, 1.2, 1.2, 1.2]) == list("..o++++++")


def test_missing_steps_neither_open_nor_close_but_a_vanished_series_is_let_go() -> None:
    nan = float("nan")
    assert feed(judge(), [9, nan, 9, nan, nan, 9]) == list(".....o")
    assert feed(judge(), [9, 9, 9, nan, nan, nan, nan, nan, 0, 9]) == list("..o+++++" + "++")
    assert feed(judge(), [9, 9, 9] + [nan] * 16)[-1] == "c"


@pytest.mark.parametrize(
    ("sign", "value", "fires"), [(1, 0.2, False), (1, 5.0, True), (-1, 0.2, True), (-1, 5.0, False)]
)
def test_only_the_bad_direction_counts(sign: int, value: float, fires: bool) -> None:
    direction = Direction(np.array([sign], np.int8), np.zeros(1), np.zeros(1))
    assert ("o" in feed(judge(direction=direction), [9, 9, 9, 9], value=value)) is fires


@pytest.mark.parametrize(("value", "fires"), [(1.001, False), (1.09, False), (1.2, True)])
def test_microscopic_deviations_do_not_fire(value: float, fires: bool) -> None:
    direction = Direction(np.zeros(1, np.int8), np.full(1, 0.01), np.full(1, 0.1))
    assert ("o" in feed(judge(direction=direction), [50.0] * 5, value=value)) is fires


@given(st.floats(0, 5), st.floats(1e-4, 0.1), st.floats(0.05, 3), st.floats(0.01, 0.5), st.floats(1e-9, 1e-4))
def test_the_threshold_is_where_the_rate_is_the_share(
    level: float, rate: float, scale: float, shape: float, aim: float
) -> None:
    table = scale * np.expm1(shape * RARITIES[None]) / shape
    tail = Tail(np.array([level]), np.array([rate]), np.array([scale]), table)
    assert tail.rate_above(tail.threshold(aim))[0] == pytest.approx(min(aim, rate), rel=1e-6, abs=1e-12)


def test_odd_training_scores_give_finite_thresholds() -> None:
    rows = np.zeros((5, 200))
    rows[1] = np.nan
    rows[2] = 5.0
    rows[3, 50] = 100.0
    rows[4] = np.random.default_rng(0).exponential(size=200)
    tail = tail_of(state_of(calibrate(rows, 3, 8), 5))
    assert np.all(np.isfinite(tail.threshold(1e-9)))
    assert tail_of(state_of(calibrate(np.zeros((0, 10)), 3, 8), 0)).threshold(1e-9).shape == (0,)
    short = tail_of(state_of(calibrate(np.ones((2, 2)), 3, 8), 2))
    assert np.all(np.isfinite(short.threshold(1e-9)))


def test_sustained_is_the_running_minimum() -> None:
    np.testing.assert_array_equal(sustained(np.array([[5.0, 3, 4, 1, 2]]), 3), [[np.nan, np.nan, 3, 1, 1]])


def quiet_series(kind: str, series: int, length: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(series, length))
    if kind != "white":
        for t in range(1, length):
            noise[:, t] += 0.8 * noise[:, t - 1]
    if kind == "seasonal":
        phase = rng.uniform(0, 2 * np.pi, (series, 1))
        noise += 6 * np.sin(2 * np.pi * np.arange(length)[None] * STEP / DAY_MS + phase)
    return (50 + noise).astype(np.float32)


def realised(kind: str, series: int, train: int, days: int, per_day: float) -> float:
    """False episodes a day on quiet series: fit on a prefix, judged one step after the other."""
    detector = cast(Detector[Any], build("detectors", "fusion", {"device": "cpu"}, PluginContext("test")))
    length = train + days * DAY_MS // STEP
    values = quiet_series(kind, series, length, 5)
    times = STEP * np.arange(length, dtype=np.int64)
    ids = tuple(str(i) for i in range(series))

    def part(a: int, b: int) -> Batch:
        return Batch(values[:, a:b], np.ones((series, b - a), bool), times[a:b], STEP, ids)

    seen = held_out_scores(detector, part(0, train))
    tail = tail_of(state_of(calibrate(seen, 3, 8), series))
    state = detector.fit(part(0, train))
    scores = detector.score(state, part(train - 50, length))
    one = Judge(tail, anywhere(series), Policy(per_day, 3, 8), STEP, series)
    opened = 0
    for t in range(train, length):
        k = t - train + 50
        verdict = one.step(
            scores.score[:, k].astype(float), values[:, t].astype(float), scores.expected[:, k].astype(float)
        )
        opened += len(verdict.opened)
    return opened / days


@pytest.mark.parametrize("kind", ["white", "autocorrelated", "seasonal"])
def test_false_alarms_stay_near_the_budget_on_quiet_series(kind: str) -> None:
    assert realised(kind, series=60, train=5 * 1440, days=3, per_day=4.0) <= 10.0


@pytest.mark.nightly
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", ["white", "autocorrelated", "seasonal"])
def test_false_alarms_over_a_fleet(kind: str) -> None:
    assert realised(kind, series=500, train=14 * 1440, days=7, per_day=1.0) <= 3.0
