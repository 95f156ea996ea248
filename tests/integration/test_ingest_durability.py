"""What was acknowledged survives SIGKILL; what is sent again adds nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx

from aiops.core.principal import LOCAL
from aiops.core.signals import LogQuery
from aiops.settings import StoreSettings
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore
from tests.integration.servers import free_port
from tests.unit.ingest.encode import series, snappy

CYCLES = 5
SENDERS = 4
WRITE = {"content-encoding": "snappy", "content-type": "application/x-protobuf"}
ROOT = Path(__file__).parents[2]


class Sender(threading.Thread):
    """Sends batches one after the other, each until it is acknowledged, over all lives of the server."""

    def __init__(self, number: int, url: str, start_ms: int) -> None:
        super().__init__(daemon=True)
        self.number, self.url, self.start_ms = number, url, start_ms
        self.ending = threading.Event()
        self.acknowledged = self.repeated = 0
        self.refusals: list[str] = []

    def run(self) -> None:
        with httpx.Client(trust_env=False, timeout=10) as client:
            batch = 0
            while not self.ending.is_set():
                try:
                    answers = [client.post(self.url + p, content=c, headers=h) for p, c, h in self.bodies(batch)]
                except httpx.TransportError:
                    self.repeated += 1
                    time.sleep(0.02)
                    continue
                self.refusals += [a.text for a in answers if a.status_code >= 300]
                batch += 1
                self.acknowledged = batch

    def bodies(self, batch: int) -> list[tuple[str, bytes, dict[str, str]]]:
        ts = self.start_ms + batch
        metrics = b"".join(
            series((("__name__", "m"), ("i", str(i)), ("sender", str(self.number))), [(ts, 0x3FF0000000000000 + batch)])
            for i in range(50)
        )
        record = {"timeUnixNano": str(ts * 10**6), "body": {"stringValue": f"{self.number} {batch}"}}
        logs = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}
        return [
            ("/api/v1/write", snappy(metrics), WRITE),
            ("/v1/logs", json.dumps(logs).encode(), {"content-type": "application/json"}),
        ]


def serve(folder: Path, port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.unit.ingest.app", str(folder), str(port)]
    return subprocess.Popen(command, cwd=ROOT)


def test_nothing_acknowledged_is_lost_over_kills(tmp_path: Path) -> None:
    port = free_port()
    start_ms = int(time.time() * 1000) - 60_000
    senders = [Sender(n, f"http://127.0.0.1:{port}", start_ms) for n in range(SENDERS)]
    for sender in senders:
        sender.start()
    for cycle in range(CYCLES + 1):
        before = [s.acknowledged for s in senders]
        process = serve(tmp_path, port)
        try:
            deadline = time.monotonic() + 60
            while any(s.acknowledged < b + 5 + 3 * cycle for s, b in zip(senders, before, strict=True)):
                assert process.poll() is None, "the server ended by itself"
                assert time.monotonic() < deadline, "the server took nothing"
                time.sleep(0.01)
        finally:
            if cycle == CYCLES:
                for sender in senders:
                    sender.ending.set()
                    sender.join(20)
            process.send_signal(signal.SIGKILL)
            process.wait(10)
    assert sum(s.repeated for s in senders) > 0
    assert [s.refusals for s in senders] == [[]] * SENDERS

    store = TelemetryStore(TelemetryDatabase(tmp_path / "telemetry.duckdb", StoreSettings()))
    try:
        block = store.scan((), 0, 1 << 60, LOCAL)
        assert len(block) == SENDERS * 50
        for i, labels in enumerate(block.labels):
            sent = senders[int(dict(labels)["sender"])].acknowledged
            ts, values = block.series(i)
            assert ts.tolist() == list(range(start_ms, start_ms + sent)), "each batch once, none lost"
            assert (values.view("u8") - 0x3FF0000000000000).tolist() == list(range(sent))
        lines = store.logs(LogQuery(0, 1 << 43, limit=10**6), LOCAL)
        wanted = sorted(f"{s.number} {b}" for s in senders for b in range(s.acknowledged))
        assert sorted(line.body.raw for line in lines) == wanted
    finally:
        store.close()
