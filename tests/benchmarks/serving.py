"""Serving of models: latency at a rate of requests with and without training beside it, cold start, promotion and
rollback under load, and a batch against the bare detector. The service is a process of its own, asked over HTTP.

Run ``python -m tests.benchmarks.serving [--series N] [--seconds S] [--rate R]``. On a shared machine trust the ratios:
what is compared is measured in turns.
"""

from __future__ import annotations

import argparse
import http.client
import json
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil

from aiops.core.anomaly import Batch
from aiops.core.model import ModelVersion
from aiops.core.plugins import build
from aiops.core.ports import PluginContext
from aiops.models.batch_scoring import blocks_of, score_all
from aiops.models.detector_calls import Call, run_together
from aiops.models.loaded import Loaded
from aiops.store.telemetry.score_files import ScoreFile
from tests.e2e.process import AIOPS, Service, until
from tests.unit.ingest.encode import series as written
from tests.unit.ingest.encode import snappy

STEP_MS = 60_000
METRIC = "bench_latency_seconds"
MODEL = "anomaly-60s"
SERIES_A_REQUEST, STEPS_A_REQUEST = 4, 60
ROUNDS = 4


@dataclass
class Results:
    """Seconds unless a name says otherwise; ``notes`` are what a reader must know."""

    series: int
    rate: float
    quiet: list[float] = field(default_factory=list)
    training: list[float] = field(default_factory=list)
    refused: int = 0
    trainings: int = 0
    cold_start: float = 0.0
    cold_start_cpu: float = 0.0
    promotion: float = 0.0
    rollback: float = 0.0
    during_changes: int = 0
    failed_during_changes: int = 0
    batch_ratio: float = 0.0
    batch_values_ratio: float = 0.0
    batch_points: int = 0

    def as_json(self) -> dict[str, Any]:
        def quantiles(times: Sequence[float]) -> dict[str, float]:
            if not times:
                return {}
            found = np.quantile(times, [0.5, 0.99])
            return {"requests": len(times), "p50_ms": 1000 * float(found[0]), "p99_ms": 1000 * float(found[1])}

        quiet, training = quantiles(self.quiet), quantiles(self.training)
        return {
            "series": self.series,
            "rate": self.rate,
            "quiet": quiet,
            "training": training,
            "trainings": self.trainings,
            "refused": self.refused,
            "p99_ratio": training["p99_ms"] / quiet["p99_ms"] if quiet and training else None,
            "cold_start_s": self.cold_start,
            "cold_start_cpu_s": self.cold_start_cpu,
            "promotion_s": self.promotion,
            "rollback_s": self.rollback,
            "requests_during_changes": self.during_changes,
            "failed_during_changes": self.failed_during_changes,
            "batch_points": self.batch_points,
            "batch_to_bare_detector": self.batch_ratio,
            "batch_with_every_value_to_bare_detector": self.batch_values_ratio,
        }


def config(series: int) -> dict[str, Any]:
    watch = {"query": METRIC, "name": "latency", "step_s": 60, "kind": "latency", "direction": "up"}
    return {
        "detection": {
            "step_s": 60,
            "train_window_s": 86_400,
            "min_points": 120,
            "watch_rules": False,
            "max_series": series + 10,
            "watch": [watch],
        },
        "models": {"training": {"jobs_per_day": 1000, "process_points": 200_000}},
    }


def fill(url: str, series: int, hours: float) -> None:
    """History of all series, by remote write."""
    end = time.time_ns() // 1_000_000 // STEP_MS * STEP_MS
    times = np.arange(end - int(hours * 3_600_000), end, STEP_MS)
    rng = np.random.default_rng(3)
    headers = {"content-encoding": "snappy", "content-type": "application/x-protobuf"}
    place = urlsplit(url)
    link = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
    for first in range(0, series, 50):
        body = b""
        for number in range(first, min(first + 50, series)):
            wave = 1 + 0.3 * np.sin(2 * np.pi * times / 86_400_000 + number)
            values = (0.1 + 0.001 * number) * wave * (1 + 0.05 * rng.normal(size=len(times)))
            labels = [("__name__", METRIC), ("service_name", f"s{number:05d}")]
            body += written(labels, list(zip(times.tolist(), values.view(np.int64).tolist(), strict=True)))
        link.request("POST", "/api/v1/write", snappy(body), headers)
        reply = link.getresponse()
        reply.read()
        assert reply.status in (200, 204), reply.status
    link.close()


