"""Series that ended long ago leave memory and file with their data's retention."""

from __future__ import annotations

from collections.abc import Callable

from aiops.core.ports import Collected
from aiops.core.principal import LOCAL
from aiops.core.series import Labels, Matcher, MatchOp, SampleBlock, labels_of
from aiops.ingest.write_body import WriteReceiver
from aiops.store.telemetry.head import SampleCounts
from aiops.store.telemetry.store import TelemetryStore
from tests.unit.ingest.encode import series, snappy
from tests.unit.store.telemetry.conftest import NOW, Hands

DAY = 86_400_000
SHORT = {"retention_days": 2, "rollup_1h_days": 0}
Opened = Callable[..., TelemetryStore]
LASTING = labels_of({"__name__": "up", "job": "lasting"})


def pod(day: int, i: int) -> Labels:
    return labels_of({"__name__": "up", "job": "pods", "pod": f"pod-{day}-{i}"})


def put(store: TelemetryStore, at: int, labels: list[Labels]) -> None:
    store.append(Collected(SampleBlock.at(at, [(one, float(i)) for i, one in enumerate(labels)])))


def test_a_hundred_days_of_churn_hold_the_series_of_the_retention(opened: Opened, clock: Hands) -> None:
    store = opened(**SHORT)
    for day in range(12):
        clock.now = NOW + day * DAY
        put(store, clock.now, [LASTING, *(pod(day, i) for i in range(50))])
        store.apply_retention()
        index = store._index
        assert len(index._by_labels) <= 4 * 50 + 1
        assert len(index._pairs) <= 4 * 50 + 4
        assert sum(map(len, index._postings.values())) <= 4 * 50 + 4
        assert store.status().series <= 4 * 50 + 1
    with store.database.read() as con:
        row = con.execute("SELECT count(*) FROM series").fetchone()
    assert row is not None
    assert row[0] <= 4 * 50 + 1
    held = set(store.select_series((), 0, 1 << 60, LOCAL))
    assert held == set(opened(**SHORT).select_series((), 0, 1 << 60, LOCAL))
    assert LASTING in held
    assert pod(11, 3) in held
    assert pod(0, 3) not in held


def test_numbers_go_on_after_series_were_freed(opened: Opened, clock: Hands) -> None:
    store = opened(**SHORT)
    put(store, NOW, [pod(0, i) for i in range(5)])
    put(store, NOW, [LASTING])
    for days in (1, 2, 3, 4):
        clock.now = NOW + days * DAY
        put(store, clock.now, [LASTING])
    store.apply_retention()
    for reopen in (False, True):
        reader = opened(**SHORT) if reopen else store
        again = pod(0, 0) if reopen else pod(9, 9)
        put(reader, clock.now, [again])
        got = reader.scan((Matcher("job", MatchOp.EQUAL, "pods"),), clock.now, clock.now, LOCAL)
        assert again in got.labels
        lasting = reader.scan((Matcher("job", MatchOp.EQUAL, "lasting"),), 0, 1 << 60, LOCAL)
        assert lasting.labels == (LASTING,)
        assert lasting.ts.tolist()[-1] == clock.now


def test_a_sender_of_a_freed_series_makes_it_anew(opened: Opened, clock: Hands) -> None:
    store = opened(**SHORT)
    receiver = WriteReceiver()
    receiver.table.warm(wait=True)

    def send(labels: Labels) -> None:
        outcome: list[tuple[object, SampleCounts | Exception]] = []
        body = snappy(series(labels, [(clock.now, 1)]))
        store.submit(receiver.open(body, "application/x-protobuf", "snappy"), 0, outcome.extend)
        put(store, clock.now - 1, [LASTING])  # goes the same way, so the other is settled after it
        assert isinstance(outcome[0][1], SampleCounts)
        assert outcome[0][1].accepted == 1

    send(pod(0, 0))
    send(pod(0, 1))
    clock.now = NOW + 5 * DAY
    send(pod(0, 1))
    store.apply_retention()
    clock.now += 10
    send(pod(0, 0))
    send(pod(0, 1))
    got = store.scan((), clock.now, clock.now, LOCAL)
    assert set(got.labels) == {pod(0, 0), pod(0, 1)}
