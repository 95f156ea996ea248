"""A service's metrics together."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from aiops.core.anomaly import Batch
from aiops.core.plugins import build
from aiops.core.ports import Detector, PluginContext

STEP = 60_000


def joint() -> Detector[Any]:
    return cast(Detector[Any], build("detectors", "group_covariance", {"device": "cpu"}, PluginContext("test")))


def batch_of(values: np.ndarray, groups: tuple[str, ...] = ()) -> Batch:
    values = np.asarray(values, np.float32)
    times = STEP * np.arange(values.shape[1], dtype=np.int64)
    ids = tuple(f"s{i}" for i in range(len(values)))
    return Batch(values, np.isfinite(values), times, STEP, ids, groups)


def together(length: int = 800) -> np.ndarray:
    """Requests, and errors and cpu that follow them; a stranger."""
    rng = np.random.default_rng(0)
    load = rng.normal(size=length)
    return np.stack(
        [
            100 + 10 * load + rng.normal(size=length),
            50 + 5 * load + 0.5 * rng.normal(size=length),
            20 + 2 * load + 0.2 * rng.normal(size=length),
            rng.normal(size=length),
        ]
    )


GROUPS = ("shop", "shop", "shop", "other")


def test_a_metric_that_leaves_the_others_is_found_and_named() -> None:
    values = together()
    values[1, 700] = 50 - (values[1, 700] - 50) - np.sign(values[1, 700] - 50) * 5  # usual alone, not in this company
    detector = joint()
    batch = batch_of(values, GROUPS)
    state = detector.fit(batch_of(values[:, :600], GROUPS))
    scores = detector.score(state, batch)
    quiet = np.quantile(scores.score[:3, :600], 0.999, axis=1)
    own = scores.score[:3, 700]
    assert own[1] > quiet[1]
    assert own[1] > 1.3 * max(own[0], own[2])
    alone = joint()
    single = alone.score(alone.fit(batch_of(values[:, :600])), batch_of(values))
    assert single.score[1, 700] < scores.score[1, 700]


def test_a_group_is_scored_the_same_beside_other_groups_and_in_another_order() -> None:
    values = together()
    detector = joint()
    whole = detector.score(detector.fit(batch_of(values, GROUPS)), batch_of(values, GROUPS)).score
    part = batch_of(values[:3], GROUPS[:3])
    np.testing.assert_allclose(detector.score(detector.fit(part), part).score, whole[:3], rtol=1e-4, atol=1e-4)
    order = [3, 1, 0, 2]
    ids = tuple(f"s{i}" for i in order)
    base = batch_of(values, GROUPS)
    mixed = Batch(base.values[order], base.mask[order], base.timestamps, STEP, ids, tuple(GROUPS[i] for i in order))
    np.testing.assert_allclose(detector.score(detector.fit(mixed), mixed).score, whole[order], rtol=1e-4, atol=1e-4)


def test_series_fitted_later_do_not_fall_into_places_of_those_before() -> None:
    values = together()
    detector = joint()
    first, late = batch_of(values[:3], GROUPS[:3]), batch_of(values, GROUPS)
    before = detector.fit(first)
    lone = Batch(late.values[3:], late.mask[3:], late.timestamps, STEP, ("s3",), ("shop",))
    state = before.concat(detector.fit(lone))
    joined = detector.score(state, late).score
    np.testing.assert_allclose(joined[:3], detector.score(before, first).score, rtol=1e-5, atol=1e-5)
