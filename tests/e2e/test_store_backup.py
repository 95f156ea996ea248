"""Backups of a service that runs: consistent, verified, restorable, and never half there."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.kill_cycles import QUIET, ClockedService
from tests.e2e.process import AIOPS, Service, aiops, environment, one_line, until
from tests.e2e.senders import Sender
from tests.e2e.test_store_faults import held


def backup_command(service: Service, target: Path) -> list[str]:
    return [*AIOPS, "store", "backup", str(target), "--url", service.url, "--json"]


def test_a_backup_holds_all_that_was_acknowledged_before_it(tmp_path: Path) -> None:
    service = ClockedService(tmp_path / "home", QUIET)
    senders = [Sender(n, lambda: service.url, service.clock) for n in range(3)]
    target = tmp_path / "backup"
    restored = None
    try:
        for sender in senders:
            sender.start()
        until(lambda: all(s.tally.requests > 15 for s in senders))
        before = [{kind: list(rows) for kind, rows in s.tally.acknowledged.items()} for s in senders]
        done = subprocess.run(
            backup_command(service, target), env=environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert report["left_out"] == []
        taken = [s.tally.requests for s in senders]
        until(lambda: all(s.tally.requests > n for s, n in zip(senders, taken, strict=True)), 10)
        for sender in senders:
            sender.stop()
            assert sender.tally.errors == []
        assert "exists" in one_line(aiops(tmp_path, "store", "backup", str(target), "--url", service.url))
        assert service.stop() == 0

        checked = aiops(tmp_path, "store", "verify", str(target))
        assert checked.returncode == 0, checked.stderr
        assert f"{report['files']} files" in checked.stdout
        home = tmp_path / "restored"
        assert aiops(tmp_path, "store", "restore", str(target), "--data-dir", str(home / "data")).returncode == 0
        again = aiops(tmp_path, "store", "restore", str(target), "--data-dir", str(home / "data"))
        assert "is not empty" in one_line(again)
        restored = ClockedService(home, QUIET)
        for sender, had in zip(senders, before, strict=True):
            stored, _ = held(restored, sender)
            assert stored >= len(had["metrics"])
        found = {one["signal"]: one["rows"] for one in restored.http.get("/api/v1/store").json()["signals"]}
        assert found["logs"] >= sum(len(had["logs"]) for had in before)
        assert found["traces"] >= sum(len(had["traces"]) for had in before)
        assert restored.http.get("/api/v1/audit/verify").json()["whole"] is True
        resumed = Sender(7, lambda: restored.url, restored.clock)
        resumed.start()
        until(lambda: resumed.tally.requests > 5)
        resumed.stop()
    finally:
        for sender in senders:
            sender.ending.set()
        service.close()
        if restored is not None:
            restored.close()


def test_a_backup_that_is_killed_leaves_nothing_under_its_name(tmp_path: Path) -> None:
    service = ClockedService(tmp_path / "home", QUIET)
    sender = Sender(0, lambda: service.url, service.clock)
    target = tmp_path / "backup"
    fresh = tmp_path / ".backup.unfinished"
    try:
        sender.start()
        until(lambda: sender.tally.requests > 20)
        asked = subprocess.Popen(
            backup_command(service, target), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 20
        while not fresh.exists() and not target.exists() and time.monotonic() < deadline:
            time.sleep(0.001)
        service.kill()
        asked.wait(30)
        assert not target.exists() or aiops(tmp_path, "store", "verify", str(target)).returncode == 0
        service.start()
        done = subprocess.run(backup_command(service, tmp_path / "second"), env=environment(), check=False)
        assert done.returncode == 0, "what the killed one left is no obstacle"
        sender.stop()
        stored, acknowledged = held(service, sender)
        assert stored == acknowledged
    finally:
        sender.ending.set()
        service.close()


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["telemetry.duckdb", "state.db", "manifest.json"])
def test_a_damaged_backup_is_refused(tmp_path: Path, name: str) -> None:
    data = tmp_path / "data"
    target = tmp_path / "backup"
    made = aiops(tmp_path, "store", "backup", str(target), "--data-dir", str(data))
    assert made.returncode == 0, made.stderr
    assert sqlite3.connect(target / "state.db").execute("SELECT count(*) FROM sqlite_master").fetchone()[0] > 5
    file = target / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x20
    file.write_bytes(content)
    for command in ("verify", "restore"):
        done = aiops(tmp_path, "store", command, str(target), "--data-dir", str(tmp_path / "new"))
        assert name in one_line(done)
    assert not list((tmp_path / "new").glob("*")), "nothing of it was taken"


@pytest.mark.nightly
def test_over_the_network_backups_go_below_the_configured_folder(tmp_path: Path) -> None:
    data = tmp_path / "home" / "data"
    made = aiops(tmp_path, "keys", "create", "root", "--role", "admin", "--data-dir", str(data))
    key = next(word for word in made.stdout.split() if word.startswith("aiops_"))
    allowed = tmp_path / "backups"
    config = {**QUIET, "server": {"auth": "keys"}, "store": {"backup_dir": str(allowed)}}
    service = Service(tmp_path / "home", config)
    service.http.headers["authorization"] = f"Bearer {key}"
    try:
        ask = service.http.post
        for outside in (tmp_path / "elsewhere", allowed / ".." / "elsewhere"):
            assert ask("/api/v1/store/backup", json={"folder": str(outside)}).status_code in (400, 403)
        assert not (tmp_path / "elsewhere").exists()
        assert ask("/api/v1/store/backup", json={"folder": str(allowed / "monday")}).status_code == 200
        assert (allowed / "monday" / "manifest.json").exists()
        entries = service.http.get("/api/v1/audit", params={"action": "store.backup"}).json()["entries"]
        assert len(entries) == 1
    finally:
        service.close()


@pytest.mark.nightly
def test_a_stop_signal_during_a_backup_waits_for_nothing_half(tmp_path: Path) -> None:
    service = ClockedService(tmp_path / "home", QUIET)
    try:
        asked = subprocess.Popen(backup_command(service, tmp_path / "b"), env=environment(), stdout=subprocess.DEVNULL)
        service.process.send_signal(signal.SIGTERM)
        asked.wait(60)
        service.process.wait(60)
        assert not (tmp_path / "b").exists() or (tmp_path / "b" / "manifest.json").exists()
    finally:
        service.close()
