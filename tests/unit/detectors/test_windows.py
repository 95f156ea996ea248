from __future__ import annotations

from typing import Any, cast

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from aiops.core.plugins import build
from aiops.core.ports import Detector, PluginContext
from detectors.support.evaluation import score_ranges
from detectors.support.windows import group_ragged, step_of


def fusion() -> Detector[Any]:
    return cast(Detector[Any], build("detectors", "fusion", {"device": "cpu"}, PluginContext("test")))


def test_step_is_the_usual_spacing() -> None:
    assert step_of(np.array([0, 60, 120, 190, 250, 10_000], np.int64)) == 60
    assert step_of(np.array([5], np.int64)) == 1000
    assert step_of(np.array([5, 5, 5], np.int64)) == 1000


@given(
    st.lists(st.lists(st.tuples(st.integers(1, 100_000), st.floats(-1e12, 1e12)), min_size=0, max_size=60), max_size=5)
)
def test_every_original_point_gets_its_cell_back(series: list[list[tuple[int, float]]]) -> None:
    times = [np.cumsum([gap for gap, _ in rows]).astype(np.int64) for rows in series]
    values = [np.array([v for _, v in rows], float) for rows in series]
    groups = group_ragged(values, times)
    assert sorted(i for g in groups for i in g.members) == list(range(len(series)))
    for group in groups:
        assert group.batch.values.shape == group.batch.mask.shape
        assert group.batch.values.size <= 5 * sum(max(len(values[i]), 60) for i in group.members) * len(group.members)
        back = group.back(group.batch.values)
        for member, row in zip(group.members, back, strict=True):
            assert len(row) == len(values[member])
            if len(row) and len(set(group.cells[group.members.index(member)])) == len(row):
                np.testing.assert_allclose(row, values[member].astype(np.float32), rtol=1e-6)


def test_gaps_are_masked_and_points_of_one_cell_are_averaged() -> None:
    times = np.array([0, 60_000, 61_000, 240_000, 300_000, 360_000], np.int64)
    (group,) = group_ragged([np.array([1.0, 2, 4, 5, np.nan, 7])], [times])
    np.testing.assert_array_equal(group.batch.mask, [[True, True, False, False, True, False, True]])
    np.testing.assert_array_equal(group.batch.values[0, [0, 1, 4, 6]], [1, 3, 5, 7])


def test_ranges_of_different_steps_and_lengths_are_scored_in_place() -> None:
    rng = np.random.default_rng(0)
    values = [rng.normal(size=n) for n in (500, 3, 0, 800, 1)]
    values[0][400] += 25
    steps = (60_000, 60_000, 60_000, 300_000, 60_000)
    times = [np.arange(len(v), dtype=np.int64) * s + 10**12 for v, s in zip(values, steps, strict=True)]
    scores = score_ranges(fusion(), values, times)
    assert [len(s) for s in scores] == [500, 3, 0, 800, 1]
    assert abs(int(np.nanargmax(scores[0])) - 400) <= 16
    alone = score_ranges(fusion(), values[:1], times[:1])[0]
    np.testing.assert_allclose(scores[0], alone, rtol=1e-3, atol=1e-3)


def test_a_time_zone_shift_of_the_clock_changes_nothing_without_a_daily_rhythm() -> None:
    rng = np.random.default_rng(1)
    values, times = [rng.normal(size=400)], np.arange(400, dtype=np.int64) * 60_000
    here = score_ranges(fusion(), values, [times])[0]
    there = score_ranges(fusion(), values, [times + 5 * 3_600_000])[0]
    np.testing.assert_allclose(here, there, rtol=1e-4, atol=1e-4)
