"""A window that lies in the past is answered with what held over it, not with what was there at its end."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aiops.agent.catalogue import Catalogues
from aiops.agent.executor import Executor
from aiops.agent.found import Asking
from aiops.agent.past import asks_for_course, courses
from aiops.core.evidence import Evidence, EvidenceState
from aiops.core.ports import Collected
from aiops.core.principal import LOCAL
from aiops.core.query import MetricStep, Plan, Threshold, Window
from aiops.core.series import SampleBlock, labels_of
from aiops.promql.engine import PromqlEngine
from aiops.settings import PromqlSettings, StoreSettings
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore
from tests.unit.agent.house import NOW, TIMES, N

HOUR = 3_600_000
PAST = Window(start_ms=NOW - 90 * 60_000, end_ms=NOW - 30 * 60_000, words="earlier")


@pytest.fixture(scope="module")
def ask() -> Iterator[object]:
    """Two hosts: the load of one rises from 0 to 8 over two hours, that of the other is 6 until half an hour ago."""
    database = TelemetryDatabase(None, StoreSettings(), lambda: NOW)
    store = TelemetryStore(database)
    rising, ended = np.linspace(0.0, 8.0, N), np.where(TIMES < NOW - 30 * 60_000 - 60_000, 6.0, 0.0)
    rows = [
        (labels_of({"__name__": "node_load1", "instance": host}), TIMES, values)
        for host, values in (("web-1", rising), ("web-2", ended))
    ]
    store.append(Collected(samples=SampleBlock.build(rows)))
    engine = PromqlEngine(store, PromqlSettings(), lambda: NOW)
    executor = Executor(engine)
    catalogue = Catalogues(engine, lambda: NOW).of(LOCAL)

    def run(step: MetricStep) -> Evidence:
        (evidence,) = executor.run(Plan(steps=(step,)), Asking(LOCAL, NOW), catalogue).evidence
        return evidence

    yield run
    executor.close()
    database.close()


def figures(evidence: Evidence) -> list[tuple[str, str, float]]:
    return [(dict(f.labels)["instance"], f.name, round(f.value, 1)) for f in evidence.figures if f.labels]


def test_the_mean_and_the_extreme_are_those_of_the_window(ask) -> None:
    evidence = ask(MetricStep(promql="node_load1", window=PAST, bad="high"))
    assert figures(evidence) == [
        ("web-2", "", pytest.approx(5.9, abs=0.11)), ("web-2", "highest", 6.0),
        ("web-1", "", 4.0), ("web-1", "highest", 6.0),
    ]  # fmt: skip
    assert evidence.series is not None
    assert len(evidence.series) == 2


def test_a_threshold_is_met_by_what_was_reached_in_the_window(ask) -> None:
    over = Threshold(op=">", value=5.0)
    evidence = ask(MetricStep(promql="node_load1", shape="threshold", window=PAST, threshold=over))
    assert {name for name, _, _ in figures(evidence)} == {"web-1", "web-2"}
    under = Threshold(op="<", value=0.5)
    evidence = ask(MetricStep(promql="node_load1", shape="threshold", window=PAST, threshold=under))
    assert figures(evidence)[:1] == [("web-2", "", 0.0)]
    none = ask(MetricStep(promql="node_load1", shape="threshold", window=PAST, threshold=Threshold(op=">", value=9)))
    assert none.state is EvidenceState.NO_MATCH


def test_a_window_up_to_now_is_answered_by_its_end(ask) -> None:
    evidence = ask(MetricStep(promql="node_load1", window=Window(last_s=3600.0), bad="high"))
    assert figures(evidence) == [("web-1", "", 8.0), ("web-2", "", 0.0)]


@pytest.mark.parametrize(
    ("promql", "shape", "asked"),
    [
        ("node_load1", "value", True),
        ("rate(x_total[5m])", "value", True),
        ("increase(x_total[1h])", "value", False),
        ("increase(x_total[5m])", "count", False),
    ],
)
def test_what_looks_back_over_the_whole_window_is_asked_at_its_end(promql: str, shape, asked: bool) -> None:
    step = MetricStep(promql=promql, shape=shape, window=PAST)
    assert asks_for_course(step, NOW - HOUR, NOW) is asked


@given(hnp.arrays(np.float64, st.integers(1, 30), elements=st.floats(-1e6, 1e6) | st.just(float("nan"))))
def test_a_course_lies_between_its_extremes(values: np.ndarray) -> None:
    block = SampleBlock.build([((("a", "b"),), np.arange(len(values), dtype=np.int64), values)])
    found = courses(block, 10)
    assert len(found) == int(np.isfinite(values).any())
    for one in found:
        assert one.low <= one.mean + 1e-6
        assert one.mean <= one.high + 1e-6
