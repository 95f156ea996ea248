from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiops.core.errors import QueryError, TransientError
from aiops.core.ports import Collected
from aiops.core.principal import LOCAL, Principal, Role
from aiops.core.series import STALE_BITS, Labels, Matcher, MatchOp, MetricMetadata, SampleBlock, labels_of
from aiops.settings import StoreSettings
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import AppendReport, TelemetryStore
from tests.unit.store.telemetry.conftest import NOW, Hands

EQ, NE, RE, NRE = MatchOp.EQUAL, MatchOp.NOT_EQUAL, MatchOp.REGEX, MatchOp.NOT_REGEX
HOUR = 3_600_000


def metric(name: str, **labels: str) -> Labels:
    return labels_of({"__name__": name, **labels})


def block(*series: tuple[Labels, list[int], list[float]]) -> Collected:
    return Collected(samples=SampleBlock.build(series))


def everything(store: TelemetryStore, *matchers: Matcher) -> dict[Labels, list[tuple[int, int]]]:
    """Label set to (time, bits)."""
    got = store.scan(matchers, 0, 1 << 60, LOCAL)
    return {
        labels: list(zip(got.series(i)[0].tolist(), got.series(i)[1].view(np.uint64).tolist(), strict=True))
        for i, labels in enumerate(got.labels)
    }


def bits(value: float) -> int:
    return int(np.float64(value).view(np.uint64))


def test_what_was_written_is_read_back_after_reopening(opened: Callable[..., TelemetryStore]) -> None:
    up, down = metric("up", job="a"), metric("up", job="b")
    store = opened()
    report = store.append(block((up, [NOW - 2, NOW - 1], [1.0, 2.0]), (down, [NOW], [3.0])))
    assert report == AppendReport(accepted=3)
    wanted = {up: [(NOW - 2, bits(1.0)), (NOW - 1, bits(2.0))], down: [(NOW, bits(3.0))]}
    assert everything(store) == wanted
    again = opened()
    assert everything(again) == wanted
    assert again.status().samples == 3
    assert again.select_series((), NOW, NOW, LOCAL) == [down]


def test_every_kind_of_float_keeps_its_bits(store: TelemetryStore) -> None:
    words = np.array(
        [STALE_BITS, 0x7FF8000000000001, 0xFFF8000000000000, 0x7FF0000000000000, 0xFFF0000000000000, 1 << 63, 1, 0],
        np.uint64,
    )
    times = np.arange(len(words), dtype=np.int64) + NOW - 100
    for at in (times, times - 10 * HOUR):  # the open block and a closed one
        series = metric("odd", at=str(at[0]))
        store.append(Collected(samples=SampleBlock.build([(series, at, words.view(np.float64))])))
        assert [b for _, b in everything(store)[series]] == words.tolist()
        assert store.append(
            Collected(samples=SampleBlock.build([(series, at, words.view(np.float64))]))
        ) == AppendReport(duplicates=len(words))


def test_the_first_value_wins(store: TelemetryStore) -> None:
    m = metric("m")
    assert store.append(block((m, [NOW - 5, NOW - 5], [1.0, 2.0]))) == AppendReport(accepted=1, conflicts=1)
    assert store.append(block((m, [NOW - 5, NOW - 4], [3.0, 4.0]))) == AppendReport(accepted=1, conflicts=1)
    assert store.append(block((m, [NOW - 5, NOW - 4], [1.0, 4.0]))) == AppendReport(duplicates=2)
    assert everything(store)[m] == [(NOW - 5, bits(1.0)), (NOW - 4, bits(4.0))]


def test_late_samples_are_put_in_order(store: TelemetryStore) -> None:
    m = metric("m")
    store.append(block((m, [NOW - 10], [1.0])))
    store.append(block((m, [NOW - 30 * HOUR, NOW - 20, NOW - 15], [2.0, 3.0, 4.0])))
    store.append(block((m, [NOW - 40 * HOUR], [5.0])))
    times = [t for t, _ in everything(store)[m]]
    assert times == [NOW - 40 * HOUR, NOW - 30 * HOUR, NOW - 20, NOW - 15, NOW - 10]


