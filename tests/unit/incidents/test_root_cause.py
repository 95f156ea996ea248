from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiops.core.errors import TransientError
from aiops.core.incident import Incident
from aiops.core.ports import Collected
from aiops.core.series import SampleBlock, labels_of
from aiops.core.signals import ChangeEvent, LogRecord, Span
from aiops.core.untrusted import Untrusted
from aiops.incidents.call_aliases import fold
from aiops.incidents.metric_kinds import Direction, MetricKind, metric_kind
from aiops.incidents.metric_scores import exceedance
from aiops.incidents.ranking import Case, ChangeRow, LogRow, MetricRow, Ranking, SpanRow, rank
from aiops.incidents.root_cause import RootCauseAnalyser
from aiops.incidents.transitions import opened
from aiops.incidents.watch import WatchEntry
from aiops.promql.engine import PromqlEngine
from aiops.settings import StoreSettings
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore
from tests.unit.incidents.signals import T0, anomaly

EDGES = [("web", "cart"), ("cart", "db"), ("web", "search")]
ROWS, ONSET = 130, 120


def row(service: str, name: str, base: float, after: float = float("nan"), seed: int = 0) -> MetricRow:
    """A noisy series that steps to ``after`` at the onset."""
    rng = np.random.default_rng([seed, *service.encode(), *name.encode()])
    values = base * (1 + 0.05 * rng.standard_normal(ROWS))
    if np.isfinite(after):
        values[ONSET:] = after * (1 + 0.02 * rng.standard_normal(ROWS - ONSET))
    return MetricRow(service, name, values)


def case(changed: dict[tuple[str, str], float], **more: object) -> Case:
    bases = {"latency_p95": 0.1, "error_ratio": 0.01, "cpu": 0.3}
    metrics = [
        row(s, m, base, changed.get((s, m), float("nan")))
        for s in ("web", "cart", "db", "search")
        for m, base in bases.items()
    ]
    made = Case(np.arange(ROWS) * 60, ONSET, metrics, EDGES, ("web", "latency_p95"))
    return replace(made, **more)  # type: ignore[arg-type]


def names(ranking: Ranking) -> list[str]:
    return [r.service for r in ranking.ranked]


def test_latency_is_explained_by_the_callee() -> None:
    found = rank(case({("web", "latency_p95"): 1.0, ("cart", "latency_p95"): 0.9, ("db", "latency_p95"): 0.8}))
    assert names(found)[0] == "db"
    assert found.clear
    assert found.ranked[0].path == ("db", "cart", "web")


def test_a_callee_explains_no_more_than_it_rose_itself() -> None:
    found = rank(case({("web", "latency_p95"): 3.0, ("cart", "latency_p95"): 2.9, ("db", "latency_p95"): 0.18}))
    assert names(found)[0] == "cart"


def test_a_tail_does_not_explain_a_median() -> None:
    rows = [row(s, m, 0.1, a) for s, m, a in (
        ("web", "latency_p50", 0.5), ("cart", "latency_p50", 0.5), ("db", "latency_p50", float("nan")),
        ("web", "latency_p99", 0.5), ("cart", "latency_p99", 0.5), ("db", "latency_p99", 0.45),
    )]  # fmt: skip
    found = rank(Case(np.arange(ROWS) * 60, ONSET, rows, EDGES, ("web", "latency_p50")))
    assert names(found)[0] == "cart"


def test_latency_that_only_callers_see_speaks_against_the_callee_that_they_share() -> None:
    """The way to cart is slow: both its callers see it, cart itself and search, which web calls too, do not."""
    edges = [("web", "cart"), ("shop", "cart"), ("web", "search")]
    slow = {"web": 1.0, "shop": 1.0, "cart": float("nan"), "search": float("nan")}
    rows = [row(s, "client_latency_p95", 0.1, after) for s, after in slow.items()]
    rows += [row(s, "server_latency_p95", 0.1, float("nan")) for s in slow]
    found = rank(Case(np.arange(ROWS) * 60, ONSET, rows, edges, felt=True))
    assert names(found)[0] == "cart"


