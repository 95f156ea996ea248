from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from aiops.core.ports import Collected
from aiops.core.principal import LOCAL, Principal, Role
from aiops.core.series import STALE_NAN, Exemplar, Matcher, MatchOp, NativeHistogram, labels_of
from aiops.store.telemetry.store import AppendReport, TelemetryStore
from tests.unit.store.telemetry.conftest import NOW, Hands

HOUR = 3_600_000
DAY = 24 * HOUR
TEAM_A = Principal("key:a", Role.VIEWER, (Matcher("team", MatchOp.EQUAL, "a"),))
LATENCY = labels_of({"__name__": 'odd"name', "team": "a"})
OTHER = labels_of({"__name__": "other", "team": "b"})
NAMED = (Matcher("__name__", MatchOp.EQUAL, 'odd"name'),)
ONE = Exemplar(LATENCY, (("trace_id", "abc"),), 0.5, NOW)


def test_exemplars_are_kept_once_and_found_by_matchers_and_scope(opened: Callable[..., TelemetryStore]) -> None:
    store = opened()
    others = (
        replace(ONE, value=0.7),
        replace(ONE, labels=(("trace_id", "def"),)),
        replace(ONE, ts=NOW - 30 * HOUR),
        Exemplar(OTHER, (), -1.0, NOW - 1),
    )
    assert store.append(Collected(exemplars=(ONE, ONE, *others))).exemplars == 5
    assert store.append(Collected(exemplars=(*others, ONE))) == AppendReport()
    for reopen in (False, True):
        reader = opened() if reopen else store
        everything = reader.exemplars((), NOW - 31 * HOUR, NOW, LOCAL)
        assert [e.ts for e in everything] == [NOW - 30 * HOUR, NOW - 1, NOW, NOW, NOW]
        assert set(everything) == {ONE, *others}
        assert set(reader.exemplars(NAMED, NOW, NOW, LOCAL)) == {ONE, others[0], others[1]}
        assert {e.series for e in reader.exemplars((), 0, NOW, TEAM_A)} == {LATENCY}
        assert reader.exemplars((Matcher("team", MatchOp.EQUAL, "b"),), 0, NOW, TEAM_A) == []


def test_an_exemplars_nan_keeps_its_bits(store: TelemetryStore) -> None:
    store.append(Collected(exemplars=(replace(ONE, value=STALE_NAN),)))
    (got,) = store.exemplars((), NOW, NOW, LOCAL)
    assert np.float64(got.value).view(np.uint64) == np.float64(STALE_NAN).view(np.uint64)


def test_native_histograms_are_kept_byte_for_byte_and_the_first_stays(opened: Callable[..., TelemetryStore]) -> None:
    store = opened()
    first, later = NativeHistogram(LATENCY, NOW, b"\x00\xff first"), NativeHistogram(LATENCY, NOW + 1, b"")
    assert store.append(Collected(histograms=(first, later))).histograms == 2
    again = store.append(Collected(histograms=(first, replace(first, payload=b"second"))))
    assert again.histograms == 0
    assert opened().histograms(NAMED, 0, NOW + 1, LOCAL) == [first, later]


def test_times_out_of_bounds_are_refused_and_retention_drops_whole_days(
    opened: Callable[..., TelemetryStore], clock: Hands
) -> None:
    store = opened()
    report = store.append(
        Collected(
            exemplars=(ONE, replace(ONE, ts=NOW + DAY)), histograms=(NativeHistogram(OTHER, NOW - 90 * DAY, b""),)
        )
    )
    assert (report.exemplars, report.too_new, report.histograms, report.too_old) == (1, 1, 0, 1)
    clock.now += 40 * DAY
    assert store.apply_retention().tables > 0
    assert store.exemplars((), 0, NOW, LOCAL) == []


def test_a_kept_answer_does_not_outlive_the_coming_of_native_histograms(store: TelemetryStore) -> None:
    before = store.version()
    store.append(Collected(histograms=(NativeHistogram(OTHER, NOW - 5, b"h"), NativeHistogram(LATENCY, NOW, b"h"))))
    assert store.changed_since(before) == NOW - 5
    after = store.version()
    store.append(Collected(histograms=(NativeHistogram(OTHER, NOW - 5, b"h"),)))
    assert store.changed_since(after) > NOW, "nothing is new"
