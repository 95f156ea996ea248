"""SIGKILL over and over, during ingest, compaction and retention, and the account of every row afterwards.

The service runs as a user starts it, with a clock that the test moves on by 2 h 15 min a cycle, so that a block closes
and is compacted in each, and a day leaves the retention every eleventh.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from aiops.core.principal import LOCAL
from aiops.core.signals import LogQuery
from aiops.settings import StoreSettings
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore
from tests.e2e.clocked import LeadClock
from tests.e2e.forked import MOULD
from tests.e2e.process import READY_S, Service, until
from tests.e2e.senders import SAMPLES, SERIES, Request, Sender
from tests.integration.servers import free_port

ROOT = Path(__file__).parents[2]
STEP_MS = 135 * 60_000
DAY_MS, BLOCK_MS = 86_400_000, 7_200_000
RETENTION_DAYS = 1
QUIET: dict[str, object] = {"detection": {"enabled": False}, "connectors": {"telemetry": {}, "inbound": {}}}


class ClockedService(Service):
    """``aiops serve`` whose clock is :attr:`clock`, forked from a process that has imported it already."""

    def __init__(self, folder: Path, config: dict[str, object], port: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.clock = LeadClock(folder / "lead")
        env = {"CLOCK_LEAD_FILE": str(self.clock.place), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        super().__init__(folder, config, env, port)

    def start(self, port: int = 0) -> None:
        port = port or free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.http.base_url = httpx.URL(self.url)
        arguments = ["serve", "--port", str(port), "--data-dir", str(self.data)]
        self.process = MOULD.start(self.folder, arguments, self._env, self.log)  # type: ignore[assignment]
        until(self._up, READY_S)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)


@dataclass
class Account:
    """What a run of kill cycles came to."""

    cycles: int = 0
    requests: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    replayed: int = 0
    kept: int = 0
    """Acknowledged rows within the retention, each of which has to be found exactly once."""
    retired: int = 0
    """Acknowledged rows of days that the retention may drop."""
    lost: int = 0
    doubled: int = 0
    foreign: int = 0
    torn: int = 0
    compacted: int = 0
    dropped: int = 0
    seconds: float = 0.0
    errors: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        sent = ", ".join(f"{n:,} {kind}" for kind, n in sorted(self.rows.items()))
        return [
            f"kill-cycle log: {self.cycles} SIGKILLs in {self.seconds:.0f} s",
            f"  acknowledged {self.requests:,} requests: {sent}; replayed {self.replayed} requests",
            f"  compacted {self.compacted} blocks, retention dropped {self.dropped} tables while senders were sending",
            f"  of {self.kept:,} rows within the retention: lost {self.lost}, doubled {self.doubled}, "
            f"torn {self.torn}, foreign {self.foreign}; {self.retired:,} were old enough to be dropped",
        ]


def run(folder: Path, cycles: int, senders: int = 4, seed: int = 1, seconds: float = 1e9) -> Account:
    """Run ``cycles`` kills below ``folder`` and count what became of every acknowledged row.

    After ``seconds`` it ends with the cycle that is under way.
    """
    started = time.monotonic()
    rng = random.Random(seed)
    account = Account()
    config: dict[str, object] = {**QUIET, "store": {"retention_days": RETENTION_DAYS}}
    service = ClockedService(folder, config)
    port = int(service.url.rpartition(":")[2])
    sending = [Sender(n, lambda: service.url, service.clock) for n in range(senders)]
    for sender in sending:
        sender.start()
    cutoff_ms = 0
    try:
        for cycle in range(cycles + 1):
            _make_progress(sending)
            service.clock.advance(STEP_MS)
            retiring = threading.Thread(target=_retire, args=(service.url, account))
            if cycle % 2:
                retiring.start()
            else:  # without senders the writer is idle at once and compacts
                _close(sending)
                _open(sending)
            time.sleep(rng.uniform(0.0, 0.6))
            cutoff_ms = service.clock() - RETENTION_DAYS * DAY_MS
            if cycle == cycles or time.monotonic() - started > seconds:
                break
            service.kill()
            account.cycles += 1
            in_flight = _close(sending)
            if retiring.ident is not None:
                retiring.join(10)
            service.start(port)
            account.torn += sum(_is_torn(service, sender) for sender in in_flight)
            _open(sending)
        for sender in sending:
            sender.stop()
        _settle(service)
        blocks = {t // BLOCK_MS for s in sending for t, _ in s.tally.acknowledged["metrics"]}
        account.compacted = len(blocks) - int(service.http.get("/api/v1/store").json()["open_blocks"])
        assert service.stop() == 0, service.said()
    finally:
        for sender in sending:
            sender.ending.set()
        service.close()
    for sender in sending:
        account.requests += sender.tally.requests
        account.replayed += sender.tally.replayed
        account.errors += sender.tally.errors
        for kind, rows in sender.tally.acknowledged.items():
            account.rows[kind] += len(rows)
    _count(folder, service, sending, cutoff_ms, account)
    account.seconds = time.monotonic() - started
    return account


def _make_progress(sending: list[Sender], requests: int = 6) -> None:
    before = [s.tally.requests for s in sending]
    deadline = time.monotonic() + 60
    while any(s.tally.requests < b + requests for s, b in zip(sending, before, strict=True)):
        assert time.monotonic() < deadline, "the service took nothing for a minute"
        time.sleep(0.01)


def _close(sending: list[Sender]) -> list[Sender]:
    """No new requests; gives the senders whose last one was not acknowledged."""
    for sender in sending:
        sender.wait()
    return [s for s in sending if s.in_flight is not None]


def _open(sending: list[Sender]) -> None:
    for sender in sending:
        sender.gate.set()


def _retire(url: str, account: Account) -> None:
    try:
        reply = httpx.post(f"{url}/api/v1/store/retention", trust_env=False, timeout=10)
    except httpx.TransportError:
        return
    if reply.is_success:
        account.dropped += int(reply.json()["dropped"])


def _is_torn(service: Service, sender: Sender) -> bool:
    """Whether a body that was not acknowledged is there in part."""
    request: Request | None = sender.in_flight
    if request is None or request.signal != "metrics":
        return False
    last = max(ts for ts, _ in request.rows)
    times = {ts for ts, _ in request.rows}
    found = service.query(f'm{{sender="{sender.number}"}}[1s]', at_ms=last)
    held = sum(round(float(at) * 1000) in times for one in found for at, _ in one["values"])
    return held not in (0, SERIES * SAMPLES)


def _settle(service: Service) -> None:
    """Until every closed block is compacted."""
    until(lambda: service.http.get("/api/v1/store").json()["open_blocks"] <= 2, 120)


def _count(folder: Path, service: ClockedService, sending: list[Sender], cutoff_ms: int, account: Account) -> None:
    """Read everything from the file and hold it against what was acknowledged."""
    database = TelemetryDatabase(folder / "data" / "telemetry.duckdb", StoreSettings(), service.clock)
    store = TelemetryStore(database)
    try:
        block = store.scan((), 0, 1 << 60, LOCAL)
        found: dict[str, Counter[tuple[str, int, str]]] = {"metrics": Counter(), "logs": Counter(), "traces": Counter()}
        for i, labels in enumerate(block.labels):
            who = dict(labels)
            if who["__name__"] != "m":
                continue  # the service's own
            times, values = block.series(i)
            account.torn += int((times != values).sum())
            found["metrics"].update((who["sender"], t, who["i"]) for t in times.tolist())
        for record in store.logs(LogQuery(0, 1 << 43, limit=10**7), LOCAL):
            if record.service:
                continue
            line = record.body.raw
            found["logs"][line.split()[0], record.time_unix_nano // 10**6, line] += 1
        for span in store.spans(0, 1 << 43, LOCAL, limit=10**7):
            if span.service:
                continue
            found["traces"][str(int(span.trace_id[:8], 16)), span.start_unix_nano // 10**6, span.trace_id] += 1
    finally:
        store.close()
    for kind, rows in found.items():
        sent = [(str(s.number), t, key) for s in sending for t, key in s.tally.acknowledged[kind]]
        # What is older may be there still: a day that is packed goes whole, a block that is not yet packed by itself.
        wanted = {row for row in sent if row[1] >= cutoff_ms}
        account.kept += len(wanted)
        account.retired += len(sent) - len(wanted)
        account.lost += len(wanted - rows.keys())
        account.doubled += sum(n - 1 for n in rows.values())
        account.foreign += len(rows.keys() - set(sent))
        account.torn += _half_dropped((row for row in sent if row[1] < cutoff_ms), rows)


def _half_dropped(old: Iterable[tuple[str, int, str]], rows: Counter[tuple[str, int, str]]) -> int:
    """Days before the retention that are there in part: a day goes whole, an open block goes whole."""
    states: dict[int, set[bool]] = {}
    for row in old:
        states.setdefault(row[1] // BLOCK_MS, set()).add(row in rows)
    return sum(len(seen) > 1 for seen in states.values())
