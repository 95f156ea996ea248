from __future__ import annotations

import errno
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiops.core.errors import TransientError
from aiops.core.ports import Collected
from aiops.core.principal import LOCAL
from aiops.core.series import Labels, Matcher, MatchOp, SampleBlock, labels_of
from aiops.settings import StoreSettings
from aiops.store.telemetry import head as head_module
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.journal import Frame, Journal
from aiops.store.telemetry.store import AppendReport, TelemetryStore
from aiops.store.telemetry.unspilled import Unspilled
from tests.unit.store.telemetry.conftest import NOW, Hands

HOUR = 3_600_000
Opened = Callable[..., TelemetryStore]


def metric(i: int) -> Labels:
    return labels_of({"__name__": "m", "i": str(i), "odd": 'quote " \u00fc'})


def put(store: TelemetryStore, ts: int, *values: float) -> AppendReport:
    return store.append(Collected(SampleBlock.at(ts, [(metric(i), v) for i, v in enumerate(values)])))


def everything(store: TelemetryStore) -> dict[Labels, list[tuple[int, float]]]:
    got = store.scan((), 0, 1 << 60, LOCAL)
    return {
        labels: list(zip(got.series(i)[0].tolist(), got.series(i)[1].tolist(), strict=True))
        for i, labels in enumerate(got.labels)
    }


def crashed(store: TelemetryStore, folder: Path) -> TelemetryStore:
    """What another process finds when this one is gone without a word: a copy of the files as they are now."""
    folder.mkdir()
    path = store.database.path
    assert path is not None
    for name in (path.name, path.name + ".wal"):
        if (path.parent / name).exists():
            shutil.copy(path.parent / name, folder / name)
    shutil.copytree(path.with_suffix(".journal"), folder / path.with_suffix(".journal").name)
    return TelemetryStore(TelemetryDatabase(folder / path.name, StoreSettings(), store.database.clock))


def segments(store: TelemetryStore) -> list[Path]:
    assert store.database.path is not None
    return sorted(store.database.path.with_suffix(".journal").glob("*.wal"))


def test_what_is_acknowledged_is_found_after_a_crash_before_and_after_a_spill(
    store: TelemetryStore, tmp_path: Path
) -> None:
    put(store, NOW - 3, 1.0, float("nan"))
    first = crashed(store, tmp_path / "a")
    assert repr(everything(first)) == repr(everything(store))
    assert first.status().samples == 2
    store.flush()
    assert segments(store) == [], "the file holds everything"
    put(store, NOW - 2, 2.0, 3.0, 4.0)
    second = crashed(store, tmp_path / "b")
    assert repr(everything(second)) == repr(everything(store))
    assert put(second, NOW - 3, 1.0, float("nan")).duplicates == 2
    assert put(second, NOW - 2, 2.0, 0.5, 4.0) == AppendReport(duplicates=2, conflicts=1)
    assert second.status().samples == 5
    for opened in (first, second):
        opened.close()


def test_a_crash_between_the_commit_and_the_removal_of_a_segment_doubles_nothing(
    store: TelemetryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, NOW, 1.0, 2.0)
    monkeypatch.setattr(Journal, "remove_before", lambda *_: None)
    store.flush()
    assert len(segments(store)) == 1
    monkeypatch.undo()
    again = crashed(store, tmp_path / "a")
    assert again.status().samples == 2
    assert everything(again) == {metric(0): [(NOW, 1.0)], metric(1): [(NOW, 2.0)]}
    assert segments(again) == []
    again.close()


@pytest.mark.parametrize("cut", [1, 15, 40])
def test_a_torn_tail_is_cut_and_writing_goes_on(store: TelemetryStore, tmp_path: Path, cut: int) -> None:
    put(store, NOW - 2, 1.0)
    put(store, NOW - 1, 2.0)
    with segments(store)[-1].open("r+b") as file:
        file.truncate(file.seek(0, os.SEEK_END) - cut)
    again = crashed(store, tmp_path / "a")
    assert everything(again) == {metric(0): [(NOW - 2, 1.0)]}
    put(again, NOW, 3.0)
    assert everything(again) == {metric(0): [(NOW - 2, 1.0), (NOW, 3.0)]}
    again.close()


def test_damage_in_the_middle_is_told_and_what_follows_is_read(
    store: TelemetryStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(store, NOW - 3, 1.0)
    start = segments(store)[0].stat().st_size
    put(store, NOW - 2, 2.0, 5.0)  # with the second series, which is lost with this record
    put(store, NOW - 1, 3.0, 6.0)
    content = bytearray(segments(store)[0].read_bytes())
    content[start + 30] ^= 0xFF
    segments(store)[0].write_bytes(content)
    with caplog.at_level(logging.ERROR):
        again = crashed(store, tmp_path / "a")
    assert "damaged and lost" in caplog.text
    assert "1 samples of the journal belong to series that were lost" in caplog.text
    assert everything(again) == {metric(0): [(NOW - 3, 1.0), (NOW - 1, 3.0)]}
    assert next((tmp_path / "a").rglob("*.damaged")).read_bytes() == bytes(content)
    assert put(again, NOW, 1.0, 7.0).accepted == 2
    assert everything(again)[metric(1)] == [(NOW, 7.0)]
    again.close()


frames = st.lists(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 10**6), st.floats()), max_size=5), max_size=5)


