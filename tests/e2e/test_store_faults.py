"""A disk that fills, time that stops or jumps, a damaged file: the behaviour that docs/operations.md states."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.kill_cycles import QUIET, ClockedService
from tests.e2e.process import Service, aiops, one_line, until
from tests.e2e.senders import JSON, WRITE, Sender
from tests.unit.ingest.encode import series, snappy

TMPFS_BYTES, FLOOR_BYTES = 160 << 20, 64 << 20
ONE = 0x3FF0000000000000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with little room; skips where it may not be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_BYTES}", "tmpfs", str(place)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def sample(name: str, ts_ms: int) -> bytes:
    return snappy(series((("__name__", name),), [(ts_ms, ONE)]))


def push(service: Service, name: str, ts_ms: int) -> httpx.Response:
    return service.http.post("/api/v1/write", content=sample(name, ts_ms), headers=WRITE)


def held(service: Service, sender: Sender) -> tuple[int, int]:
    """Samples that the service holds of a sender, and those that it acknowledged."""
    rows = sender.tally.acknowledged["metrics"]
    seconds = (max(t for t, _ in rows) - min(t for t, _ in rows)) // 1000 + 5
    found = service.query(f'count_over_time(m{{sender="{sender.number}"}}[{seconds}s])', at_ms=max(t for t, _ in rows))
    return sum(int(float(one["value"][1])) for one in found), len(set(rows))


def told(seconds: float) -> None:
    """The target is 1 s on a machine of its own; a shared one is given more."""
    print(f"refused after {seconds:.2f} s")
    assert seconds < 5


def test_a_full_disk_refuses_writes_answers_reads_and_recovers(small_disk: Path) -> None:
    config = {**QUIET, "store": {"free_space_floor_bytes": FLOOR_BYTES}}
    service = ClockedService(small_disk / "home", config)
    senders = [Sender(n, lambda: service.url, service.clock, ("metrics", "logs")) for n in range(2)]
    try:
        for sender in senders:
            sender.start()
        until(lambda: all(s.tally.requests > 10 for s in senders))
        ballast = small_disk / "ballast"
        free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
        ballast.write_bytes(bytes(free - FLOOR_BYTES + (8 << 20)))

        began = time.monotonic()
        reply = push(service, "one", service.clock())
        assert reply.status_code == 503
        told(time.monotonic() - began)
        assert int(reply.headers["retry-after"]) > 0
        assert "MB" in reply.json()["error" if "error" in reply.json() else "detail"]
        assert service.query('count(m{sender="0"})'), "reads go on"
        until(lambda: all(s.tally.refused > 0 for s in senders))

        taken = [s.tally.requests for s in senders]
        ballast.unlink()
        until(lambda: all(s.tally.requests > n for s, n in zip(senders, taken, strict=True)), 10)
        for sender in senders:
            sender.stop()
            assert sender.tally.errors == []
            stored, acknowledged = held(service, sender)
            assert stored == acknowledged
        service.kill()
        service.start()
        for sender in senders:
            stored, acknowledged = held(service, sender)
            assert stored == acknowledged, "and after a crash"
    finally:
        for sender in senders:
            sender.ending.set()
        service.close()


def reads(service: Service) -> bool:
    """Whether a read is answered; after a commit that failed the file is opened again, some tenths of a second."""
    reply = service.http.get("/api/v1/query", params={"query": 'count(m{sender="0"})'})
    assert reply.status_code in (200, 503), reply.text
    return reply.status_code == 200 and bool(reply.json()["data"]["result"])


def test_a_disk_that_fills_below_the_floor_loses_nothing(small_disk: Path) -> None:
    """Another program takes the last byte at once, so that no floor helps: the commit itself fails."""
    config = {**QUIET, "store": {"free_space_floor_bytes": 0}}
    service = ClockedService(small_disk / "home", config)
    sender = Sender(0, lambda: service.url, service.clock, ("metrics", "logs"), pad=4000)
    try:
        sender.start()
        until(lambda: sender.tally.requests > 10)
        ballast = small_disk / "ballast"
        with ballast.open("wb") as out:
            try:
                while True:
                    out.write(bytes(1 << 20))
                    out.flush()
            except OSError:
                pass
        until(lambda: sender.tally.refused > 2, 20)
        began = time.monotonic()
        large = Sender(9, str, service.clock, pad=400_000).logs(service.clock())
        reply = service.http.post(large.path, content=large.body, headers=JSON)
        assert reply.status_code == 503, reply.text
        told(time.monotonic() - began)
        assert int(reply.headers["retry-after"]) > 0
        until(lambda: reads(service), 10)
        for _ in range(5):
            began = time.monotonic()
            assert service.http.post(large.path, content=large.body, headers=JSON).status_code == 503
            told(time.monotonic() - began)
            assert reads(service), "what is refused before it is tried disturbs no read"
        taken = sender.tally.requests
        ballast.unlink()
        until(lambda: sender.tally.requests > taken, 10)
        sender.stop()
        assert sender.tally.errors == []
        stored, acknowledged = held(service, sender)
        assert stored == acknowledged
        service.kill()
        service.start()
        stored, acknowledged = held(service, sender)
        assert stored == acknowledged, "and after a crash"
    finally:
        sender.ending.set()
        service.close()


@pytest.mark.parametrize("seconds", [3.0, pytest.param(10.0, marks=pytest.mark.nightly)])
def test_a_stopped_process_goes_on_where_it_was(tmp_path: Path, seconds: float) -> None:
    service = ClockedService(tmp_path, QUIET)
    senders = [Sender(n, lambda: service.url, service.clock, timeout_s=t) for n, t in enumerate((1.0, 60.0))]
    try:
        for sender in senders:
            sender.start()
        until(lambda: all(s.tally.requests > 10 for s in senders))
        service.process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        service.process.send_signal(signal.SIGCONT)
        taken = [s.tally.requests for s in senders]
        until(lambda: all(s.tally.requests > n + 5 for s, n in zip(senders, taken, strict=True)))
        for sender in senders:
            sender.stop()
            assert sender.tally.errors == []
            stored, acknowledged = held(service, sender)
            assert stored == acknowledged
        assert senders[0].tally.replayed > 0, "the impatient one sent again"
    finally:
        for sender in senders:
            sender.ending.set()
        service.close()


def test_a_clock_that_goes_back_an_hour_loses_nothing(tmp_path: Path) -> None:
    """What is stored stays and answers; old senders are refused as too far ahead until the clock has caught up."""
    service = ClockedService(tmp_path, QUIET)
    try:
        before = service.clock()
        assert push(service, "steady", before).status_code == 204
        service.clock.advance(-3_600_000)
        now = service.clock()
        assert push(service, "steady", now).status_code == 204, "its own time goes on"
        ahead = push(service, "steady", before + 1000)
        assert ahead.status_code == 400
        assert "too far in the future" in ahead.text
        assert push(service, "steady", now).status_code == 204, "a replay adds nothing"
        held = service.query("steady[2h]", at_ms=before + 60_000)
        assert [round(float(t) * 1000) for t, _ in held[0]["values"]] == [now, before]
        service.kill()
        service.start()
        assert service.query("steady[2h]", at_ms=before + 60_000) == held, "it starts with samples of its future"
        service.clock.advance(3_600_000)
        assert push(service, "steady", before + 1000).status_code == 204
        assert len(service.query("steady[2h]", at_ms=before + 60_000)[0]["values"]) == 3
    finally:
        service.close()


# ---------------------------------------------------------------- damaged files


def filled(folder: Path) -> Path:
    """The file of a service that took 2,000 series over five hours and stopped in order."""
    service = ClockedService(folder, QUIET)
    try:
        now = service.clock()
        for step in range(20):
            at = now - step * 900_000
            body = b"".join(series((("__name__", "m"), ("i", str(i))), [(at, ONE + i + step)]) for i in range(2000))
            reply = service.http.post("/api/v1/write", content=snappy(body), headers=WRITE)
            assert reply.status_code == 204
        assert service.stop() == 0
    finally:
        service.close()
    return folder / "data" / "telemetry.duckdb"


def refuses(folder: Path) -> str:
    """The one line with which the service refuses to start."""
    done = aiops(folder, "serve", "--port", "0", "--data-dir", str(folder / "data"), timeout=60)
    return one_line(done)


@pytest.mark.nightly
@pytest.mark.parametrize("keep", [0.5, 0.0001])
def test_a_truncated_file_is_refused_in_one_line(tmp_path: Path, keep: float) -> None:
    file = filled(tmp_path)
    os.truncate(file, max(int(file.stat().st_size * keep), 5000))
    said = refuses(tmp_path)
    assert str(file) in said
    assert "damaged" in said
    assert "backup" in said


def test_a_damaged_block_is_named_and_never_answered_from(tmp_path: Path) -> None:
    file = filled(tmp_path)
    size = file.stat().st_size
    with file.open("r+b") as out:
        out.seek(size // 2)
        out.write(os.urandom(256 * 1024))
    service = None
    try:
        said = refuses(tmp_path)
    except subprocess.TimeoutExpired:
        service = Service(tmp_path, QUIET)
        pytest.fail("it started on a damaged block")
    finally:
        if service is not None:
            service.close()
    assert "damaged" in said
    assert "backup" in said


def test_a_torn_log_keeps_what_was_whole(tmp_path: Path) -> None:
    """The write-ahead log ends in the middle of a record, as after a power cut: the rest is applied."""
    service = ClockedService(tmp_path, QUIET)
    try:
        now = service.clock()
        for step in range(30):
            assert push(service, f"m{step}", now).status_code == 204
        service.kill()
        log = log_of(service.data)
        os.truncate(log, log.stat().st_size - 37)
        service.start()
        names = {one["metric"]["__name__"] for one in service.query('{__name__=~"m[0-9]+"}', at_ms=now)}
        assert names >= {f"m{step}" for step in range(29)}, "only the torn end may be missing"
        assert push(service, "m29", now).status_code == 204
        assert len(service.query('{__name__=~"m[0-9]+"}', at_ms=now)) == 30
    finally:
        service.close()


def log_of(data: Path) -> Path:
    """The file in which the newest rows lie."""
    logs = [p for p in data.iterdir() if p.is_file() and p.name.startswith("telemetry") and p.suffix != ".duckdb"]
    return max(logs, key=lambda p: p.stat().st_mtime_ns)
