"""Samples are written as Prometheus writes them, one by one or many at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aiops.promql.wire import value_text, value_texts


@settings(deadline=None)
@given(st.lists(st.one_of(st.floats(), st.floats(1e-7, 1e-3), st.floats(1e14, 1e23), st.integers(-9, 9).map(float))))
@example([0.0, -0.0, float("nan"), float("inf"), 1e-4, 9.999e-5, 1e16, 9999999999999998.0, 1e21])
@example([0.0, 1.0, 0.1, 123.5, 0.00012345678901234567, 999999999999999.9])
def test_many_values_read_as_each_alone(values: list[float]) -> None:
    assert value_texts(np.array(values, np.float64)) == [value_text(v) for v in values]


@settings(deadline=None)
@given(st.lists(st.one_of(st.floats(1e-4, 1e15), st.floats(-1e15, -1e-4)).filter(lambda v: abs(v) < 1e15)))
def test_ordinary_values_read_as_each_alone(values: list[float]) -> None:
    assert value_texts(np.array(values, np.float64)) == [value_text(v) for v in values]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-0.0, "-0"), (1e-4, "0.0001"), (0.000012, "0.000012"), (1e15, "1000000000000000"),
     (1e16, "1" + "0" * 16), (1e21, "1e+21"), (1e-7, "1e-07"), (float("inf"), "+Inf"), (2.5, "2.5"), (-3.0, "-3")],
)  # fmt: skip
def test_the_form_of_a_value(value: float, text: str) -> None:
    assert value_text(value) == text
    assert value_texts(np.array([value])) == [text]
