from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aiops.core.errors import ConfigError
from aiops.settings import StoreSettings
from aiops.store.telemetry.database import TelemetryDatabase

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
        with pytest.raises(ConfigError, match=f"in use by pid {holder.pid}"):
            TelemetryDatabase(path, StoreSettings())
        holder.communicate("")
    TelemetryDatabase(path, StoreSettings()).close()


def test_the_same_process_may_not_open_it_twice(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.duckdb"
    first = TelemetryDatabase(path, StoreSettings())
    with pytest.raises(ConfigError, match=f"in use by pid {os.getpid()}"):
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


def test_one_bad_write_does_not_fail_its_neighbours(tmp_path: Path) -> None:
    import threading
    from concurrent.futures import ThreadPoolExecutor

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
