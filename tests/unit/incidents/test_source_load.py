from __future__ import annotations

import numpy as np
import pytest

from aiops.core.errors import TransientError
from aiops.core.ports import MetricQuerier
from aiops.core.principal import SYSTEM, Principal
from aiops.core.series import QueryResult, ResultType, SampleBlock, labels_of
from aiops.incidents.source_load import BudgetedQuerier
from aiops.settings import LoadSettings


class Source(MetricQuerier):
    """Answers at once with so many series of ten samples."""

    name = "prod"

    def __init__(self, series: int = 3) -> None:
        self.count = series
        self.asked: list[float] = []

    def range(self, query: str, start_ms: int, end_ms: int, step_ms: int, principal: Principal) -> QueryResult:
        ts = np.arange(10, dtype=np.int64)
        rows = [(labels_of({"i": str(i)}), ts, np.ones(10)) for i in range(self.count)]
        return QueryResult(ResultType.MATRIX, SampleBlock.build(rows))

    def instant(self, query, time_ms, principal):  # type: ignore[no-untyped-def]
        return self.range(query, 0, 0, 1, principal)

    def series(self, selectors, start_ms, end_ms, principal, limit=0):  # type: ignore[no-untyped-def]
        return []

    def label_names(self, selectors, start_ms, end_ms, principal):  # type: ignore[no-untyped-def]
        return []

    def label_values(self, name, selectors, start_ms, end_ms, principal):  # type: ignore[no-untyped-def]
        return []

    def metadata(self, principal):  # type: ignore[no-untyped-def]
        return []


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def budgeted(source: Source, **limits: float) -> tuple[BudgetedQuerier, Time]:
    time = Time()
    return BudgetedQuerier(source, LoadSettings.model_validate(limits), time, time.sleep), time


def test_queries_are_spread_at_the_set_rate() -> None:
    querier, time = budgeted(Source(), queries_per_s=2)
    for _ in range(120):
        querier.range("x", 0, 1, 1, SYSTEM)
    passed = time.now - 100
    assert 120 / passed <= 2.0 * 1.25  # the bucket's ten seconds are spent at once, then the rate holds
    assert querier.load().queries_per_s <= 2.5
    assert "queries/s" in querier.load().words


def test_large_answers_are_paid_for_afterwards() -> None:
    querier, time = budgeted(Source(series=100), queries_per_s=1000, samples_per_s=500)
    for _ in range(20):
        querier.range("x", 0, 1, 1, SYSTEM)
    assert 20 * 1000 / (time.now - 100) <= 500 * 1.6


def test_answers_of_too_many_series_are_cut_and_told() -> None:
    querier, _ = budgeted(Source(series=50), series_per_query=20)
    assert len(querier.range("x", 0, 1, 1, SYSTEM).block) == 20
    assert querier.load().cut == 1
    assert "1 answers cut to 20 series" in querier.load().words


def test_a_budget_that_can_never_be_met_is_a_transient_error() -> None:
    querier, _ = budgeted(Source(series=1000), samples_per_s=1)
    querier.range("x", 0, 1, 1, SYSTEM)
    with pytest.raises(TransientError, match="load budget"):
        querier.range("x", 0, 1, 1, SYSTEM)
