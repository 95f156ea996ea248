"""The servers under the speed bench, ours and its peers, on loopback; what they use and hold."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.integration import servers

OURS, VICTORIA, PROMETHEUS = "aiops", "VictoriaMetrics", "Prometheus"
PEERS = ("victoria-metrics", "prometheus")
"""Names of the binaries."""
READY_S = 300.0
STOP_S = 120.0
"""A server that is killed instead has more to do at its next start."""
YEARS = {"VictoriaMetrics 1.79": "2022", "Prometheus 2.42": "2023"}
"""When the peers that Debian 12 packages were released."""
PATIENCE_S = 300.0
WRITE = {"content-encoding": "snappy", "content-type": "application/x-protobuf"}


@dataclass(frozen=True, slots=True)
class Peer:
    """A running server of the bench. ``folder`` is what it stores in; ``flags`` are those that are not its defaults."""

    name: str
    version: str
    url: str
    process: subprocess.Popen[bytes]
    folder: Path
    flags: str = ""

    def described(self) -> str:
        """Version, year of release where it is known, and flags."""
        year = next((year for known, year in YEARS.items() if f"{self.name} {self.version}".startswith(known)), "")
        return f"{self.version}{f', {year}' if year else ''}{f'; {self.flags}' if self.flags else ''}"

    def cpu_s(self) -> float:
        used = psutil.Process(self.process.pid).cpu_times()
        return float(used.user + used.system)

    def rss(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def bytes_on_disk(self) -> int:
        sizes = []
        for file in self.folder.rglob("*"):
            with suppress(FileNotFoundError):  # merged away meanwhile
                sizes.append(file.stat().st_size if file.is_file() else 0)
        return sum(sizes)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_S)
        servers.Server(self.url, self.process).stop()


def settle(peer: Peer, most_s: float = 20.0) -> None:
    """Wait until the process is idle: what it loads or merges in the background is not part of a timing."""
    deadline = time.monotonic() + most_s
    before = peer.cpu_s()
    while time.monotonic() < deadline:
        time.sleep(0.5)
        now = peer.cpu_s()
        if now - before < 0.03:
            return
        before = now


def rest(peer: Peer, quiet_s: float = 6.0, most_s: float = 90.0) -> None:
    """Wait until the size of what it stores has been the same for ``quiet_s``: merges come now and then."""
    deadline, since, before = time.monotonic() + most_s, time.monotonic(), peer.bytes_on_disk()
    while time.monotonic() < deadline and time.monotonic() - since < quiet_s:
        time.sleep(0.5)
        now = peer.bytes_on_disk()
        if now != before:
            since, before = time.monotonic(), now


def missing() -> list[str]:
    """Peers whose binary is not installed."""
    return [name for name in PEERS if shutil.which(name) is None]


def start_ours(folder: Path, *, detection: bool = False) -> Peer:
    """``aiops serve`` as a user starts it, but for detection, whose training would take part in the timing."""
    port = servers.free_port()
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "aiops.yaml"
    config.write_text(f"detection: {{enabled: {str(detection).lower()}}}\n", encoding="utf-8")
    command = [sys.executable, "-m", "aiops", "serve", "--port", str(port)]
    command += ["--data-dir", str(folder / "data"), "--config", str(config)]
    with (folder / "log").open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    peer = Peer(OURS, _own_version(), f"http://127.0.0.1:{port}", process, folder / "data")
    try:
        wait(peer, "/healthz")
    except BaseException:
        peer.stop()
        raise
    return peer


def start_victoria(folder: Path) -> Peer:
    folder.mkdir(parents=True, exist_ok=True)
    server = servers.start_victoria_metrics(folder)
    version = _version(server.url, "vm_app_version") or _packaged("victoria-metrics")
    return Peer(VICTORIA, version, server.url, server.process, folder / "victoria", "-retentionPeriod=100y")


def start_prometheus(folder: Path) -> Peer:
    folder.mkdir(parents=True, exist_ok=True)
    server = servers.start_prometheus(folder)
    version = _version(server.url, "prometheus_build_info")
    flags = "--web.enable-remote-write-receiver"
    return Peer(PROMETHEUS, version, server.url, server.process, folder / "prometheus", flags)


def wait(peer: Peer, path: str) -> None:
    """Until ``path`` answers 200. Raises ``RuntimeError`` after 30 s or when the process ends."""
    deadline = time.monotonic() + READY_S
    with httpx.Client(trust_env=False, timeout=2) as client:
        while time.monotonic() < deadline and peer.process.poll() is None:
            try:
                if client.get(peer.url + path).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.005)
    raise RuntimeError(f"{peer.name} does not answer {path}.")


def _version(peer_url: str, metric: str) -> str:
    """The ``version`` label of a build-info metric on ``/metrics``."""
    with httpx.Client(trust_env=False, timeout=10) as client:
        text = client.get(peer_url + "/metrics").text
    found = re.search(metric + r'[{](?:[^}]*,)?(?:short_version|version)="([^"]*)"', text)
    return found[1] if found else ""


def _packaged(name: str) -> str:
    """The version that Debian's package manager tells; some of its builds do not know their own."""
    told = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", name], capture_output=True, text=True, check=False)
    return told.stdout.strip() or "of unknown version"


def _own_version() -> str:
    from aiops import __version__

    return __version__


def send(peer: Peer, connections: list[list[bytes]]) -> float:
    """Post each list over a connection of its own, in order; returns wall seconds. Raises on a refusal.

    One that is asked to wait (429, 503) sends again as a Prometheus does, and the wait counts.
    """
    refused: list[str] = []
    begin = threading.Barrier(len(connections) + 1)
    started = [time.perf_counter()]

    def post(bodies: list[bytes]) -> None:
        with httpx.Client(trust_env=False, timeout=60, base_url=peer.url) as client:
            begin.wait()
            for body in bodies:
                answer = client.post("/api/v1/write", content=body, headers=WRITE)
                while answer.status_code in (429, 503) and time.perf_counter() - started[0] < PATIENCE_S:
                    time.sleep(float(answer.headers.get("retry-after", "1")))
                    answer = client.post("/api/v1/write", content=body, headers=WRITE)
                if answer.status_code >= 300:
                    refused.append(f"{peer.name}: {answer.status_code} {answer.text[:200]}")
                    return

    threads = [threading.Thread(target=post, args=(bodies,), daemon=True) for bodies in connections]
    for thread in threads:
        thread.start()
    begin.wait()
    started[0] = time.perf_counter()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - started[0]
    if refused:
        raise RuntimeError(refused[0])
    return took


def query(
    client: httpx.Client, peer: Peer, promql: str, end_s: int, hours: float, step_s: int = 60, *, afresh: bool = False
) -> tuple[float, Any]:
    """Wall seconds of a range query, and its ``data.result``; ``afresh`` goes past kept answers."""
    window = {"start": str(end_s - round(hours * 3600)), "end": str(end_s), "step": str(step_s)}
    parameters = {"query": promql, **window, **({"nocache": "1"} if afresh else {})}
    started = time.perf_counter()
    answer = client.get(peer.url + "/api/v1/query_range", params=parameters)
    took = time.perf_counter() - started
    answer.raise_for_status()
    return took, answer.json()["data"]["result"]