def test_the_far_future_and_the_dropped_past_are_refused_one_by_one(store: TelemetryStore) -> None:
    m = metric("m")
    report = store.append(block((m, [NOW - 40 * 24 * HOUR, NOW, NOW + 600_000, NOW + 600_001], [1.0, 2.0, 3.0, 4.0])))
    assert report == AppendReport(accepted=2, too_new=1, too_old=1)


def test_closed_blocks_are_compacted_with_nothing_lost(store: TelemetryStore, clock: Hands) -> None:
    series = [metric("m", i=str(i)) for i in range(50)]
    for k in range(20):
        store.append(Collected(samples=SampleBlock.at(NOW - 20 + k, [(s, float(k)) for s in series])))
    before = everything(store)
    store.flush()
    clock.now += 5 * HOUR
    done = threading.Event()

    def wait() -> bool:
        if not store._partitions.numbers("head"):
            done.set()
        return False

    store.database.when_idle(wait)
    assert done.wait(10)
    assert store._partitions.numbers("chunks")
    assert everything(store) == before
    assert store.append(Collected(samples=SampleBlock.at(NOW - 20, [(s, 0.0) for s in series]))).duplicates == 50


def test_retention_drops_whole_days(opened: Callable[..., TelemetryStore], clock: Hands) -> None:
    store = opened(retention_days=2)
    old, new = metric("old"), metric("new")
    store.append(block((old, [NOW - 40 * HOUR], [1.0]), (new, [NOW - 40 * HOUR, NOW], [1.0, 2.0])))
    assert store.apply_retention().tables == 0
    clock.now += 48 * HOUR
    assert store.apply_retention().tables > 0
    assert everything(store) == {new: [(NOW, bits(2.0))]}
    assert store.select_series((), 0, 1 << 60, LOCAL) == [new]
    assert store.status().samples == 1
    assert everything(opened(retention_days=2)) == {new: [(NOW, bits(2.0))]}


def test_matchers(store: TelemetryStore) -> None:
    a, b, c = metric("up", job="api", zone="x"), metric("up", job="apiary"), metric("down")
    store.append(block(*((s, [NOW], [1.0]) for s in (a, b, c))))

    def select(*matchers: Matcher) -> list[Labels]:
        return store.select_series(matchers, NOW, NOW, LOCAL)

    assert select() == [a, b, c]
    assert select(Matcher("job", RE, "api")) == [a], "anchored"
    assert select(Matcher("job", RE, "api.*")) == [a, b]
    assert select(Matcher("job", RE, "api|")) == [a, c], "a missing label is the empty string"
    assert select(Matcher("job", EQ, "")) == [c]
    assert select(Matcher("job", NE, "api")) == [b, c]
    assert select(Matcher("job", NRE, "api.+")) == [a, c]
    assert select(Matcher("zone", NE, "")) == [a]
    assert select(Matcher("__name__", EQ, "up"), Matcher("zone", RE, ".+")) == [a]
    with pytest.raises(QueryError, match="error parsing regexp"):
        select(Matcher("job", RE, "("))
    assert store.label_names((), NOW, NOW, LOCAL) == ["__name__", "job", "zone"]
    assert store.label_values("job", (), NOW, NOW, LOCAL) == ["api", "apiary"]


def test_scope_holds_for_every_metric_read(store: TelemetryStore) -> None:
    mine, theirs, nobodys = metric("up", team="a"), metric("other", team="b"), metric("bare")
    store.append(
        Collected(
            samples=SampleBlock.build((s, [NOW], [1.0]) for s in (mine, theirs, nobodys)),
            metadata=(MetricMetadata("up", "gauge"), MetricMetadata("other", "gauge"), MetricMetadata("bare", "gauge")),
        )
    )
    for scope in (
        Matcher("team", EQ, "a"),
        Matcher("team", NE, "b"),
        Matcher("team", RE, "a|"),
        Matcher("team", NRE, "b"),
    ):
        who = Principal("key:x", Role.VIEWER, (scope,))
        assert store.scan((), 0, 1 << 60, who).labels == (mine,)
        assert store.select_series((), 0, 1 << 60, who) == [mine]
        assert [m.name for m in store.metadata(who)] == ["up"]
        assert store.label_values("team", (), 0, 1 << 60, who) == ["a"]


