"""What a step brings back in each state of its source."""

from __future__ import annotations

import threading

import pytest

from aiops.agent.catalogue import LiveCatalogue
from aiops.agent.executor import Executor
from aiops.agent.found import Asking, Found, figure
from aiops.agent.run_metrics import split_condition
from aiops.core.errors import InvalidPlan, QueryError
from aiops.core.evidence import EvidenceState
from aiops.core.principal import LOCAL, Principal
from aiops.core.query import (
    ActionProposalStep,
    CompareStep,
    CostStep,
    ForecastStep,
    LogStep,
    MetricStep,
    Plan,
    PlanStep,
    Threshold,
)
from aiops.core.series import MetricMetadata, QueryResult
from tests.unit.agent.tables import Rows, TableQuerier

NOW = 1_795_521_600_000
HOSTS: Rows = [({"instance": "a"}, 0.05), ({"instance": "b"}, 0.5), ({"instance": "c"}, float("nan"))]


def table(rows: Rows = HOSTS, newest_ms: int | None = NOW - 3000) -> TableQuerier:
    series = [{"__name__": "free", "instance": i} for i in "abc"]
    return TableQuerier({"free": rows}, series, [MetricMetadata("free", "gauge")], newest_ms)


def run(querier: TableQuerier, *steps: PlanStep, principal: Principal = LOCAL, deadline_s: float = 30.0) -> list[Found]:
    executor = Executor(querier, deadline_s=deadline_s)
    try:
        catalogue = LiveCatalogue(querier, LOCAL, lambda: NOW)
        return list(executor.run(Plan(steps=steps), Asking(principal, NOW), catalogue).found)
    finally:
        executor.close()


LOW = MetricStep(promql="free", unit="ratio", bad="low", threshold=Threshold(op="<", value=0.1))


def test_matches_come_first_and_are_counted() -> None:
    (found,) = run(table(), LOW)
    e = found.evidence[0]
    assert (e.id, e.state, found.matched) == ("E1", EvidenceState.OK, 1)
    assert [f.value for f in e.figures if not f.name] == [0.05]
    looked = figure(e, "series looked at")
    assert looked is not None
    assert looked.value == 2, "NaN is no value"
    assert e.query == "(free) < 0.1"
    assert e.newest_ms == NOW - 3000
    assert e.series is not None
    assert len(e.series) == 1


def test_none_below_shows_the_lowest() -> None:
    (found,) = run(table([({"instance": "a"}, 0.4), ({"instance": "b"}, 0.3)]), LOW)
    e = found.evidence[0]
    assert (e.state, found.matched) == (EvidenceState.NO_MATCH, 0)
    assert [f.value for f in e.figures if not f.name] == [0.3, 0.4]


def test_a_metric_that_is_not_there_is_not_an_empty_answer() -> None:
    (found,) = run(table(), MetricStep(promql="nothing"))
    assert found.evidence[0].state is EvidenceState.DOES_NOT_EXIST


def test_a_source_that_is_down_is_said() -> None:
    querier = table()
    catalogue = LiveCatalogue(querier, LOCAL, lambda: NOW)
    catalogue.metrics()
    querier.down = True
    executor = Executor(querier)
    found = executor.run(Plan(steps=(LOW,)), Asking(LOCAL, NOW), catalogue).found[0]
    executor.close()
    assert found.evidence[0].state is EvidenceState.SOURCE_DOWN
    assert "connection refused" in found.evidence[0].note


def test_late_data_is_said_whether_or_not_there_are_values() -> None:
    (found,) = run(table(newest_ms=NOW - 3_600_000), LOW)
    assert found.evidence[0].state is EvidenceState.SOURCE_LATE
    (found,) = run(table([], newest_ms=NOW - 3_600_000), LOW)
    assert found.evidence[0].state is EvidenceState.SOURCE_LATE
    assert found.evidence[0].newest_ms == NOW - 3_600_000


def test_series_that_never_matched_are_told_apart_from_a_condition_not_met() -> None:
    (found,) = run(table([], newest_ms=None), MetricStep(promql='free{instance="z"}'))
    assert found.evidence[0].state is EvidenceState.NO_MATCH
    (found,) = run(table([]), MetricStep(promql="free > 2"))
    assert "none meets" in found.evidence[0].note


def test_a_refused_query_goes_back_to_the_planner() -> None:
    class Refusing(TableQuerier):
        def instant(self, query: str, time_ms: int, principal: Principal) -> QueryResult:
            raise QueryError("no such function")

    querier = Refusing({}, [], [])
    with pytest.raises(InvalidPlan, match="no such function"):
        run(querier, MetricStep(promql="free"))


def test_a_step_over_its_deadline_is_down_and_the_others_still_answer() -> None:
    gate = threading.Event()

    def slow(_: int) -> Rows:
        gate.wait(10)
        return []

    querier = table()
    querier.rows = {"slow": slow, "free": HOSTS}
    first, second = run(querier, MetricStep(promql="slow"), LOW, deadline_s=0.2)
    gate.set()
    assert first.evidence[0].state is EvidenceState.SOURCE_DOWN
    assert second.evidence[0].id == "E2"
    assert second.matched == 1


def test_a_forecast_s_condition_says_who_runs_out() -> None:
    step = ForecastStep(promql="predict_linear(free[1h], 3600) < 0.1", unit="ratio", horizon_s=3600)
    (found,) = run(table(), step)
    assert found.matched == 1
    assert found.evidence[0].query.endswith("< 0.1")
    assert split_condition("a / b")[1] is None


def test_compare_sets_now_beside_before() -> None:
    querier = table()
    querier.rows = {"free": lambda t: [({"instance": "a"}, 2.0 if t == NOW else 1.0)]}
    (found,) = run(querier, CompareStep(promql="free", back_s=600))
    assert [(f.name, f.value) for f in found.evidence[0].figures] == [("now", 2.0), ("before", 1.0), ("back", 600.0)]


@pytest.mark.parametrize("step", [CostStep(), LogStep(), ActionProposalStep(action="silence", target="a")])
def test_an_organ_that_is_not_wired_is_said(step: PlanStep) -> None:
    (found,) = run(table(), step)
    assert found.evidence[0].state is EvidenceState.DOES_NOT_EXIST
    assert "not available" in found.limits[0]


def test_more_series_than_allowed_is_truncated_and_said() -> None:
    rows: Rows = [({"instance": str(i)}, float(i)) for i in range(50)]
    querier = table(rows)
    executor = Executor(querier, max_series=20)
    found = executor.run(Plan(steps=(MetricStep(promql="free"),)), Asking(LOCAL, NOW), LiveCatalogue(querier, LOCAL))
    executor.close()
    assert found.evidence[0].truncated
