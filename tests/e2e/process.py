"""`aiops` as a user starts it: child processes with an environment of their own, ended by their own handle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx
import yaml

from tests.integration.servers import free_port

READY_S = 60.0
FoundT = TypeVar("FoundT")
AIOPS = [sys.executable, "-m", "aiops"]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without settings of the developer's own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AIOPS_", "OPENAI_", "SLACK_"))}
    return {**kept, "COLUMNS": "160", **(extra or {})}


def aiops(
    folder: Path, *arguments: str, env: Mapping[str, str] | None = None, timeout: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Run one command in ``folder`` to its end."""
    return subprocess.run(
        [*AIOPS, *arguments], cwd=folder, env=environment(env), capture_output=True, text=True, timeout=timeout,
        check=False,
    )  # fmt: skip


def one_line(done: subprocess.CompletedProcess[str], status: int = 1) -> str:
    """The single line on stderr of a command that failed as a user should see it."""
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("aiops: "), done.stderr
    return lines[0]


def until(what: Callable[[], FoundT], seconds: float = 30.0) -> FoundT:
    """The first true value of ``what``; connection failures count as not yet."""
    deadline = time.monotonic() + seconds
    found: Any = None
    while time.monotonic() < deadline:
        try:
            if found := what():
                return found  # type: ignore[no-any-return]
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"it did not happen in time; the last value was {found!r}")


class Service:
    """``aiops serve`` on a free loopback port, its data and log below ``folder``."""

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        port: int = 0,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.data, self.log = folder, folder / "data", folder / "serve.log"
        self._env = environment(env)
        self._config: Sequence[str] = ()
        if config is not None:
            (folder / "aiops.yaml").write_text(yaml.safe_dump(dict(config)), encoding="utf-8")
        self.http = httpx.Client(trust_env=False, timeout=60)
        self.start(port)

    def start(self, port: int = 0) -> None:
        port = port or free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.http.base_url = httpx.URL(self.url)
        command = [*AIOPS, "serve", "--port", str(port), "--data-dir", str(self.data)]
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=self._env, stdout=out, stderr=subprocess.STDOUT
            )
        until(self._up, READY_S)

    def _up(self) -> bool:
        assert self.process.poll() is None, self.said()
        return self.http.get("/healthz").status_code == 200

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        return self.process.returncode

    def restart(self) -> None:
        assert self.stop() == 0, self.said()
        self.start()

    def close(self) -> None:
        self.http.close()
        self.stop()

    # ---------------------------------------------------------------- what users send

    def ask(self, question: str, **more: Any) -> dict[str, Any]:
        reply = self.http.post("/api/v1/ask", json={"question": question, **more})
        assert reply.status_code == 200, reply.text
        answer: dict[str, Any] = reply.json()
        return answer

    def query(self, text: str, at_ms: int | None = None) -> list[dict[str, Any]]:
        """Result of an instant PromQL query."""
        parameters = {"query": text, **({"time": str(at_ms / 1000)} if at_ms is not None else {})}
        reply = self.http.get("/api/v1/query", params=parameters)
        assert reply.status_code == 200, reply.text
        found: list[dict[str, Any]] = reply.json()["data"]["result"]
        return found