def test_metadata_and_cursor_survive(opened: Callable[..., TelemetryStore]) -> None:
    store = opened()
    store.append(Collected(metadata=(MetricMetadata("up", "gauge", "", "Is it up?"),), cursor="here"), source="prom")
    store.append(Collected(metadata=(MetricMetadata("up", "gauge", "", "Is it up now?"),)))
    again = opened()
    assert again.metadata(LOCAL) == [MetricMetadata("up", "gauge", "", "Is it up now?")]
    assert (again.cursor("prom"), again.cursor("else")) == ("here", "")


def test_many_writers_share_commits_and_lose_nothing(store: TelemetryStore) -> None:
    def write(worker: int) -> int:
        return sum(
            store.append(block((metric("m", w=str(worker), k=str(k)), [NOW], [float(k)]))).accepted for k in range(20)
        )

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(write, range(8))) == 160
    assert len(everything(store)) == 160


def test_reads_go_on_while_blocks_move(store: TelemetryStore, clock: Hands) -> None:
    m = metric("m")
    for hour in range(20):
        store.append(block((m, [NOW + hour * HOUR], [float(hour)])))
        clock.now = NOW + (hour + 1) * HOUR
        assert len(everything(store)[m]) == hour + 1


def test_a_full_disk_refuses_writes_and_serves_reads(
    opened: Callable[..., TelemetryStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()
    m = metric("m")
    store.append(block((m, [NOW], [1.0])))
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=1))
    with pytest.raises(TransientError, match="below the floor") as caught:
        store.append(block((m, [NOW + 1], [1.0])))
    assert caught.value.retry_after_s
    assert everything(store) == {m: [(NOW, bits(1.0))]}


def test_a_store_in_memory_has_no_retention() -> None:
    database = TelemetryDatabase(None, StoreSettings(), lambda: NOW)
    store = TelemetryStore(database)
    assert store.append(block((metric("m"), [-5000, 0], [1.0, 2.0]))).accepted == 2
    assert store.scan((), -6000, 0, LOCAL).sample_count == 2
    store.close()
    with pytest.raises(TransientError):
        store.append(block((metric("m"), [1], [1.0])))


sample = st.tuples(st.integers(0, 4), st.integers(0, 12), st.sampled_from([0.0, 1.0, float("nan")]))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(sample, max_size=12), max_size=5))
def test_any_order_of_appends_equals_the_first_of_each_series_and_time(
    appends: list[list[tuple[int, int, float]]],
) -> None:
    store = TelemetryStore(TelemetryDatabase(None, StoreSettings(), lambda: NOW))
    try:
        kept: dict[tuple[int, int], float] = {}
        for batch in appends:
            fresh = {(s, t) for s, t, _ in batch} - kept.keys()
            for s, t, value in batch:
                kept.setdefault((s, t), value)
            # `at`-like blocks: one sample each, label sets repeated and unordered.
            built = SampleBlock.build((metric("m", s=str(s)), [NOW - 7 * HOUR + t * HOUR], [v]) for s, t, v in batch)
            report = store.append(Collected(samples=built))
            late = sum(t > 7 for _, t in fresh)
            assert report.accepted == len(fresh) - late
        wanted = {(s, t): bits(v) for (s, t), v in kept.items() if t <= 7}
        got = {
            (int(dict(labels)["s"]), (t - NOW) // HOUR + 7): b
            for labels, pairs in everything(store).items()
            for t, b in pairs
        }
        assert got == wanted
    finally:
        store.close()
