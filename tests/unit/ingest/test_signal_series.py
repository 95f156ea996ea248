"""Series made of spans and logs: names, rates, edges, sampling, late and repeated rows, caps, history."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiops.core.errors import TransientError
from aiops.core.ports import Collected
from aiops.core.principal import LOCAL
from aiops.core.series import Matcher, MatchOp
from aiops.core.signals import LogRecord, Span
from aiops.core.untrusted import Untrusted
from aiops.incidents.watch import default_watch
from aiops.ingest.event_series import EventSeries
from aiops.ingest.log_series import severity_word
from aiops.ingest.log_templates.miner import TemplateMiner
from aiops.ingest.sampling import adjusted_count
from aiops.ingest.signal_series import SignalSeries
from aiops.ingest.span_metrics import OPERATIONS
from aiops.promql.engine import PromqlEngine
from aiops.promql.parse import inject_matchers
from aiops.settings import PromqlSettings, StoreSettings
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore

T0 = 1_700_000_010_000
MS = 1_000_000


class Times:
    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> int:
        return self.now


def span(id, kind="server", service="api", start=T0, ms=10.0, parent="", status="unset", name="GET /x", **more):
    start_ns = start * MS
    resource = (("service.name", service),)
    return Span(
        "t" * 32, id, parent, Untrusted(name), kind, start_ns, start_ns + int(ms * MS), status, resource, **more
    )


class House:
    """A store, its series and PromQL over them."""

    def __init__(self) -> None:
        self.times = Times()
        self.store = TelemetryStore(TelemetryDatabase(None, StoreSettings(), self.times))
        self.store.mine_logs_with(TemplateMiner())
        self.series = SignalSeries(self.store, self.times)
        self.store.when_stored(self.series.note)
        self.engine = PromqlEngine(self.store, PromqlSettings())

    def add(self, spans=(), logs=(), key=""):
        return self.store.append(Collected(spans=tuple(spans), logs=tuple(logs)), key=key)

    def settle(self, seconds=60):
        for _ in range(seconds // 15):
            self.times.now += 15_000
            self.series.flush()

    def ask(self, query):
        block = self.engine.instant(query, self.times.now, LOCAL).block
        return {
            tuple(p for p in labels if p[0] != "__name__"): float(block.values[i])
            for i, labels in enumerate(block.labels)
        }

    def one(self, query):
        (value,) = self.ask(query).values()
        return value


@pytest.fixture
def house():
    found = House()
    yield found
    found.store.close()


def test_operations_have_calls_errors_and_durations(house):
    house.add([span(f"{i:016x}", ms=20.0, status="error" if i < 3 else "unset") for i in range(10)])
    house.settle()
    errors = house.one('traces_span_metrics_calls_total{status_code="STATUS_CODE_ERROR"}')
    assert errors == 3.0
    assert house.one("sum(increase(traces_span_metrics_calls_total[2m]))") == pytest.approx(10.0, rel=0.35)
    found = house.ask('traces_span_metrics_calls_total{status_code="STATUS_CODE_UNSET"}')
    ((labels, value),) = found.items()
    assert value == 7.0
    assert dict(labels) == {
        "service_name": "api", "job": "api", "span_name": "GET /x", "span_kind": "SPAN_KIND_SERVER",
        "status_code": "STATUS_CODE_UNSET",
    }  # fmt: skip
    assert house.one('sum(traces_span_metrics_duration_milliseconds_bucket{le="50"})') == 10.0
    assert house.one('sum(traces_span_metrics_duration_milliseconds_bucket{le="10"})') == 0.0
    assert house.one("sum(traces_span_metrics_duration_milliseconds_sum)") == pytest.approx(200.0)
    assert house.store.metadata(LOCAL)


def test_a_call_is_an_edge_with_its_time_on_the_wire_whatever_comes_first(house):
    client = span("c" * 16, "client", "web", T0, 30.0)
    server = span("d" * 16, "server", "api", T0 + 5, 20.0, parent="c" * 16, status="error")
    house.add([server])
    house.add([client])
    house.settle()
    where = '{client="web",server="api"}'
    assert house.one(f"traces_service_graph_request_total{where}") == 1.0
    assert house.one(f"traces_service_graph_request_failed_total{where}") == 1.0
    assert house.one(f"traces_service_graph_request_client_seconds_sum{where}") == pytest.approx(0.030)
    assert house.one(f"traces_service_graph_request_server_seconds_sum{where}") == pytest.approx(0.020)
    assert house.one(f"traces_service_graph_request_wire_seconds_sum{where}") == pytest.approx(0.010)
    (edge,) = house.store.service_graph(T0 - 1000, T0 + 1000, LOCAL).stats
    assert (edge.caller, edge.callee, edge.first_ms, edge.last_ms) == ("web", "api", T0 + 5, T0 + 5)


def test_clocks_that_differ_do_not_change_the_wire_time(house):
    house.add([span("c" * 16, "client", "web", T0, 30.0)])
    house.add([span("d" * 16, "server", "api", T0 - 9000, 20.0, parent="c" * 16)])
    house.settle(30)
    assert house.one("traces_service_graph_request_wire_seconds_sum") == pytest.approx(0.010)
    assert house.one("traces_service_graph_clock_skew_seconds") == pytest.approx(-9.005, abs=0.001)


def test_a_peer_without_spans_is_an_edge_by_what_the_client_says(house):
    attributes = (("db.namespace", "orders"), ("db.system.name", "postgresql"))
    house.add([span("c" * 16, "client", "web", T0, 30.0, attributes=attributes)])
    house.settle(90)
    found = house.ask("traces_service_graph_request_total")
    assert [(dict(k)["server"], dict(k)["connection_type"], v) for k, v in found.items()] == [
        ("orders", "database", 1.0)
    ]


def test_repeated_spans_and_bodies_count_once(house):
    spans = [span("a" * 16), span("b" * 16)]
    house.add(spans)
    house.add(spans)
    house.add([], [LogRecord(T0 * MS, Untrusted("hello 1"), 9, resource=(("service.name", "api"),))], key="k")
    house.add([], [LogRecord(T0 * MS, Untrusted("hello 1"), 9, resource=(("service.name", "api"),))], key="k")
    house.settle()
    assert house.one("sum(traces_span_metrics_calls_total)") == 2.0
    assert house.one("sum(log_template_records_total)") == 1.0


def test_a_late_span_counts_once_in_the_open_bin_and_a_very_late_one_not(house):
    house.add([span("a" * 16)])
    house.settle()
    house.add([span("b" * 16, start=house.times.now - 60_000), span("c" * 16, start=house.times.now - 3_600_000)])
    house.settle()
    assert house.one("sum(traces_span_metrics_calls_total)") == 2.0
    assert house.series.status().late == 2  # a count and a duration


def test_the_first_event_shows_in_a_rate(house):
    house.add([span("a" * 16)])
    house.settle(30)
    assert house.one("increase(traces_span_metrics_calls_total[1m])") > 0.9


def test_history_becomes_series_over_its_own_time_beside_live_events(house):
    house.add([span("a" * 16, service="live")])
    house.settle(30)
    past = house.times.now - 3_600_000
    house.add([span(f"{i:016x}", service="old", start=past + i * 10_000) for i in range(100)])
    house.settle(15)
    found = house.engine.range(
        'increase(traces_span_metrics_calls_total{service_name="old"}[1m])',
        past + 120_000,
        past + 900_000,
        60_000,
        LOCAL,
    ).block
    assert found.sample_count >= 13
    assert np.allclose(found.values, 6.0, atol=1.5)
    assert house.series.status().late == 0


def test_sampled_spans_count_for_what_they_stand_for_or_are_marked(house):
    house.add([span("a" * 16, trace_state="rojo=1,ot=th:e;rv:123")])
    house.add([span("b" * 16, name="GET /y", attributes=(("aiops.sampled", "true"),))])
    house.settle()
    assert house.one('traces_span_metrics_calls_total{span_name="GET /x"}') == pytest.approx(8.0)
    assert house.one('traces_span_metrics_duration_milliseconds_count{span_name="GET /x"}') == pytest.approx(8.0)
    assert house.one('traces_span_metrics_calls_total{sampled="true"}') == 1.0


@pytest.mark.parametrize(
    ("more", "count"),
    [
        ({}, 1.0),
        ({"trace_state": "ot=th:0"}, 1.0),
        ({"trace_state": "ot=th:8"}, 2.0),
        ({"trace_state": "a=b,ot=rv:0123456789abcd;th:c"}, 4.0),
        ({"trace_state": "ot=rv:0123456789abcd"}, 0.0),
        ({"trace_state": "ot=th:ffffffffffffff"}, 0.0),
        ({"trace_state": "other=th:8"}, 1.0),
        ({"attributes": (("sampling.probability", "0.25"),)}, 4.0),
        ({"attributes": (("sampling.probability", "zero"),)}, 0.0),
        ({"attributes": (("sampling.probability", "nan"),)}, 0.0),
    ],
)
def test_adjusted_counts(more, count):
    assert adjusted_count(span("a" * 16, **more)) == pytest.approx(count)


def test_operations_past_the_cap_are_other(house):
    house.add([span(f"{i:016x}", name=f"op-{i}") for i in range(OPERATIONS + 50)])
    house.settle()
    assert house.one('traces_span_metrics_calls_total{span_name="other"}') == 50.0
    assert house.one("count(count by (span_name) (traces_span_metrics_calls_total))") == OPERATIONS + 1


def test_log_lines_are_counted_by_template_and_severity(house):
    lines = [
        LogRecord((T0 + i) * MS, Untrusted(f"job {i} failed"), 17, resource=(("service.name", "api"),))
        for i in range(5)
    ]
    house.add([], lines)
    house.settle()
    ((labels, value),) = house.ask("log_template_records_total").items()
    (pattern,) = house.store.log_patterns(T0 - 1, T0 + 100, LOCAL)
    assert value == 5.0
    assert dict(labels) == {
        "service_name": "api",
        "job": "api",
        "severity": "error",
        "template_id": pattern.template_id,
    }


def test_samples_that_the_store_refuses_are_written_later(house, monkeypatch):
    house.add([span("a" * 16)])
    append = house.store.append
    house.times.now += 30_000

    def full(*args, **kwargs):
        raise TransientError("no space")

    monkeypatch.setattr(house.store, "append", full)
    with pytest.raises(TransientError):
        house.series.flush()
    monkeypatch.setattr(house.store, "append", append)
    house.settle(15)
    assert house.one("sum(traces_span_metrics_calls_total)") == 1.0


def test_severity_words_follow_the_numbers():
    words = [severity_word(n) for n in (0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, -3)]
    doubled = [w for w in ("trace", "debug", "info", "warn", "error", "fatal") for _ in range(2)]
    assert words == ["", *doubled, "", ""]


def test_every_default_watch_entry_of_spans_and_logs_gives_series_of_a_service(house):
    for i in range(40):
        at = house.times.now
        client = span(f"{i:015x}c", "client", "web", at, 30.0)
        server = span(
            f"{i:015x}d", "server", "api", at, 20.0, parent=f"{i:015x}c", status="error" if i % 2 else "unset"
        )
        lines = [LogRecord(at * MS, Untrusted(f"job {i} failed"), 17, resource=(("service.name", "api"),))]
        house.add([client, server], lines)
        house.settle(15)
    for entry in default_watch(60_000, 60_000):
        if entry.needs and entry.needs[0].startswith(("traces_", "log_template")):
            found = house.ask(entry.query)
            assert found, entry.name
            assert all(dict(labels)["service_name"] == "api" for labels in found), entry.name
            assert all(np.isfinite(value) for value in found.values()), entry.name
            labels = next(iter(found))
            narrowed = inject_matchers(entry.query, [Matcher(k, MatchOp.EQUAL, v) for k, v in labels])
            assert labels in house.ask(narrowed), entry.name


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 900_000), st.integers(1, 60_000)), max_size=60))
def test_counters_never_fall_and_end_at_the_number_of_events(events):
    series = EventSeries()
    now, seen, counted = T0, [], 0
    for ago, step in events:
        now += step
        late = series.late
        series.count("s", "x_total", (), now - ago)
        counted += series.late == late
        seen.append(series.close(now))
    seen.append(series.close(now + 60_000))
    ts = np.concatenate([b.ts for b in seen])
    values = np.concatenate([b.values for b in seen])
    assert (np.diff(ts) > 0).all()
    assert (np.diff(values) >= 0).all() or not len(values)
    if counted and now + 60_000 - (now - min(a for a, _ in events)) < 3_600_000:
        assert values[-1] == counted
