"""Ranges scored as they stream, and what no score may depend on."""

from __future__ import annotations

import itertools
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiops.core.anomaly import Batch
from aiops.core.plugins import build, discover
from aiops.core.ports import Detector, PluginContext
from detectors.support.evaluation import score_ranges
from detectors.support.smoothing import fading, running
from detectors.support.streaming import Schedule, stream_ranges

MINUTE = 60_000
DAY = 86_400_000
SLOW = settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.differing_executors])


EVERY = sorted(n for n in discover("detectors") if not n.startswith("baseline_") and n != "onnx_forecaster")


def made(name: str, device: str = "cpu") -> Detector[Any]:
    return cast(Detector[Any], build("detectors", name, {"device": device}, PluginContext("test")))


def fusion(device: str = "cpu") -> Detector[Any]:
    return made("fusion", device)


def ragged(seed: int, series: int = 3, size: int = 420) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Series with rhythms, levels, gaps and steps that jitter."""
    rng = np.random.default_rng(seed)
    values, times = [], []
    for i in range(series):
        n = size - 40 * i
        gaps = np.where(rng.random(n) < 0.03, rng.integers(2, 30, n), 1) * MINUTE + rng.integers(-900, 900, n)
        rows = rng.uniform(-5, 50) + 3 * np.sin(np.arange(n) / rng.uniform(3, 12)) + rng.normal(size=n)
        rows[rng.random(n) < 0.02] += 15
        values.append(rows)
        times.append(1_700_000_000_000 + np.cumsum(gaps).astype(np.int64))
    return values, times


@pytest.mark.parametrize("name", EVERY)
@SLOW
@given(seed=st.integers(0, 10_000), share=st.floats(0.4, 0.95))
def test_scores_of_a_prefix_never_change(name: str, seed: int, share: float) -> None:
    values, times = ragged(seed)
    detector = made(name)
    whole = stream_ranges(detector, values, times)
    cuts = [int(len(v) * share) for v in values]
    part = stream_ranges(
        detector, [v[:n] for v, n in zip(values, cuts, strict=True)], [t[:n] for t, n in zip(times, cuts, strict=True)]
    )
    for one, other, n in zip(whole, part, cuts, strict=True):
        np.testing.assert_allclose(one[:n], other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("score", [score_ranges, stream_ranges])
@SLOW
@given(seed=st.integers(0, 10_000), order=st.permutations(range(3)), size=st.integers(1, 3))
def test_scores_do_not_depend_on_company_or_order(
    name: str, score: Any, seed: int, order: list[int], size: int
) -> None:
    values, times = ragged(seed)
    chosen, detector = order[:size], made(name)
    whole = score(detector, values, times)
    part = score(detector, [values[i] for i in chosen], [times[i] for i in chosen])
    for i, row in zip(chosen, part, strict=True):
        np.testing.assert_allclose(row, whole[i], rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("name", EVERY)
@SLOW
@given(seed=st.integers(0, 10_000), hours=st.integers(-12, 14))
def test_scores_do_not_depend_on_the_number_type_the_day_or_the_time_zone(name: str, seed: int, hours: int) -> None:
    values, times = ragged(seed)
    detector = made(name)
    here = score_ranges(detector, values, times)
    single = score_ranges(detector, [v.astype(np.float32) for v in values], times)
    later = score_ranges(detector, values, [t + 3 * DAY for t in times])
    zone = score_ranges(detector, values, [t + hours * 3_600_000 for t in times])
    for one, *others in zip(here, single, later, zone, strict=True):
        for other in others:
            np.testing.assert_allclose(other, one, rtol=2e-3, atol=2e-3)


def test_streaming_is_what_ticks_between_two_refits_give() -> None:
    rng = np.random.default_rng(0)
    values = (10 + rng.normal(size=(2, 400))).astype(np.float32)
    values[0, 350:360] += 8
    times = MINUTE * np.arange(400, dtype=np.int64)
    plan = Schedule(first=300, growth=9.0, sure=1)
    streamed = stream_ranges(fusion(), list(values.astype(float)), [times, times], plan, smooth=False)
    detector = fusion()

    def part(a: int, b: int) -> Batch:
        return Batch(values[:, a:b], np.ones((2, b - a), bool), times[a:b], MINUTE, ("a", "b"))

    state = detector.fit(part(0, 300))
    for t in range(300, 400):
        state, scores = detector.update(state, part(t, t + 1))
        np.testing.assert_allclose(scores.score[:, 0], [row[t] for row in streamed], rtol=2e-3, atol=2e-3)
    assert np.isnan(streamed[0][:300]).all()


def test_the_schedule_covers_every_step_once() -> None:
    blocks = list(Schedule().blocks(30_000))
    assert blocks[0][0] == Schedule().first
    assert blocks[-1][1] == 30_000
    assert all(a[1] == b[0] for a, b in itertools.pairwise(blocks))
    assert max(b - a for a, b in blocks) <= Schedule().block
    assert list(Schedule().blocks(10)) == []


def test_memory_fades_and_never_looks_ahead() -> None:
    square = np.zeros((1, 400), np.float32)
    square[0, 100] = 9.0
    memory = fading(square)
    assert float(memory[0, :100].max()) == 0
    assert memory[0, 100] == pytest.approx(9.0, rel=1e-5)
    assert memory[0, 250] == pytest.approx(9.0 / np.e, rel=1e-4)
    score = np.full((1, 5), np.nan, np.float32)
    score[0, 2] = 2.0
    assert np.isnan(running(score)[0, [0, 1, 3, 4]]).all()
    assert running(score)[0, 2] == pytest.approx(2.0)


def test_a_pause_of_years_fits_into_memory() -> None:
    rng = np.random.default_rng(1)
    times = np.concatenate([np.arange(300), 3_000_000 + np.arange(300)]).astype(np.int64) * MINUTE
    (scores,) = stream_ranges(fusion(), [rng.normal(size=600)], [times])
    assert np.isfinite(scores[64:]).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_ranges_are_scored_the_same_on_cuda() -> None:
    values, times = ragged(5)
    for cpu, cuda in zip(
        stream_ranges(fusion(), values, times), stream_ranges(fusion("cuda"), values, times), strict=True
    ):
        np.testing.assert_allclose(cuda, cpu, rtol=5e-3, atol=5e-3)
