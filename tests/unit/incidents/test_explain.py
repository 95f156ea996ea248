from __future__ import annotations

import dataclasses
import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aiops.core.anomaly import Anomaly, Batch, Judgement, Mark
from aiops.incidents.explain import Explanation, reason, similar_windows, trace_of
from aiops.incidents.similar import distances, nearest
from aiops.reports import anomaly as report

STEP = 60_000
SERIES = (("service_name", "cart"),)


def episode(start: int, steps: int = 20, **more: object) -> Anomaly:
    return Anomaly(
        id=f"a-{start}", series=SERIES, service="cart", metric="latency p95", query="latency", kind="latency",
        direction="up", started_ms=start * STEP, updated_ms=(start + steps) * STEP, ended_ms=(start + steps) * STEP,
        value=0.5, expected=0.1, lower=0.08, upper=0.12, score=5.0, p_value=1e-7, model="anomaly-60s/1", unit="s",
        terms=(("seasonal_residual.energy_8", 4.0), ("ridge_ar.surprise", 1.0)), threshold=2.0, **more,
    )  # type: ignore[arg-type]  # fmt: skip


def history(*bumps: int, steps: int = 4000) -> Batch:
    value = 0.1 + 0.002 * np.random.default_rng(0).standard_normal(steps)
    for at in bumps:
        value[at : at + 20] += np.linspace(0.1, 0.4, 20)
    row = value.astype(np.float32)[None]
    return Batch(row, np.ones(row.shape, bool), STEP * np.arange(steps, dtype=np.int64), STEP, ("s",))


@given(arrays(np.float64, 60, elements=st.floats(-1e3, 1e3)), st.integers(3, 20))
def test_distances_are_those_of_the_definition(values: np.ndarray, width: int) -> None:
    window = np.sin(np.arange(width))
    plain = [np.sqrt(np.mean((values[i : i + width] - window) ** 2)) / window.std() for i in range(61 - width)]
    np.testing.assert_allclose(distances(values, window), plain, rtol=1e-4, atol=1e-3)


def test_windows_with_holes_are_left_out_and_found_ones_do_not_overlap() -> None:
    values = np.tile(np.sin(np.arange(50) / 4), 6)
    values[75] = np.nan
    found = nearest(values, values[:50].copy(), 5, 0.1)
    starts = sorted(place for place, _ in found)
    assert 0 in starts
    assert all(b - a >= 50 for a, b in itertools.pairwise(starts))
    assert not any(26 <= place <= 75 for place in starts)


def test_an_earlier_bump_is_recognised_and_named() -> None:
    marks = [Mark("a-900", Judgement.FALSE, "ann", 0, "latency p95", SERIES, "cart", 0, 1)]
    earlier = [episode(900)]
    found = similar_windows(episode(3000), history(900, 3000), earlier, lambda key: marks if key == "a-900" else ())
    assert len(found) == 1
    assert abs(found[0].start_ms / STEP - 880) < 25
    assert found[0].known == "an anomaly, marked false by ann"
    assert found[0].distance < 0.3
    (quiet,) = similar_windows(episode(3000), history(900, 3000), [], lambda _: ())
    assert quiet.known == "nothing was raised then"


def test_an_episode_without_its_like_has_none() -> None:
    assert similar_windows(episode(3000), history(3000), [], lambda _: ()) == ()


def test_the_term_that_fired_is_put_into_words() -> None:
    assert reason(episode(1)) == "the size of its deviations over the last 8 steps"
    assert reason(dataclasses.replace(episode(1), terms=(("x.shift", 1.0),))) == "a lasting change of level"
    assert reason(dataclasses.replace(episode(1), terms=(("x.odd_one", 1.0),))) == "odd one"
    assert reason(dataclasses.replace(episode(1), terms=())) == ""


def test_picture_and_text_of_hostile_names_and_missing_traces() -> None:
    bad = dataclasses.replace(episode(100), service="<b>\x1b[31m", metric="a\nb", value=float("nan"))
    for trace in (None, trace_of(history(100), None, 0)):
        found = Explanation(bad, trace, history_ms=10**9)
        assert report.picture(found).startswith(b"\x89PNG")
        text = report.text(found)
        assert "\x1b" not in text
        assert "nothing like it" in text
