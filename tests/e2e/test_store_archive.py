"""A time range out as Parquet and in again, as a user does it."""

from __future__ import annotations

import json
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from tests.e2e.kill_cycles import QUIET
from tests.e2e.process import AIOPS, Service, aiops, environment, one_line, until
from tests.e2e.senders import JSON, WRITE
from tests.unit.ingest.encode import series, snappy

STALE = 0x7FF0000000000002
HOUR_MS = 3_600_000
FOCUS = """BillingAccountId,BillingCurrency,BillingPeriodStart,BillingPeriodEnd,ChargePeriodStart,ChargePeriodEnd,\
ChargeCategory,ServiceName,EffectiveCost,BilledCost,ListCost,ContractedCost,Tags,x_team
1,USD,{m}-01T00:00:00Z,{n}-01T00:00:00Z,{m}-02T00:00:00Z,{m}-03T00:00:00Z,Usage,vm,1.1,1.1,1.1,1.1,{{}},a
1,USD,{m}-01T00:00:00Z,{n}-01T00:00:00Z,{m}-03T00:00:00Z,{m}-04T00:00:00Z,Usage,db,2.25,2.25,2.25,2.25,{{}},b
"""


def bits(value: float) -> int:
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])


def fill(service: Service, now: int) -> None:
    """Two jobs over five hours, with staleness markers; logs, two equal lines among them; spans; costs."""
    for job in ("api", "db"):
        body = b"".join(
            series(
                (("__name__", "load"), ("i", str(i)), ("job", job)),
                [(now - k * 60_000, STALE if k == 7 else bits(i + k / 10)) for k in reversed(range(300))],
            )
            for i in range(20)
        )
        assert service.http.post("/api/v1/write", content=snappy(body), headers=WRITE).status_code == 204
        resource = {"attributes": [{"key": "service.name", "value": {"stringValue": job}}]}
        lines = [
            {"timeUnixNano": str((now - k * 60_000) * 10**6), "body": {"stringValue": f"line {k}"}} for k in range(50)
        ]
        logs = {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [*lines, lines[0]]}]}]}
        assert service.http.post("/v1/logs", json=logs, headers=JSON).status_code == 200
        spans = [
            {
                "traceId": f"{k + 1:032x}", "spanId": f"{k + (job == 'db') * 1000 + 1:016x}", "name": "work", "kind": 2,
                "startTimeUnixNano": str((now - k * 60_000) * 10**6),
                "endTimeUnixNano": str((now - k * 60_000 + 5) * 10**6),
            }
            for k in range(50)
        ]  # fmt: skip
        traces = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]}
        assert service.http.post("/v1/traces", json=traces, headers=JSON).status_code == 200
    month, following = (
        time.strftime("%Y-%m", time.gmtime(now / 1000)),
        time.strftime("%Y-%m", time.gmtime(now / 1000 + 32 * 86400)),
    )
    bill = FOCUS.format(m=month, n=following)
    reply = service.http.post(
        "/api/v1/costs/import?name=bill.csv", content=bill.encode(), headers={"content-type": "text/csv"}
    )
    assert reply.status_code == 200, reply.text


def rows_of(service: Service) -> dict[str, int]:
    found = service.http.get("/api/v1/store").json()["signals"]
    return {one["signal"]: one["rows"] for one in found}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, int]]:
    service = Service(tmp_path_factory.mktemp("filled"), {**QUIET, "telemetry": {"interval_s": 3600}})
    now = int(time.time() * 1000) // 1000 * 1000 - 10_000
    fill(service, now)
    yield service, now
    service.close()


