"""Flat lines and gaps, which the contract's series do not have."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from aiops.core.anomaly import Batch
from aiops.core.plugins import build
from aiops.core.ports import Detector, PluginContext

STEP = 60_000


def stillness() -> Detector[Any]:
    return cast(Detector[Any], build("detectors", "stillness", {"device": "cpu"}, PluginContext("test")))


def batch_of(values: np.ndarray, start: int = 0) -> Batch:
    values = np.atleast_2d(np.asarray(values, np.float32))
    times = start + STEP * np.arange(values.shape[1], dtype=np.int64)
    return Batch(values, np.isfinite(values), times, STEP, tuple(f"s{i}" for i in range(len(values))))


def test_a_dead_line_is_found_on_a_series_that_always_moved_and_on_no_other() -> None:
    rng = np.random.default_rng(0)
    moving, rare = rng.normal(size=600), np.repeat(rng.integers(0, 9, 20), 30).astype(float)
    history = np.stack([moving, rare, np.full(600, 5.0)])
    detector = stillness()
    state = detector.fit(batch_of(history))
    dead = np.repeat(history[:, -1:], 40, axis=1)
    dead[1] = 9.5  # another of its levels
    scores = []
    for t in range(40):
        state, one = detector.update(state, batch_of(dead[:, t : t + 1], start=(600 + t) * STEP))
        scores.append(one.score[:, 0])
    found = np.array(scores)
    assert found[1, 0] < 0.2  # two equal values are nothing yet
    assert np.all(np.diff(found[:, 0]) >= 0)
    assert found[-1, 0] > 1.5
    assert found[-1, 1] < 0.2  # it often stands for thirty steps
    assert np.all(found[:, 2] == 0)  # it never moved


def test_a_stalled_counter_shows_as_a_rate_that_stays_at_zero() -> None:
    rng = np.random.default_rng(1)
    rate = np.concatenate([rng.exponential(3, 500), np.zeros(30)])
    detector = stillness()
    scores = detector.score(detector.fit(batch_of(rate[:500])), batch_of(rate))
    assert scores.score[0, -1] > 1.2
    assert scores.terms["flat"][0, -1] == scores.score[0, -1]
    assert float(scores.score[0, :500].max()) == 0


def test_the_first_value_after_an_unusual_gap_is_scored_and_a_usual_gap_is_not() -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(size=(2, 700))
    values[0, 600:650] = np.nan
    values[1, ::3] = np.nan
    detector = stillness()
    scores = detector.score(detector.fit(batch_of(values[:, :500])), batch_of(values))
    assert np.isnan(scores.score[0, 600:650]).all()
    assert scores.terms["gap"][0, 650] > 1.5
    assert np.nanmax(scores.terms["gap"][1]) == 0


def test_streaming_and_whole_ranges_agree_over_gaps_and_flat_stretches() -> None:
    rng = np.random.default_rng(3)
    values = rng.integers(0, 4, (3, 400)).astype(float)
    values[rng.random(values.shape) < 0.2] = np.nan
    values[0, 320:360] = 2.0
    values[1, 300:340] = np.nan
    detector = stillness()
    state = detector.fit(batch_of(values[:, :300]))
    whole = detector.score(state, batch_of(values)).score[:, 300:]
    ticks = []
    for t in range(300, 400):
        state, one = detector.update(state, batch_of(values[:, t : t + 1], start=t * STEP))
        ticks.append(one.score)
    np.testing.assert_allclose(np.concatenate(ticks, 1), whole, rtol=1e-5, atol=1e-6)