class Load:
    """Requests at a steady rate, begun when they are due whether or not earlier ones are answered."""

    def __init__(self, url: str, ids: Sequence[str], rate: float, threads: int = 16) -> None:
        self._url, self._rate, self._threads = urlsplit(url), rate, threads
        end = time.time_ns() // 1_000_000 // STEP_MS * STEP_MS
        times = list(range(end - (STEPS_A_REQUEST - 1) * STEP_MS, end + 1, STEP_MS))
        rng = np.random.default_rng(1)
        self._bodies = []
        for k in range(64):
            chosen = [ids[(k * SERIES_A_REQUEST + j) % len(ids)] for j in range(SERIES_A_REQUEST)]
            values = (0.1 + 0.01 * rng.normal(size=(SERIES_A_REQUEST, STEPS_A_REQUEST))).round(5).tolist()
            found = [{"id": i, "values": v} for i, v in zip(chosen, values, strict=True)]
            self._bodies.append(json.dumps({"timestamps": times, "latest": 1, "series": found}).encode())

    def run(self, seconds: float) -> tuple[list[float], int]:
        """Seconds from when each request was due to its answer, and how many were not answered 200."""
        count = int(seconds * self._rate)
        due = time.perf_counter() + 0.05
        numbers, lock = iter(range(count)), threading.Lock()
        times: list[float] = []
        refused = 0

        def work() -> None:
            nonlocal refused
            link = http.client.HTTPConnection(self._url.hostname or "", self._url.port, timeout=30)
            headers = {"content-type": "application/json"}
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    break
                at = due + number / self._rate
                time.sleep(max(at - time.perf_counter(), 0))
                link.request("POST", f"/api/v1/models/{MODEL}/score", self._bodies[number % 64], headers)
                reply = link.getresponse()
                reply.read()
                with lock:
                    times.append(time.perf_counter() - at)
                    refused += reply.status != 200
            link.close()

        workers = [threading.Thread(target=work) for _ in range(self._threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return times, refused


@contextmanager
def trainings(service: Service, results: Results) -> Iterator[None]:
    """Training job after training job."""
    done = threading.Event()

    def run() -> None:
        while not done.is_set():
            body = {"as_challenger": True, "reason": "bench"}
            jobs = service.http.post(f"/api/v1/models/{MODEL}/train", json=body).json()["jobs"]
            while not done.is_set():
                state = service.http.get(f"/api/v1/jobs/{jobs[0]['id']}").json()
                if state["status"] in ("done", "failed", "cancelled"):
                    assert state["status"] == "done", state
                    results.trainings += 1
                    break
                time.sleep(0.2)

    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(1.0)
    try:
        yield
    finally:
        done.set()
        thread.join()


def cold_start(service: Service, body: bytes) -> tuple[float, float]:
    """Wall and processor seconds from starting ``aiops serve`` on a folder with a model to its first score."""
    service.stop()
    begin = time.perf_counter()
    command = [*AIOPS, "serve", "--port", service.url.rsplit(":", 1)[1], "--data-dir", str(service.data)]
    with service.log.open("ab") as out:
        service.process = psutil.Popen(command, cwd=service.folder, stdout=out, stderr=out)

    def first() -> bool:
        headers = {"content-type": "application/json"}
        return service.http.post(f"/api/v1/models/{MODEL}/score", content=body, headers=headers).status_code == 200

    until(first, 60)
    wall = time.perf_counter() - begin
    used = service.process.cpu_times()
    return wall, used.user + used.system


def changes(service: Service, load: Load, results: Results) -> None:
    """Promotion of a canary, then a rollback, while requests come in."""
    stop, failed, sent = threading.Event(), [0], [0]

    def hammer() -> None:
        while not stop.is_set():
            times, refused = load.run(0.5)
            failed[0] += refused
            sent[0] += len(times)

    thread = threading.Thread(target=hammer)
    thread.start()
    newest = service.http.get(f"/api/v1/models/{MODEL}").json()["versions"][0]["version"]
    trial = service.http.post(
        f"/api/v1/models/{MODEL}/deployments", json={"version": newest, "strategy": "canary", "share": 0.5}
    ).json()
    time.sleep(2)
    begin = time.perf_counter()
    reply = service.http.post(f"/api/v1/deployments/{trial['id']}/promote", json={})
    results.promotion = time.perf_counter() - begin
    assert reply.json()["state"] == "promoted", reply.text
    time.sleep(1)
    before = service.http.get(f"/api/v1/models/{MODEL}").json()["versions"]
    other = next(v["version"] for v in before if v["version"] != newest)
    trial = service.http.post(
        f"/api/v1/models/{MODEL}/deployments", json={"version": other, "strategy": "blue_green"}
    ).json()
    time.sleep(2)
    begin = time.perf_counter()
    reply = service.http.post(f"/api/v1/deployments/{trial['id']}/rollback", json={})
    results.rollback = time.perf_counter() - begin
    assert reply.json()["state"] == "rolled_back", reply.text
    time.sleep(1)
    stop.set()
    thread.join()
    results.during_changes, results.failed_during_changes = sent[0], failed[0]


def batch(results: Results, series: int, folder: Path, steps: int = 7 * 1440) -> None:
    """Values per processor second of a batch, what it keeps written, to those of the bare detector, in turns."""
    detector: Any = build("detectors", "fusion", {"device": "cpu"}, PluginContext("bench"))
    rng = np.random.default_rng(7)
    times = STEP_MS * np.arange(steps, dtype=np.int64)
    values = (10 + 2 * np.sin(2 * np.pi * times / 86_400_000) + rng.normal(size=(series, steps))).astype(np.float32)
    ids = tuple(f"s{n}" for n in range(series))
    whole = Batch(values, np.ones(values.shape, bool), times, STEP_MS, ids)
    fitted = detector.fit(Batch(values[:, :1440], whole.mask[:, :1440], times[:1440], STEP_MS, ids))
    version = ModelVersion(MODEL, "1", "fusion", "", "", 0)
    rows = {key: row for row, key in enumerate(ids)}
    loaded = Loaded(version, detector, fitted, rows, np.full(series, 6.0))
    used: dict[str, list[float]] = {"bare": [], "batch": [], "values": []}

    def timed(what: str, work: Any) -> None:
        begin = time.process_time()
        work()
        used[what].append(time.process_time() - begin)

    def bare() -> None:
        for block in blocks_of(whole, range(series)):
            run_together([Call(loaded, block)])

    def written_out(every: bool) -> None:
        file = ScoreFile(folder / f"scores-{every}.parquet")
        score_all(loaded, whole, file, every=every, progress=lambda *_: None)
        file.finish()

    for _ in range(3):
        timed("bare", bare)
        timed("batch", lambda: written_out(False))
        timed("values", lambda: written_out(True))
    results.batch_points = values.size
    results.batch_ratio = min(used["bare"]) / min(used["batch"])
    results.batch_values_ratio = min(used["bare"]) / min(used["values"])


def run(folder: Path, series: int, seconds: float, rate: float, batch_series: int) -> Results:
    """All of it; ``seconds`` of requests for each of both cases."""
    results = Results(series, rate)
    service = Service(folder / "service", config(series))
    try:
        fill(service.url, series, 24)
        until(lambda: service.http.get("/api/v1/models").json().get("models"), 170)
        ids = until(lambda: service.http.get(f"/api/v1/models/{MODEL}/series").json().get("series"), 60)
        load = Load(service.url, ids, rate)
        load.run(min(seconds, 2.0))
        for _ in range(ROUNDS):
            times, refused = load.run(seconds / ROUNDS)
            results.quiet += times
            results.refused += refused
            with trainings(service, results):
                times, refused = load.run(seconds / ROUNDS)
            results.training += times
            results.refused += refused
        if not results.trainings:  # none came to its end beside the requests: let one, for the next part
            with trainings(service, results):
                until(lambda: results.trainings, 120)
        changes(service, load, results)
        results.cold_start, results.cold_start_cpu = cold_start(service, load._bodies[0])
    finally:
        service.close()
    batch(results, batch_series, folder)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--batch-series", type=int, default=500)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aiops-bench-") as folder:
        found = run(Path(folder), chosen.series, chosen.seconds, chosen.rate, chosen.batch_series)
    print(json.dumps(found.as_json(), indent=1))


if __name__ == "__main__":
    main()