def export(service: Service, folder: Path, now: int, *more: str) -> dict[str, object]:
    done = aiops(
        folder.parent, "store", "export", "--url", service.url, "--from", str(now - 6 * HOUR_MS),
        "--to", str(now + 1000), "--out", str(folder), "--json", *more,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told: dict[str, object] = json.loads(done.stdout)
    return told


EXPECTED = {"costs": 2, "logs": 102, "metrics": 12_000, "traces": 100}
MATCH = ("--matcher", '__name__="load"')


def test_what_goes_out_comes_in_once(filled: tuple[Service, int], tmp_path: Path) -> None:
    service, now = filled
    out = tmp_path / "out"
    told = export(service, out, now)
    rows = dict(told["rows"])  # type: ignore[call-overload]
    assert rows.pop("metrics") >= EXPECTED["metrics"], "the service's own metrics are in it as well"
    assert rows == {k: v for k, v in EXPECTED.items() if k != "metrics"}

    other = Service(tmp_path / "other", {**QUIET, "telemetry": {"interval_s": 3600}})
    try:
        for again in ((), (), ("--again",)):
            done = aiops(tmp_path, "store", "import", str(out), "--url", other.url, "--json", *again)
            assert done.returncode == 0, done.stderr
            report = json.loads(done.stdout)
            if not again and report["skipped"] == 0:
                assert report["added"] >= sum(EXPECTED.values())
                assert report["refused"] == 0
            elif again:
                assert report["added"] == EXPECTED["costs"], "costs replace themselves, nothing else is new"
        assert {k: v for k, v in rows_of(other).items() if k != "metrics"} == {
            k: v for k, v in rows_of(service).items() if k != "metrics"
        }
        for query in ('load{job="db",i="3"}[6h]', "count_over_time(load[6h])", "load @ " + str(now / 1000 - 420)):
            assert other.query(query, at_ms=now) == service.query(query, at_ms=now), query
        window = {"start_ms": now - 40 * 24 * HOUR_MS, "end_ms": now + 1000}
        costs = [s.http.get("/api/v1/costs/summary", params=window).json() for s in (service, other)]
        assert costs[0]["total"] == costs[1]["total"] > 3
    finally:
        other.close()


def test_plain_duckdb_reads_an_export(filled: tuple[Service, int], tmp_path: Path) -> None:
    service, now = filled
    out = tmp_path / "out"
    export(service, out, now, *MATCH, "--signals", "metrics,logs")
    con = duckdb.connect()
    table = f"read_parquet('{out}/metrics/*.parquet')"
    jobs = con.execute(f"SELECT labels['job'], count(*), count(nan_bits) FROM {table} GROUP BY 1 ORDER BY 1").fetchall()
    assert jobs == [("api", 6000, 20), ("db", 6000, 20)]
    value, marker = con.execute(
        f"SELECT max(value) FILTER (NOT isnan(value)), max(nan_bits) FROM {table} WHERE labels['i'] = '3'"
    ).fetchall()[0]
    assert (value, marker) == (3 + 29.9, STALE)
    assert not (out / "logs").exists(), "a matcher that logs lack leaves none"


@pytest.mark.nightly
def test_a_label_scope_limits_an_export(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    data = folder / "data"
    admin = aiops(tmp_path, "keys", "create", "root", "--role", "admin", "--data-dir", str(data))
    scoped = aiops(
        tmp_path, "keys", "create", "team", "--role", "viewer", "--scope", 'job="api"', "--data-dir", str(data)
    )
    assert admin.returncode == scoped.returncode == 0, admin.stderr + scoped.stderr
    root, team = (next(w for w in d.stdout.split() if w.startswith("aiops_")) for d in (admin, scoped))
    service = Service(folder, {**QUIET, "server": {"auth": "keys"}})
    service.http.headers["authorization"] = f"Bearer {root}"
    now = int(time.time() * 1000) // 1000 * 1000 - 10_000
    try:
        fill(service, now)
        told = export(service, tmp_path / "out", now, "--api-key", team)
        assert told["rows"] == {"logs": 51, "metrics": 6000, "traces": 50}
        names = duckdb.connect().execute(f"SELECT DISTINCT labels['job'] FROM read_parquet('{tmp_path}/out/metrics/*')")
        assert names.fetchall() == [("api",)]
        refused = aiops(tmp_path, "store", "import", str(tmp_path / "out"), "--url", service.url, "--api-key", team)
        assert "admin" in one_line_of_error(refused)
        entries = service.http.get("/api/v1/audit", params={"action": "store.export"}).json()["entries"]
        assert len(entries) == 1
    finally:
        service.close()


def one_line_of_error(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.nightly
def test_a_folder_that_was_tampered_with_or_is_foreign_is_refused(filled: tuple[Service, int], tmp_path: Path) -> None:
    service, now = filled
    whole = tmp_path / "whole"
    export(service, whole, now, *MATCH, "--signals", "metrics")

    def refusal(change: str) -> str:
        folder = tmp_path / change
        shutil.copytree(whole, folder)
        file = next(folder.glob("metrics/*.parquet"))
        match change:
            case "byte":
                content = bytearray(file.read_bytes())
                content[len(content) // 2] ^= 1
                file.write_bytes(content)
            case "missing":
                file.unlink()
            case "extra":
                (folder / "metrics" / "more.parquet").write_bytes(file.read_bytes())
            case "manifest":
                text = (folder / "manifest.json").read_text()
                (folder / "manifest.json").write_text(text.replace('"number": 0', '"number": 1', 1))
            case "unfinished":
                (folder / "manifest.json").unlink()
        return one_line_of_error(aiops(tmp_path, "store", "import", str(folder), "--url", service.url))

    before = rows_of(service)["logs"]
    assert "damaged or was changed" in refusal("byte")
    assert "is missing" in refusal("missing")
    assert "does not belong" in refusal("extra")
    assert "was changed after it was written" in refusal("manifest")
    assert "not finished" in refusal("unfinished")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "data.parquet").write_bytes(b"PAR1")
    said = one_line(aiops(tmp_path, "store", "import", str(foreign), "--url", service.url))
    assert "no export or backup of aiops" in said
    used = one_line(aiops(tmp_path, "store", "export", "--url", service.url, "--from", "0", "--out", str(foreign)))
    assert "is not empty" in used
    assert rows_of(service)["logs"] == before


@pytest.mark.nightly
def test_an_export_that_was_killed_goes_on(filled: tuple[Service, int], tmp_path: Path) -> None:
    service, now = filled
    out = tmp_path / "out"
    command = [
        *AIOPS, "store", "export", "--url", service.url, "--from", str(now - 6 * HOUR_MS), "--to", str(now + 1000),
        "--out", str(out), "--signals", "metrics,logs,traces", "--json", *MATCH,
    ]  # fmt: skip
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: len(list(out.glob("metrics/*.parquet"))) >= 1)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    assert not (out / "manifest.json").exists()
    assert "not finished" in one_line(aiops(tmp_path, "store", "import", str(out), "--url", service.url))
    first = {p: p.stat().st_mtime_ns for p in out.glob("metrics/*.parquet")}
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] == {"metrics": EXPECTED["metrics"]}
    noted = json.loads((out / "manifest.json").read_text())
    assert {p.relative_to(out).as_posix() for p in out.rglob("*.parquet")} == {f["file"] for f in noted["files"]}
    kept = [p for p, at in first.items() if p.stat().st_mtime_ns == at]
    assert len(kept) >= len(first) - 1, "parts that were there are not fetched again"
