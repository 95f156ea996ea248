from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops.core.anomaly import Judgement, Mark
from aiops.core.series import labels_of
from aiops.incidents.feedback import HALF_LIFE_MS, offsets, quality, share

LABELS = labels_of({"service_name": "cart"})
KEY = ("latency p95", LABELS)


def mark(judgement: str, anomaly: str = "a", who: str = "ann", time_ms: int = 0, model: str = "anomaly-60s/1") -> Mark:
    return Mark(anomaly, Judgement(judgement), who, time_ms, "latency p95", LABELS, "cart", 0, 60_000, model)


def test_false_marks_raise_the_threshold_true_ones_lower_it_and_both_fade() -> None:
    assert offsets([mark("false")], 0)[KEY] == pytest.approx(math.log(4))
    assert offsets([mark("true")], 0)[KEY] == pytest.approx(-math.log(2))
    assert offsets([mark("false")], HALF_LIFE_MS)[KEY] == pytest.approx(math.log(4) / 2)
    assert offsets([mark("false", str(i)) for i in range(50)], 0)[KEY] == 6.0
    assert offsets([], 0) == {}


def test_the_last_opinion_on_an_anomaly_counts() -> None:
    assert offsets([mark("true", who="ann"), mark("false", who="bob")], 0)[KEY] > 0
    found = quality([mark("true", who="ann"), mark("false", who="bob")])[0]
    assert (found.precision.hits, found.precision.count) == (0, 1)


def test_precision_and_recall_by_model() -> None:
    marks = [mark("true", str(i)) for i in range(8)] + [mark("false", f"f{i}", model="anomaly-60s/2") for i in range(2)]
    marks += [mark("missed", ""), mark("missed", "")]
    whole, first, second = quality(marks)
    assert (whole.model, first.model, second.model) == ("", "anomaly-60s/1", "anomaly-60s/2")
    assert (whole.precision.hits, whole.precision.count) == (8, 10)
    assert (whole.recall.hits, whole.recall.count) == (8, 10)
    assert (first.precision.value, second.precision.value) == (1.0, 0.0)
    assert math.isnan(second.recall.value)
    assert math.isnan(quality([])[0].precision.value)


@given(st.integers(1, 500), st.data())
def test_the_interval_holds_the_share(count: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, count))
    found = share(hits, count)
    assert 0 <= found.lower <= found.value <= found.upper <= 1
    assert found.upper - found.lower < 1