@settings(deadline=None, max_examples=50)
@given(frames, st.data())
def test_any_damage_gives_back_only_whole_frames(
    tmp_path_factory: pytest.TempPathFactory, groups: list[list[tuple[int, int, float]]], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    journal = Journal(folder)
    written = []
    for k, group in enumerate(groups):
        sid, ts, values = (np.array([row[c] for row in group], t) for c, t in enumerate(("<i4", "<i8", "<f8")))
        journal.append([(k, (("__name__", f"m{k}"),))], sid, ts, values)
        written.append(repr((k, sid.tolist(), ts.tolist(), values.view("<u8").tolist())))
    journal.close()
    path = folder / "00000001.wal"
    if path.exists():
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(0, 3))):
            content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        path.write_bytes(content[: data.draw(st.integers(0, len(content)))])

    def shown(frame: Frame) -> str:
        return repr((frame.series[0][0], frame.sid.tolist(), frame.ts.tolist(), frame.values.view("<u8").tolist()))

    found = [shown(frame) for frame in Journal(folder).replay(0)]
    at = [written.index(one) for one in found]
    assert at == sorted(at)


def test_a_journal_that_cannot_be_written_refuses_and_takes_up_again(
    store: TelemetryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, NOW - 2, 1.0)
    size = segments(store)[0].stat().st_size
    real = os.fdatasync

    def full(_file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fdatasync", full)
    with pytest.raises(TransientError, match="No space left") as caught:
        put(store, NOW - 1, 2.0, 3.0)
    assert caught.value.retry_after_s
    assert segments(store)[0].stat().st_size == size, "nothing of the frame is left"
    assert everything(store) == {metric(0): [(NOW - 2, 1.0)]}
    monkeypatch.setattr(os, "fdatasync", real)
    assert put(store, NOW - 1, 2.0, 3.0) == AppendReport(accepted=2)
    assert everything(store)[metric(1)] == [(NOW - 1, 3.0)]
    again = crashed(store, tmp_path / "a")
    assert everything(again) == everything(store)
    again.close()


def test_reads_join_the_file_and_what_is_unspilled(opened: Opened, clock: Hands) -> None:
    store = opened(cache_bytes=0)
    wanted: list[tuple[int, float]] = []
    for k in range(6):
        put(store, NOW + k, float(k), 0.0)
        wanted.append((NOW + k, float(k)))
        if k % 3 == 2:
            store.flush()
        assert everything(store)[metric(0)] == wanted
        one = store.scan((Matcher("i", MatchOp.EQUAL, "0"),), NOW + 1, NOW + k, LOCAL)
        assert one.ts.tolist() == [t for t, _ in wanted[1:]]
    assert put(store, NOW - 30 * HOUR, 9.0).accepted == 1
    assert everything(store)[metric(0)] == [(NOW - 30 * HOUR, 9.0), *wanted]
    store.flush()
    assert everything(store)[metric(0)] == [(NOW - 30 * HOUR, 9.0), *wanted]
    assert put(store, NOW - 30 * HOUR, 9.0).duplicates == 1


def test_reads_stay_whole_while_samples_are_spilled(opened: Opened) -> None:
    store = opened(cache_bytes=0)
    stop = threading.Event()
    wrong: list[int] = []
    done = [0]

    def read() -> None:
        while not stop.is_set():
            least = done[0]
            got = store.scan((), 0, 1 << 60, LOCAL)
            times = got.ts.tolist()
            if len(times) < least or len(times) != len(set(times)):
                wrong.append(len(times))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for k in range(40):
        put(store, NOW + k, float(k))
        done[0] = k + 1
        if k % 2:
            store.flush()
    stop.set()
    for reader in readers:
        reader.join()
    assert wrong == []


def test_above_the_queues_bound_appends_are_refused_at_once(
    store: TelemetryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, NOW - 9, 1.0)
    monkeypatch.setattr(head_module, "QUEUE_BYTES", 500)
    outcomes: list[tuple[int, object]] = []
    taken = 0

    def fill() -> None:
        nonlocal taken
        for k in range(20):
            block = SampleBlock.at(NOW + k, [(metric(0), 1.0)])
            store.submit(head_module.BlockSource(block), k, outcomes.extend)
            taken += 1

    with store._spill.lock, pytest.raises(TransientError) as caught:  # the head's thread cannot go on
        fill()
    assert caught.value.retry_after_s == 1
    assert 0 < taken < 20
    deadline = time.monotonic() + 10
    while len(outcomes) < taken and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [k for k, _ in outcomes] == list(range(taken)), "what was taken is answered"
    assert put(store, NOW + 100, 1.0).accepted == 1


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(-3, 3) | st.integers(-(10**14), 10**14)), max_size=8))
)
def test_unspilled_rows_are_found_exactly(groups: list[list[tuple[int, int]]]) -> None:
    held = Unspilled()
    model: dict[tuple[int, int], float] = {}
    for k, group in enumerate(groups):
        fresh = {pair: float(k) for pair in group if pair not in model}
        sid, ts = (np.array([pair[c] for pair in fresh], t) for c, t in enumerate((np.int32, np.int64)))
        held.add(sid, ts, np.array(list(fresh.values())))
        asked = [*group, (9, 0), (0, 7), *model]
        if k % 3 == 2:
            held.rollback()
        else:
            held.commit()
            model |= fresh
        found, values = held.find(np.array([s for s, _ in asked], np.int32), np.array([t for _, t in asked], np.int64))
        assert found.tolist() == [pair in model for pair in asked]
        assert [v for v, hit in zip(values.tolist(), found, strict=True) if hit] == [
            model[pair] for pair in asked if pair in model
        ]
