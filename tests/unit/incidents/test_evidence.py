"""Physics of calls that the ranking of causes stands on: waiting adds up, callers make the traffic, old faults pass."""

from __future__ import annotations

import numpy as np

from aiops.incidents.ranking import SpanRow, rank
from tests.unit.incidents.test_root_cause import ONSET, ROWS, case, names, row

QUIET = np.full(10, 2.0)


def wire(service: str, caller: str, values: np.ndarray) -> SpanRow:
    return SpanRow(service, "op", caller, np.full(len(values), np.nan), values, np.full(len(values), 100.0))


def test_an_older_fault_in_the_short_history_of_spans_hides_no_new_one() -> None:
    slow = np.array([2.0, 2.1, 900.0, 2.0, 2.2, 2.1, 1.9, 2.0, 500.0, 510.0])
    times = np.arange(ONSET - 40, ONSET + 10, 5)
    spans = [wire("cart", "web", slow), wire("search", "web", QUIET), wire("db", "cart", QUIET)]
    found = rank(case({}, spans=spans, span_times=times * 60))
    assert names(found)[0] == "cart"
    assert "wire time web to cart" in found.ranked[0].span


def test_calls_that_stopped_before_a_late_onset_count_only_if_they_stay_away() -> None:
    usual = np.full(12, 100.0)
    times = np.arange(ONSET - 11, ONSET + 1)
    gone, dip = usual.copy(), usual.copy()
    gone[-3:], dip[-3] = 0.0, 0.0

    def told_late(count: np.ndarray) -> list[str]:
        nothing = np.full(12, np.nan)
        spans = [SpanRow("search", "find", "web", nothing, nothing, count)]
        return names(rank(case({}, spans=spans, span_times=times * 60, onset=ONSET + 1)))

    assert told_late(gone)[:1] == ["web"]
    assert told_late(dip) == []


def test_traffic_is_made_by_callers() -> None:
    base = case({})
    rare = row("db", "requests_total", 0.001, 50.0)
    order = names(rank(case({}, metrics=[*base.metrics, rare], felt=True)))
    assert order[0] == "cart"
    assert "db" in order


def test_what_rose_by_a_millisecond_did_not_make_a_second() -> None:
    made = case({("web", "latency_p95"): 1.0, ("cart", "latency_p95"): 0.9})
    tiny = [m for m in made.metrics if (m.service, m.name) != ("db", "latency_p95")]
    tiny.append(row("db", "latency_p95", 0.0002, 0.004))
    assert names(rank(case({}, metrics=tiny)))[0] == "cart"
    assert len(tiny[0].values) == ROWS
