"""`aiops serve` against the user's own Prometheus, as the README tells it: questions are asked of that server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.integration import servers

AIOPS = [sys.executable, "-m", "aiops"]


def environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("AIOPS_", "OPENAI_", "SLACK_"))}


def ask(url: str, question: str) -> dict:
    command = [*AIOPS, "ask", question, "--json", "--url", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment())
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def wait(condition, limit_s: float = 60.0):
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        try:
            if found := condition():
                return found
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    pytest.fail("nothing within the limit")


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[servers.Server]:
    exporter = servers.start_node_exporter()
    server = servers.start_prometheus(tmp_path, [exporter.address])

    def scraped() -> bool:
        query = {"query": "node_filesystem_avail_bytes"}
        reply = httpx.get(f"{server.url}/api/v1/query", params=query, trust_env=False).json()
        return bool(reply["data"]["result"])

    wait(scraped)
    yield server
    server.stop()
    exporter.stop()


@pytest.fixture
def service(tmp_path: Path, prometheus: servers.Server) -> Iterator[str]:
    """The URL of a service configured by a file, with no telemetry of its own in the store."""
    port = servers.free_port()
    config = tmp_path / "aiops.yaml"
    config.write_text(
        f"server: {{port: {port}}}\ndata_dir: {tmp_path / 'data'}\ndetection: {{enabled: false}}\n"
        f"connectors: {{telemetry: {{prod: {{plugin: prometheus, url: '{prometheus.url}'}}}}}}\n"
    )
    with (tmp_path / "serve.log").open("wb") as out:
        process = subprocess.Popen(
            [*AIOPS, "serve", "--config", str(config)], stdout=out, stderr=subprocess.STDOUT, env=environment()
        )
    url = f"http://127.0.0.1:{port}"
    wait(lambda: httpx.get(f"{url}/healthz", trust_env=False).status_code == 200)
    yield url
    process.send_signal(signal.SIGTERM)
    process.wait(30)


def test_a_question_is_answered_from_it(service, prometheus):
    answer = ask(service, "which hosts are low on disk?")
    evidence = answer["evidence"][0]
    assert evidence["source"] == "prod"
    assert "node_filesystem_avail_bytes" in evidence["query"]
    assert evidence["figures"], answer["text"]
    assert evidence["chart"]
    held = httpx.get(f"{service}/api/v1/query", params={"query": "node_load1"}, trust_env=False).json()
    assert held["data"]["result"] == []  # nothing was copied into the store


def test_when_it_is_down_the_answer_says_so(service, prometheus):
    ask(service, "which hosts are low on disk?")
    prometheus.stop()
    answer = ask(service, "which hosts are low on memory?")
    said = json.dumps(answer).lower()
    assert "down" in said or "source_down" in said
    assert not any(e["state"] in ("ok", "no_match") for e in answer["evidence"])
