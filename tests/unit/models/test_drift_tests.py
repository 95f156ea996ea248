"""The tests of drift: silent on what only wanders, and finding what has moved."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from aiops.models.drift_shape import joint_p
from aiops.models.drift_tests import discoveries, psi, series_drift, times_correlated

STEP, DAY = 300_000, 288
MONDAY = 1_700_438_400_000


def streams(series: int, steps: int, memory: float, seed: int = 0) -> NDArray[np.float32]:
    """Autocorrelated noise of standard deviation 1."""
    random = np.random.default_rng(seed)
    noise = random.standard_normal((series, steps + 300)) * np.sqrt(1 - memory**2)
    for t in range(1, noise.shape[1]):
        noise[:, t] += memory * noise[:, t - 1]
    return noise[:, 300:].astype(np.float32)


def times(days: int) -> NDArray[np.int64]:
    return MONDAY + STEP * np.arange(days * DAY, dtype=np.int64)


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.8])
def test_stable_streams_are_left_alone_and_a_shift_of_one_deviation_is_found(memory: float) -> None:
    x, ts = streams(150, 15 * DAY, memory), times(15)
    x += 2 * np.sin(2 * np.pi * ts / 86_400_000).astype(np.float32)
    before, after = x[:, : 14 * DAY], x[:, 14 * DAY :]
    quiet = series_drift(before, after, ts[: 14 * DAY], ts[14 * DAY :], STEP)
    assert quiet.tested.all()
    assert not quiet.drifted(0.01, 0.2).any()
    moved = series_drift(before, after + 1, ts[: 14 * DAY], ts[14 * DAY :], STEP)
    assert moved.drifted(0.01, 0.2).mean() >= (1.0 if memory < 0.8 else 0.9)


def test_what_rises_only_at_the_end_is_dated() -> None:
    x, ts = streams(20, 15 * DAY, 0.3), times(15)
    x[:, -DAY // 2 :] += 3
    found = series_drift(x[:, : 14 * DAY], x[:, 14 * DAY :], ts[: 14 * DAY], ts[14 * DAY :], STEP)
    assert found.drifted(0.01, 0.2).all()
    np.testing.assert_allclose(found.changed, 0.5, atol=0.1)


def test_upwards_passes_what_sinks() -> None:
    x, ts = streams(20, 15 * DAY, 0.3), times(15)
    for shift, drifts in ((2, True), (-2, False)):
        after = x[:, 14 * DAY :] + np.float32(shift)
        found = series_drift(x[:, : 14 * DAY], after, ts[: 14 * DAY], ts[14 * DAY :], STEP, upwards=True)
        assert found.drifted(0.01, 0.2).all() == drifts
        assert found.drifted(0.01, 0.2).any() == drifts


def test_gaps_flat_lines_and_empty_rows_are_survived() -> None:
    x, ts = streams(4, 15 * DAY, 0.3), times(15)
    x[0] = np.nan
    x[1] = 5.0
    x[2, ::3] = np.nan
    found = series_drift(x[:, : 14 * DAY], x[:, 14 * DAY :], ts[: 14 * DAY], ts[14 * DAY :], STEP)
    assert not found.tested[0]
    assert not found.drifted(0.01, 0.2).any()
    x[1, 14 * DAY :] = 6.0
    found = series_drift(x[:, : 14 * DAY], x[:, 14 * DAY :], ts[: 14 * DAY], ts[14 * DAY :], STEP)
    assert found.drifted(0.01, 0.2).tolist() == [False, True, False, False]
    assert len(series_drift(x[:0], x[:0], ts, ts, STEP).p) == 0


def test_correlated_times_are_those_of_the_process() -> None:
    for memory in (0.0, 0.6, 0.9):
        found = times_correlated(streams(60, 4000, memory).astype(float))
        assert np.median(found) == pytest.approx((1 + memory) / (1 - memory), rel=0.25)


def test_stability_index_of_normal_shifts() -> None:
    random = np.random.default_rng(1)
    early, late = random.standard_normal((5, 4000)), random.standard_normal((5, 4000))
    assert psi(early, late).max() < 0.02
    assert 0.5 < psi(early, late + 1).min() < 1.5


def test_discoveries_are_those_of_benjamini_and_hochberg() -> None:
    p = np.array(
        [0.001, 0.008, 0.039, 0.041, 0.042, 0.06, 0.074, 0.205, 0.212, 0.216, 0.222, 0.251, 0.269, 0.275, 0.34]
    )
    assert discoveries(p, np.ones(15, bool), 0.25).sum() == 7
    assert discoveries(p, np.arange(15) > 0, 0.05).sum() == 0


def test_joint_test_alone_sees_a_changed_correlation() -> None:
    random = np.random.default_rng(2)
    shared = random.standard_normal(700)
    early = np.stack([shared[:500] + 0.5 * random.standard_normal(500) for _ in range(4)])
    late = np.stack([shared[500:] + 0.5 * random.standard_normal(200) for _ in range(4)])
    apart = random.standard_normal((4, 200)) * 1.12
    assert joint_p(early, late) > 0.01
    assert joint_p(early, apart) <= 0.002
    assert joint_p(early[:1], late[:1]) == 1.0
