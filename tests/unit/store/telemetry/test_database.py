from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aiops.core.errors import ConfigError, FolderInUse
from aiops.core.ports import Collected
from aiops.core.principal import LOCAL
from aiops.core.series import SampleBlock
from aiops.settings import StoreSettings
from aiops.store.telemetry.connection import why_not_opened
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore

HOLD = """
import sys, duckdb
con = duckdb.connect(sys.argv[1]); print("open", flush=True); sys.stdin.read()
"""


def test_a_second_process_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.duckdb"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(FolderInUse, match=f"in use by pid {holder.pid}"):
            TelemetryDatabase(path, StoreSettings())
        holder.communicate("")
    TelemetryDatabase(path, StoreSettings()).close()


def test_the_same_process_may_not_open_it_twice(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.duckdb"
    first = TelemetryDatabase(path, StoreSettings())
    with pytest.raises(FolderInUse, match=f"in use by pid {os.getpid()}"):
        TelemetryDatabase(path, StoreSettings())
    assert first.healthy()
    first.close()
    assert not first.healthy()
    TelemetryDatabase(path, StoreSettings()).close()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError) as caught:
        TelemetryDatabase(tmp_path / "file" / "data" / "t.duckdb", StoreSettings())
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_write_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ConfigError, match="cannot be written"):
            TelemetryDatabase(tmp_path / "t.duckdb", StoreSettings())
    finally:
        tmp_path.chmod(0o700)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.duckdb"
    path.write_text("hello " * 5000)
    with pytest.raises(ConfigError, match="cannot be opened") as caught:
        TelemetryDatabase(path, StoreSettings())
    assert "\n" not in str(caught.value)


def test_a_damaged_block_is_no_lock() -> None:
    said = "IO Error: Corrupt database file: computed checksum 1 does not match stored checksum 2 in block at 536576"
    error = why_not_opened(Path("/data/telemetry.duckdb"), said, has_key=False)
    assert not isinstance(error, FolderInUse)
    assert "is damaged" in str(error)


def test_one_bad_write_does_not_fail_its_neighbours(tmp_path: Path) -> None:
    database = TelemetryDatabase(tmp_path / "t.duckdb", StoreSettings())
    gate = threading.Event()
    database_write = database.write

    def hold(_tx: object, payloads: list[int]) -> list[int]:
        gate.wait(10)
        return payloads

    def work(_tx: object, payloads: list[int]) -> list[int]:
        return [10 // p for p in payloads]

    with ThreadPoolExecutor(5) as pool:
        blocked = pool.submit(database_write, hold, 0)
        good = [pool.submit(database_write, work, n) for n in (1, 2)]
        bad = pool.submit(database_write, work, 0)
        gate.set()
        assert blocked.result(10) == 0
        assert [f.result(10) for f in good] == [10, 5]
        with pytest.raises(ZeroDivisionError):
            bad.result(10)
    database.close()


def test_appends_around_another_write_share_a_commit_and_stay_unique(tmp_path: Path) -> None:
    """One series sent twice in one transaction, with an import of costs between."""
    gate = threading.Event()
    store = TelemetryStore(TelemetryDatabase(tmp_path / "t.duckdb", StoreSettings(), lambda: 1_000_000))
    block = Collected(samples=SampleBlock.build([((("__name__", "m"),), [5], [1.0])]))

    def hold(_tx: object, payloads: list[int]) -> list[int]:
        gate.wait(10)
        return payloads

    with ThreadPoolExecutor(5) as pool:
        blocked = pool.submit(store.database.write, hold, 0)
        first = pool.submit(store.append, block)
        between = pool.submit(store.apply_retention)
        second = pool.submit(store.append, block)
        gate.set()
        assert blocked.result(10) == 0
        reports = [first.result(10), second.result(10)]
        assert between.result(10).tables == 0
    assert sorted((r.accepted, r.duplicates) for r in reports) == [(0, 1), (1, 0)]
    store.close()
    again = TelemetryStore(TelemetryDatabase(tmp_path / "t.duckdb", StoreSettings(), lambda: 1_000_000))
    assert again.scan((), 0, 10, LOCAL).sample_count == 1
    again.close()


FILL = """
import resource, signal, sys, time
from pathlib import Path
import numpy as np
from aiops.core.errors import TransientError
from aiops.core.ports import Collected
from aiops.core.principal import LOCAL
from aiops.core.series import SampleBlock
from aiops.settings import StoreSettings
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore

NOW = 1_790_000_000_000
path, limit = Path(sys.argv[1]), int(sys.argv[2])
store = TelemetryStore(TelemetryDatabase(path, StoreSettings(), lambda: NOW))
rng = np.random.default_rng(1)
taken = {}

def put(batch):
    name = (("__name__", "m"), ("b", str(batch)))
    ts = np.arange(NOW - 20_000, NOW, dtype=np.int64)
    values = rng.random(20_000)
    assert store.append(Collected(samples=SampleBlock.build([(name, ts, values)]))).accepted == 20_000
    taken[name] = values

def check(reader):
    got = reader.scan((), 0, 1 << 60, LOCAL)
    assert set(got.labels) == set(taken), (len(got.labels), len(taken))
    for i, labels in enumerate(got.labels):
        assert np.array_equal(got.series(i)[1], taken[labels])

put(0)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
failed = 0
for batch in range(1, 60):
    try:
        put(batch)
    except TransientError as error:
        failed += 1
        assert error.retry_after_s
        if failed == 3:
            break
assert failed, "the limit was not reached"
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
deadline = time.monotonic() + 20
while True:
    try:
        put(1000)
        break
    except TransientError:
        assert time.monotonic() < deadline
        time.sleep(0.1)
check(store)
store.close()
again = TelemetryStore(TelemetryDatabase(path, StoreSettings(), lambda: NOW))
check(again)
again.close()
print("kept", len(taken), "failed", failed)
"""


@pytest.mark.parametrize("limit", [1 << 20, 3 << 20])
def test_a_disk_that_fills_up_loses_nothing_acknowledged(tmp_path: Path, limit: int) -> None:
    """Writes beyond a file size fail as on a full disk; the store takes up again when there is room."""
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(tmp_path / "t.duckdb"), str(limit)],
        cwd=Path(__file__).parents[4],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "kept" in done.stdout
