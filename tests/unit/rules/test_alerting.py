"""The states of alerts against a definition that looks back over the whole history."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops.core.errors import QueryError
from aiops.rules.alerting import AlertState, AlertTable, Found

ONE = (("alertname", "A"), ("job", "x"))
TWO = (("alertname", "A"), ("job", "y"))


def defined(times: list[int], present: list[bool], for_ms: int, keep_ms: int) -> list[AlertState]:
    """An alert lives while it has results, and once it fires for ``keep_ms`` more; it fires ``for_ms`` after it
    came alive."""

    @cache
    def alive(i: int) -> bool:
        if present[i]:
            return True
        before = [k for k in range(i) if present[k]]
        return bool(before) and fires(before[-1]) and times[i] - times[before[-1] + 1] < keep_ms

    @cache
    def fires(i: int) -> bool:
        start = i
        while start and alive(start - 1):
            start -= 1
        return times[i] - times[start] >= for_ms

    return [
        (AlertState.FIRING if fires(i) else AlertState.PENDING) if alive(i) else AlertState.INACTIVE
        for i in range(len(times))
    ]


@given(
    st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=1, max_size=40),
    st.sampled_from([0, 1, 20, 60]),
    st.sampled_from([0, 15, 60]),
)
def test_states_follow_their_definition(steps, for_ms, keep_ms):
    times, at = [], 1_000
    for gap, _ in steps:
        at += gap
        times.append(at)
    present = [p for _, p in steps]
    table, got = AlertTable(for_ms, keep_ms), []
    for ts, here in zip(times, present, strict=True):
        found = {TWO: Found(1.0), **({ONE: Found(2.0)} if here else {})}
        table.add(ts, found)
        live = {a.labels: a.state for a in table.move(ts, found)}
        got.append(live.get(ONE, AlertState.INACTIVE))
        assert live[TWO] is (AlertState.FIRING if ts - times[0] >= for_ms else AlertState.PENDING)
    assert got == defined(times, present, for_ms, keep_ms)


def test_the_end_of_a_firing_alert_is_kept_until_it_is_told():
    table = AlertTable()
    table.add(1, {ONE: Found(1.0)})
    table.move(1, {ONE})
    assert [a.state for a in table.to_send(1, 10)] == [AlertState.FIRING]
    table.alerts[ONE].sent_ms = 1
    assert table.to_send(5, 10) == []
    table.move(6, ())
    (over,) = table.to_send(6, 10)
    assert (over.state, over.resolved_ms) == (AlertState.INACTIVE, 6)
    table.move(7, ())
    assert table.to_send(7, 10) == [over]
    over.end_sent = True
    table.move(8, ())
    assert table.alerts == {}


def test_a_pending_alert_that_ends_is_never_told():
    table = AlertTable(for_ms=100)
    table.add(1, {ONE: Found(1.0)})
    table.move(1, {ONE})
    table.move(2, ())
    assert table.to_send(3, 10) == []
    assert table.alerts == {}


def test_beyond_the_limit_all_are_forgotten():
    table = AlertTable(limit=1)
    found = {ONE: Found(1.0), TWO: Found(1.0)}
    table.add(1, found)
    with pytest.raises(QueryError, match="exceeded limit of 1 with 2 alerts"):
        table.move(1, found)
    assert table.alerts == {}