def test_a_client_span_s_own_time_is_not_its_service_s_work() -> None:
    times = np.arange(ROWS) * 60
    slow = np.where(np.arange(ROWS) >= ONSET, 400.0, 4.0) + np.linspace(0, 1, ROWS)
    calm, none, count = np.full(ROWS, 3.0) + np.linspace(0, 1, ROWS), np.full(ROWS, np.nan), np.full(ROWS, 50.0)
    spans = [
        SpanRow("web", "cart.Get", "web", slow, none, count),
        SpanRow("cart", "cart.Get", "web", calm, slow, count),
        SpanRow("cart", "cart.Get", "shop", calm, slow, count),
    ]
    made = case({}, spans=spans, span_times=times, felt=True)
    assert names(rank(made))[0] == "cart"


def test_a_steady_operation_that_falls_off_before_the_onset_is_no_evidence() -> None:
    times = np.arange(ROWS) * 60
    count = np.where(np.arange(ROWS) == ONSET - 2, 1.0, 60.0)
    own = np.full(ROWS, 3.0) + np.linspace(0, 1, ROWS)
    spans = [SpanRow("db", "inner", "db", own, np.full(ROWS, np.nan), count)]
    assert not any(r.span for r in rank(case({}, spans=spans, span_times=times, felt=True)).ranked)


def test_saturation_points_at_itself() -> None:
    slow = {(s, "latency_p95"): 1.0 for s in ("web", "cart", "db")}
    assert names(rank(case({**slow, ("cart", "cpu"): 0.98})))[0] == "cart"


def test_quiet_names_nothing() -> None:
    assert rank(case({})).ranked == ()
    assert not rank(case({})).clear


def test_a_single_spike_is_not_sustained() -> None:
    quiet = case({})
    quiet.metrics[4].values[ONSET + 2] = 50.0
    assert not rank(quiet).clear


def test_what_the_symptom_cannot_reach_is_less_likely() -> None:
    found = rank(case({("web", "latency_p95"): 1.0, ("search", "latency_p95"): 0.5, ("orphan", "cpu"): 0.9}))
    assert names(found)[0] == "search"


def test_the_symptom_itself_is_named_when_nothing_below_it_moves() -> None:
    assert names(rank(case({("web", "latency_p95"): 1.0})))[0] == "web"


@pytest.mark.parametrize("late", [0, 1, 2, 3])
def test_an_onset_told_late_does_no_harm(late: int) -> None:
    faulty = case({("web", "latency_p95"): 1.0, ("db", "latency_p95"): 0.8}, onset=ONSET + late)
    assert names(rank(faulty))[0] == "db"


def test_wire_time_is_blamed_on_the_end_that_the_slow_pairs_share() -> None:
    def pair(caller: str, callee: str, wire: float) -> SpanRow:
        times = np.array([1.0, 1.1, 0.9, 1.0, 1.05, 1.0, wire, wire])
        return SpanRow(callee, "", caller, np.full(8, np.nan), times, np.full(8, 50.0))

    spans = [pair("web", "db", 300), pair("cart", "db", 280), pair("web", "cart", 1.0), pair("web", "search", 1.0)]
    at = np.array([*range(0, ONSET * 60, ONSET * 10), ONSET * 60, ONSET * 60 + 60])
    found = rank(case({("web", "latency_p95"): 0.6}, spans=spans, span_times=at))
    assert names(found)[0] == "db"
    assert "wire time" in found.ranked[0].span


def test_new_error_lines_and_a_deploy_speak_for_a_service() -> None:
    errors = {("web", "error_ratio"): 0.5, ("cart", "error_ratio"): 0.5, ("db", "error_ratio"): 0.4}
    lines = [LogRow("cart", "KeyError in handler", 0.0, 20.0, is_error=True, count=40), LogRow("db", "ok", 50.0, 49.0)]
    change = [ChangeRow("cart", "deploy: 2.0", ONSET * 60 - 60)]
    found = rank(case(errors, logs=lines, changes=change, onset_ms=ONSET * 60))
    assert names(found)[0] == "cart"
    assert found.ranked[0].log == lines[0]
    assert found.ranked[0].change == change[0]


