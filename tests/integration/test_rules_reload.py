"""Rule files read again by a running ``aiops serve``: by SIGHUP, and by ``POST /-/reload``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.integration.servers import free_port


def until(what: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            pytest.fail("it did not happen in time")
        time.sleep(0.1)


def rules(*names: str) -> str:
    return "groups:\n- name: g\n  interval: 1s\n  rules:\n" + "".join(
        f"  - {{record: '{name}', expr: 'vector(1)'}}\n" for name in names
    )


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no SIGHUP here")
def test_by_signal_and_by_request(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(rules("a"))
    (tmp_path / "aiops.yaml").write_text(
        "rules: {files: [rules.yml]}\nconnectors: {telemetry: {}}\ndetection: {enabled: false}\n"
    )
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "aiops", "serve", "--port", str(port), "--data-dir", str(tmp_path / "data")]
    log = (tmp_path / "log").open("wb")
    service = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT, env={**os.environ})
    with httpx.Client(base_url=url, trust_env=False, timeout=5) as client:

        def named() -> list[str]:
            try:
                groups = client.get("/api/v1/rules").json()["data"]["groups"]
            except httpx.TransportError:
                return []
            return [rule["name"] for group in groups for rule in group["rules"]]

        def alive(name: str) -> bool:
            return bool(client.get("/api/v1/query", params={"query": name}).json()["data"]["result"])

        try:
            until(lambda: named() == ["a"])
            until(lambda: alive("a"))
            (tmp_path / "rules.yml").write_text(rules("b"))
            service.send_signal(signal.SIGHUP)
            until(lambda: named() == ["b"])
            until(lambda: alive("b") and not alive("a"))
            (tmp_path / "rules.yml").write_text(rules("b") + "rubbish\n")
            service.send_signal(signal.SIGHUP)
            until(lambda: b"The rules stay as they were" in (tmp_path / "log").read_bytes())
            refused = client.post("/-/reload")
            assert refused.status_code == 500
            assert "rules.yml:7:1: yaml" in refused.json()["detail"]
            assert named() == ["b"]
            (tmp_path / "rules.yml").write_text(rules("b", "größe"))
            assert client.post("/-/reload").text == "2 rules are in force.\n"
            until(lambda: alive('{"größe"}'))
        finally:
            service.send_signal(signal.SIGTERM)
            service.wait(30)
            log.close()
