"""``aiops logs patterns`` and ``aiops traces graph`` on a data folder without a service."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from aiops.cli.app import run
from aiops.core.ports import Collected
from aiops.core.signals import LogRecord, Span
from aiops.core.untrusted import Untrusted
from aiops.ingest.log_templates.miner import TemplateMiner
from aiops.settings import StoreSettings
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store = TelemetryStore(TelemetryDatabase(tmp_path / "telemetry.duckdb", StoreSettings()))
    store.mine_logs_with(TemplateMiner())
    now = time.time_ns() - 60 * 1_000_000_000
    api = (("service.name", "api"),)
    logs = [LogRecord(now + i, Untrusted(f"job {i} took {i} ms"), 9, resource=api) for i in range(12)]
    logs.append(LogRecord(now, Untrusted("disk /dev/sda1 is full"), 17, resource=api))
    client = Span(
        "t" * 32, "c" * 16, "", Untrusted("GET"), "client", now, now + 30_000_000, "unset", (("service.name", "web"),)
    )
    server = Span("t" * 32, "d" * 16, "c" * 16, Untrusted("GET"), "server", now, now + 20_000_000, "unset", api)
    store.append(Collected(logs=tuple(logs), spans=(client, server)))
    store.close()
    return tmp_path


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def test_patterns_as_a_table_and_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["logs", "patterns", "--data-dir", str(folder)]) == 0
    table = capsys.readouterr().out
    assert "job <*> took <*> ms" in table and "12" in table and "error" in table
    assert run(["logs", "patterns", "--json", "--level", "error", "--data-dir", str(folder)]) == 0
    (found,) = json.loads(capsys.readouterr().out)["patterns"]
    assert (found["pattern"], found["count"], found["service"]) == ("disk <*> is full", 1, "api")
    assert run(["logs", "patterns", "--service", "none", "--data-dir", str(folder)]) == 0
    assert "No log lines" in capsys.readouterr().out
    assert run(["logs", "patterns", "--level", "loud", "--data-dir", str(folder)]) == 2


def test_the_graph_as_a_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["traces", "graph", "--data-dir", str(folder)]) == 0
    table = capsys.readouterr().out
    assert "web" in table and "api" in table and "10 ms" in table
