"""The service opens no connection that the operator did not configure.

It runs under an audit hook that notes every foreign address that Python code looks up or connects to. (Native
code that opens sockets by itself would not be seen; DuckDB's and torch's network features are not used.)
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx

from tests.integration.servers import free_port

GUARD = Path(__file__).with_name("socket_guard.py")


def test_a_whole_service_talks_to_loopback_only(tmp_path):
    port, log = free_port(), tmp_path / "foreign.txt"
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, str(GUARD), str(log), "serve", "--port", str(port), "--data-dir", str(tmp_path / "data")]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AIOPS_", "OPENAI_", "SLACK_"))}
    with (tmp_path / "out.txt").open("wb") as out:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=out, stderr=subprocess.STDOUT)
    try:
        with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
            until(lambda: client.get("/healthz").status_code == 200)
            until(lambda: client.get("/api/v1/query", params={"query": "node_load1"}).json()["data"]["result"])
            answer = client.post("/api/v1/ask", json={"question": "which hosts are low on disk?"}).json()
            assert answer["evidence"], answer
            assert client.get("/api/v1/models").status_code == 200  # MLflow is loaded and asked
            states = {c["name"]: c for c in client.get("/readyz").json()["components"]}
            assert "detection" in states
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    assert process.returncode == 0, (tmp_path / "out.txt").read_text()
    assert not log.exists(), log.read_text()


def test_the_guard_sees_a_foreign_address(tmp_path):
    log = tmp_path / "foreign.txt"
    code = (
        f"import sys; sys.argv = ['g', {str(log)!r}, '--help']; sys.path.insert(0, {str(GUARD.parent)!r})\n"
        "import socket_guard, socket\n"
        "try:\n    socket_guard.main()\nexcept SystemExit:\n    pass\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "s.connect(('192.0.2.1', 9))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=tmp_path)
    assert "192.0.2.1" in log.read_text()


def until(condition, limit_s: float = 60.0) -> None:
    deadline = time.monotonic() + limit_s
    while True:
        try:
            if condition():
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, "nothing within the limit"
        time.sleep(0.1)