def test_success_ratio_is_read_as_errors() -> None:
    made = case({})
    good = MetricRow("cart", "success_ratio", np.full(ROWS, 99.9))
    good.values[ONSET:] = 96.0
    found = rank(replace(made, metrics=[*made.metrics, good], symptom=("web", "error_ratio")))
    assert names(found)[0] == "cart"


def test_missing_values_are_not_zero() -> None:
    made = case({("web", "latency_p95"): 1.0, ("db", "latency_p95"): 0.8})
    gone = MetricRow("cart", "requests", np.full(ROWS, 5.0))
    gone.values[ONSET:] = np.nan
    empty = MetricRow("cart", "memory", np.full(ROWS, np.nan))
    assert names(rank(replace(made, metrics=[*made.metrics, gone, empty])))[0] == "db"


def test_shares_are_shares() -> None:
    shares = [r.share for r in rank(case({("web", "latency_p95"): 1.0, ("cart", "cpu"): 0.9})).ranked]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) <= 1


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(
        st.lists(st.floats(allow_subnormal=False, width=32), min_size=40, max_size=40), min_size=1, max_size=4
    ),
    onset=st.integers(0, 40),
    edges=st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd")), max_size=8),
)
def test_any_numbers_and_any_graph_give_a_ranking(
    values: list[list[float]], onset: int, edges: list[tuple[str, str]]
) -> None:
    metrics = [MetricRow("abcd"[i], "latency", np.array(v)) for i, v in enumerate(values)]
    with np.errstate(all="ignore"):
        found = rank(Case(np.arange(40), onset, metrics, edges, ("a", "latency")))
    assert all(np.isfinite(r.score) and 0 <= r.share <= 1 for r in found.ranked)


def test_exceedance_is_in_units_of_spread_and_floored() -> None:
    values = np.array([[10.0] * 50 + [13.0]])
    assert exceedance(values, 50, [Direction.UP])[0, -1] == pytest.approx(3.0)
    assert exceedance(values, 50, [Direction.DOWN])[0, -1] == 0


@pytest.mark.parametrize(
    ("name", "kind", "way"),
    [
        ("PodServerLatencyP95(s)", MetricKind.LATENCY, Direction.UP),
        ("CpuUsageRate(%)", MetricKind.SATURATION, Direction.UP),
        ("NodeCpuUsageRate(%)", MetricKind.NODE, Direction.BOTH),
        ("availability_Average", MetricKind.ERRORS, Direction.DOWN),
        ("http_requests_total", MetricKind.TRAFFIC, Direction.BOTH),
        ("requests_failed", MetricKind.ERRORS, Direction.UP),
        ("", MetricKind.OTHER, Direction.BOTH),
    ],
)
def test_kinds_by_name(name: str, kind: MetricKind, way: Direction) -> None:
    assert metric_kind(name) == (kind, way)


def test_stand_ins_are_folded_into_what_they_front() -> None:
    edges = [
        ("shop", "lb-paym.eu.elb.example.com"),
        ("shop", "payments"),
        ("shop", "search"),
        ("app_client", "shop"),
        ("shop", "shop"),
    ]
    folded, alias = fold(edges)
    assert alias == {"lb-paym.eu.elb.example.com": "payments", "app_client": "shop"}
    assert folded == [("shop", "payments"), ("shop", "search")]


# ------------------------------------------------------------------ over a live store

STEP = 15_000
NOW = T0 + 120_000
WATCH = (
    WatchEntry("latency_p95", "max by (service_name, simulated) (latency_seconds)", STEP, "latency", "up", "s"),
    WatchEntry("cpu_ratio", "max by (service_name, simulated) (cpu_ratio)", STEP, "saturation", "up", "ratio"),
)


