"""Real servers as child processes on free loopback ports. Each is ended by its own process handle.

A missing binary skips the test, or fails it where ``CI`` is set.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

READY_S = 30.0


@dataclass(frozen=True)
class Server:
    """A running server: its base URL and its process."""

    url: str
    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def address(self) -> str:
        """host:port, as scrape targets want it."""
        return self.url.removeprefix("http://")

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)


def binary(name: str) -> str:
    """Full path of a server's binary; skips (or fails in CI) where it is not installed."""
    path = shutil.which(name)
    if path is None:
        message = f"the server binary '{name}' is not installed"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def start(name: str, arguments: Sequence[str], port: int, ready: str, log: Path | None = None) -> Server:
    """Start ``name`` and wait until ``ready`` (a path) answers 200."""
    command = [binary(name), *arguments]
    out = log.open("wb") if log else subprocess.DEVNULL
    try:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    finally:
        if log and not isinstance(out, int):
            out.close()
    server = Server(f"http://127.0.0.1:{port}", process)
    deadline = time.monotonic() + READY_S
    with httpx.Client(trust_env=False, timeout=2.0) as client:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                break
            try:
                if client.get(server.url + ready).status_code == 200:
                    return server
            except httpx.TransportError:
                pass
            time.sleep(0.05)
    server.stop()
    said = log.read_text(errors="replace")[-2000:] if log else ""
    pytest.fail(f"{name} did not become ready (exit {process.returncode}). {said}")


def start_prometheus(
    tmp_path: Path,
    scrape: Sequence[str] = (),
    remote_write: str | None = None,
    *,
    interval: str = "1s",
    alertmanager: str | None = None,
    flags: Sequence[str] = (),
    rules: Path | None = None,
    withhold: str = "",
) -> Server:
    """A Prometheus that scrapes ``scrape`` (host:port, job "node") and writes on to ``remote_write`` (a URL).

    Blocks already under ``tmp_path / "prometheus"`` are served. Remote write receiving is on. ``rules`` is a rule
    file; metrics whose names match ``withhold`` (a regex) are not written on.
    """
    port = free_port()
    data = tmp_path / "prometheus"
    data.mkdir(parents=True, exist_ok=True)
    config = f"global:\n  scrape_interval: {interval}\n  scrape_timeout: {interval}\n"
    if scrape:
        targets = ", ".join(f"'{target}'" for target in scrape)
        config += f"scrape_configs:\n  - job_name: node\n    static_configs:\n      - targets: [{targets}]\n"
    if remote_write:
        config += (
            f"remote_write:\n  - url: {remote_write}\n"
            "    queue_config: {batch_send_deadline: 500ms, min_backoff: 50ms, max_backoff: 500ms}\n"
        )
        if withhold:
            config += (
                "    write_relabel_configs:\n"
                f"      - {{source_labels: [__name__], regex: '{withhold}', action: drop}}\n"
            )
    if rules:
        config += f"rule_files: ['{rules}']\n"
    if alertmanager:
        config += f"alerting:\n  alertmanagers:\n    - static_configs:\n      - targets: ['{alertmanager}']\n"
    path = tmp_path / "prometheus.yml"
    path.write_text(config)
    arguments = [
        f"--config.file={path}",
        f"--storage.tsdb.path={data}",
        "--storage.tsdb.retention.time=100y",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-remote-write-receiver",
        "--enable-feature=promql-at-modifier,promql-negative-offset",
        *flags,
    ]
    return start("prometheus", arguments, port, "/-/ready", tmp_path / "prometheus.log")


def start_node_exporter() -> Server:
    port = free_port()
    return start("prometheus-node-exporter", [f"--web.listen-address=127.0.0.1:{port}"], port, "/metrics")


def start_alertmanager(tmp_path: Path, webhook: str = "http://127.0.0.1:9/none", bearer: str = "") -> Server:
    """An Alertmanager that sends every alert to ``webhook``, with ``bearer`` as its credential; no cluster port."""
    port = free_port()
    path = tmp_path / "alertmanager.yml"
    path.write_text(
        "route: {receiver: hook, group_wait: 1s, group_interval: 1s, repeat_interval: 1h}\n"
        f"receivers:\n  - name: hook\n    webhook_configs:\n      - url: {webhook}\n"
        + (f"        http_config: {{authorization: {{credentials: {bearer}}}}}\n" if bearer else "")
    )
    arguments = [
        f"--config.file={path}",
        f"--storage.path={tmp_path / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    return start("prometheus-alertmanager", arguments, port, "/-/ready", tmp_path / "alertmanager.log")


def start_victoria_metrics(tmp_path: Path) -> Server:
    port = free_port()
    arguments = [
        f"-storageDataPath={tmp_path / 'victoria'}",
        f"-httpListenAddr=127.0.0.1:{port}",
        "-retentionPeriod=100y",
    ]
    return start("victoria-metrics", arguments, port, "/health", tmp_path / "victoria.log")
