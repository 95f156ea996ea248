"""Encryption at rest: nothing readable on the disk, one clear line without the right key, plain stores converted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from tests.e2e.kill_cycles import QUIET, ClockedService
from tests.e2e.process import aiops, one_line, until
from tests.e2e.senders import JSON, WRITE
from tests.unit.ingest.encode import series, snappy

pytest.importorskip("duckdb_extension_httpfs", reason="the extra encryption is not installed")

MARKS = (b"zebrafish", b"quokka", b"axolotl")
"""In a label's value, a log line and a span's name."""
ONE = 0x3FF0000000000000
KEY = 'correct horse\'s "battery" staple'


def fill(service: ClockedService, at: int) -> None:
    body = b"".join(
        series((("__name__", "m"), ("animal", "zebrafish"), ("i", str(i))), [(at, ONE)]) for i in range(500)
    )
    assert service.http.post("/api/v1/write", content=snappy(body), headers=WRITE).status_code == 204
    records = [
        {"timeUnixNano": str(at * 10**6), "body": {"stringValue": f"the quokka number {i} smiles"}} for i in range(500)
    ]
    logs = {"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}
    assert service.http.post("/v1/logs", json=logs, headers=JSON).status_code == 200
    spans = [
        {
            "traceId": f"{i + 1:032x}", "spanId": f"{at + i:016x}", "name": "axolotl walk", "kind": 2,
            "startTimeUnixNano": str(at * 10**6), "endTimeUnixNano": str(at * 10**6 + 5),
        }
        for i in range(500)
    ]  # fmt: skip
    traces = {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}
    assert service.http.post("/v1/traces", json=traces, headers=JSON).status_code == 200


def readable(folder: Path) -> set[tuple[str, bytes]]:
    """Files of the folder in which one of the marks can be read."""
    files = [p for p in folder.rglob("*") if p.is_file()]
    assert files
    return {(p.relative_to(folder).as_posix(), mark) for p in files for mark in MARKS if mark in p.read_bytes()}


def config(**store: object) -> dict[str, object]:
    return {**QUIET, "store": store}


def test_nothing_readable_reaches_the_disk(tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text(KEY + "\n")
    service = ClockedService(tmp_path / "home", config(encryption_key_file=str(key_file), memory_limit="300MB"))
    try:
        now = service.clock()
        fill(service, now)
        assert readable(service.data) == set(), "journal and log"
        service.kill()
        assert any("journal" in p.as_posix() for p in service.data.rglob("*.wal")), "the journal takes part"
        assert readable(service.data) == set()
        service.start()
        assert service.query('count(m{animal="zebrafish"})', at_ms=now)[0]["value"][1] == "500"
        service.clock.advance(3 * 3600_000)
        fill(service, service.clock())
        until(lambda: service.http.get("/api/v1/store").json()["open_blocks"] <= 1)
        assert service.http.get("/api/v1/store").json()["encrypted"] is True
        target = tmp_path / "backup"
        assert service.http.post("/api/v1/store/backup", json={"folder": str(target)}).status_code == 200
        assert service.stop() == 0
        assert readable(service.data) == set(), "the file after compaction and a checkpoint"
        assert readable(target) == set(), "a backup is encrypted as its original"
        with_key = {"AIOPS_STORE__ENCRYPTION_KEY_FILE": str(key_file)}
        assert aiops(tmp_path, "store", "verify", str(target), env=with_key).returncode == 0
        assert "encrypted" in one_line(aiops(tmp_path, "store", "verify", str(target)))
        service.start()
        assert service.query('count(count_over_time(m{animal="zebrafish"}[4h]))')[0]["value"][1] == "500"
        found = {one["signal"]: one["rows"] for one in service.http.get("/api/v1/store").json()["signals"]}
        assert found["logs"] >= 1000, "the service's own lines are among them"
        assert found["traces"] >= 1000
    finally:
        service.close()


@pytest.mark.nightly
def test_a_missing_or_wrong_key_is_one_line(tmp_path: Path) -> None:
    data = tmp_path / "data"
    right = {"AIOPS_STORE__ENCRYPTION_KEY": KEY}
    assert aiops(tmp_path, "store", "status", "--data-dir", str(data), env=right).returncode == 0
    serve = ("serve", "--port", "0", "--data-dir", str(data))
    said = one_line(aiops(tmp_path, *serve))
    assert "is encrypted" in said
    assert "store.encryption_key" in said
    said = one_line(aiops(tmp_path, *serve, env={"AIOPS_STORE__ENCRYPTION_KEY": "wrong"}))
    assert "the key is wrong" in said
    said = one_line(aiops(tmp_path, *serve, env={**right, "AIOPS_STORE__ENCRYPTION_KEY_FILE": str(tmp_path / "none")}))
    assert "Both" in said
    said = one_line(aiops(tmp_path, *serve, env={"AIOPS_STORE__ENCRYPTION_KEY_FILE": str(tmp_path / "none")}))
    assert "cannot be read" in said
    shown = aiops(tmp_path, "config", "show", env=right)
    assert shown.returncode == 0
    assert KEY not in shown.stdout + shown.stderr
    plain = tmp_path / "plain"
    assert aiops(tmp_path, "store", "status", "--data-dir", str(plain)).returncode == 0
    said = one_line(aiops(tmp_path, "serve", "--port", "0", "--data-dir", str(plain), env=right))
    assert "is not encrypted" in said
    assert "aiops store encrypt" in said


@pytest.mark.nightly
def test_a_plain_store_is_encrypted_with_all_its_rows(tmp_path: Path) -> None:
    service = ClockedService(tmp_path / "home", config())
    try:
        now = service.clock()
        fill(service, now)
        service.kill()
        assert readable(service.data), "it was plain"
        key = {"AIOPS_STORE__ENCRYPTION_KEY": KEY}
        said = one_line(aiops(tmp_path, "store", "encrypt", "--data-dir", str(service.data)))
        assert "No key is set" in said
        done = aiops(tmp_path, "store", "encrypt", "--data-dir", str(service.data), env=key)
        assert done.returncode == 0, done.stderr
        assert readable(service.data) == set()
        again = aiops(tmp_path, "store", "encrypt", "--data-dir", str(service.data), env=key)
        assert "encrypted already" in one_line(again)
    finally:
        service.close()
    other = ClockedService(tmp_path / "home", config(encryption_key=KEY))
    try:
        assert other.query('count(m{animal="zebrafish"})', at_ms=now)[0]["value"][1] == "500"
        found = {one["signal"]: one["rows"] for one in other.http.get("/api/v1/store").json()["signals"]}
        assert found["logs"] >= 500
        assert found["traces"] >= 500
        other.kill()
        other.start()
        assert other.query('count(m{animal="zebrafish"})', at_ms=now)[0]["value"][1] == "500", "after a crash as well"
    finally:
        other.close()


@pytest.mark.nightly
def test_plain_duckdb_opens_it_with_the_digest_of_the_key(tmp_path: Path) -> None:
    """As docs/operations.md says, for who has to read a store without aiops."""
    import hashlib

    import duckdb_extension_httpfs

    data = tmp_path / "data"
    key = {"AIOPS_STORE__ENCRYPTION_KEY": KEY}
    assert aiops(tmp_path, "store", "status", "--data-dir", str(data), env=key).returncode == 0
    extension = next(Path(duckdb_extension_httpfs.__file__).parent.rglob("httpfs.duckdb_extension"))
    con = duckdb.connect()
    con.execute(f"LOAD '{extension}'")
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    con.execute(f"ATTACH '{data / 'telemetry.duckdb'}' AS t (ENCRYPTION_KEY '{digest}', READ_ONLY)")
    assert con.execute("SELECT count(*) FROM t.series").fetchone() is not None


@pytest.mark.nightly
def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    """The module is hidden from a child process, as if it were not installed."""
    code = (
        "import sys; sys.modules['duckdb_extension_httpfs'] = None\n"
        "import importlib.util as u; old = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'duckdb_extension_httpfs' else old(name, *a)\n"
        "from aiops.cli.app import run; sys.exit(run(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "store", "status", "--data-dir", str(tmp_path / "data")]
    env = {**os.environ, "AIOPS_STORE__ENCRYPTION_KEY": KEY}
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "aiops-assistant[encryption]" in one_line(done)