def telemetry() -> Collected:
    """An hour of calm, then ``db`` saturates: its callers slow down, it logs a new error, it was just deployed."""
    ts = np.arange(T0 - 3_700_000, NOW + 1, STEP, dtype=np.int64)
    rng = np.random.default_rng(1)
    series = []
    for service, slow, busy in (("web", 0.5, 0.3), ("db", 0.4, 0.97), ("search", 0.05, 0.3)):
        for name, base, after in (("latency_seconds", 0.05, slow), ("cpu_ratio", 0.3, busy)):
            values = base * (1 + 0.05 * rng.standard_normal(len(ts)))
            values[ts >= T0] = after
            series.append((labels_of({"__name__": name, "service_name": service}), ts, values))
    resource = (("service.name", "db"),)
    logs = [LogRecord(int(t) * 1_000_000, Untrusted("query took 3 ms"), 9, resource=resource) for t in ts]
    logs += [
        LogRecord((T0 + k) * 1_000_000, Untrusted("too many clients \u202e already"), 17, resource=resource)
        for k in range(0, 60_000, 2000)
    ]
    spans = []
    for k, t in enumerate(ts):
        start = int(t) * 1_000_000
        kin = (("service.name", "web"),)
        spans += [
            Span(f"{k:032x}", f"{k:015x}1", "", Untrusted("query"), "client", start, start + 9_000_000, resource=kin),
            Span(
                f"{k:032x}",
                f"{k:015x}2",
                f"{k:015x}1",
                Untrusted("query"),
                "server",
                start + 1_000_000,
                start + 8_000_000,
                resource=resource,
            ),
        ]
    change = ChangeEvent(T0 - 120_000, "deploy", "db", Untrusted("db 2.0.1"), author="alice")
    return Collected(SampleBlock.build(series), (), tuple(logs), tuple(spans), (change,))


@pytest.fixture(scope="module")
def store() -> Iterator[TelemetryStore]:
    database = TelemetryDatabase(None, StoreSettings(), lambda: NOW)
    made = TelemetryStore(database)
    made.append(telemetry())
    yield made
    database.close()


def incident(service: str = "web") -> Incident:
    return opened("INC-1", anomaly(service), T0 + 45_000)


def test_gathers_evidence_and_names_the_cause(store: TelemetryStore) -> None:
    analyser = RootCauseAnalyser(PromqlEngine(store, clock=lambda: NOW), store, WATCH)
    assert ("web", "db") in analyser.graph(NOW).edges
    diagnosis = analyser.analyse(incident(), NOW)
    assert diagnosis.clear_cause
    best = diagnosis.candidates[0]
    assert best.service == "db"
    assert best.path == ("db", "web")
    assert best.query in {w.query for w in WATCH}
    assert best.before < best.after
    assert best.first_deviation_ms == T0 + (-T0) % STEP
    assert best.change == "deploy: db 2.0.1, 2 min before the onset"
    words = " | ".join(best.reasons)
    assert "cpu ratio 29.9 % → 97 % (3.2x normal)" in words
    assert "new log line, 30 times: «too many clients already»" in words
    assert "\u202e" not in words


def test_only_the_incidents_own_world_is_looked_at(store: TelemetryStore) -> None:
    analyser = RootCauseAnalyser(PromqlEngine(store, clock=lambda: NOW), None, WATCH)
    assert analyser.analyse(replace(incident(), simulated=True), NOW).candidates == ()


def test_a_source_that_is_down_is_left_out(store: TelemetryStore, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(PromqlEngine):
        def range(self, query: str, *rest: object) -> object:  # type: ignore[override]
            raise TransientError("the source is down")

    caplog.set_level(logging.WARNING)
    diagnosis = RootCauseAnalyser(Broken(store), store, WATCH).analyse(incident(), NOW)
    assert "the source is down" in caplog.text
    assert [c.service for c in diagnosis.candidates][:1] == ["db"]


def test_without_watch_or_signals_there_is_no_cause(store: TelemetryStore) -> None:
    none: Sequence[WatchEntry] = ()
    diagnosis = RootCauseAnalyser(PromqlEngine(store), None, none).analyse(incident(), NOW)
    assert diagnosis.candidates == ()
    assert not diagnosis.clear_cause
