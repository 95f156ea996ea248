"""A mould that has imported the service and forks it on demand: a start then costs what it does, not what it imports.

As a program it reads one line a start (arguments as JSON) and answers with the process's number.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

GONE_S = 0.01


class Forked:
    """A forked service, with the few methods of ``subprocess.Popen`` that tests use."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None and not Path(f"/proc/{self.pid}").exists():
            self.returncode = 0
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float) -> int:
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(GONE_S)
        assert self.returncode is not None
        return self.returncode


class Mould:
    """The process that forks. One at a time may ask it."""

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        command = [sys.executable, "-m", "tests.e2e.forked"]
        self._process = subprocess.Popen(
            command, env=dict(environment), cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, arguments: Sequence[str], log: Path) -> Forked:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(log), *arguments]) + "\n")
        self._process.stdin.flush()
        return Forked(int(self._process.stdout.readline()))

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


def _serve(log: str, arguments: list[str]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, nothing), (1, out), (2, out)):
        os.dup2(source, target)
    from aiops.cli.app import run

    os._exit(run(arguments))


def main() -> None:
    from tests.e2e import clocked

    clocked.inject()
    import uvicorn.lifespan.off
    import uvicorn.loops.auto
    import uvicorn.protocols.http.auto

    import aiops.api.app
    import aiops.cli.serve
    import aiops.wiring.service
    from aiops.api import routes

    for module in pkgutil.iter_modules(routes.__path__):
        importlib.import_module(f"{routes.__name__}.{module.name}")
    assert uvicorn.lifespan.off
    assert uvicorn.loops.auto
    assert uvicorn.protocols.http.auto
    assert aiops.api.app
    assert aiops.cli.serve
    assert aiops.wiring.service
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the dead vanish at once
    for line in sys.stdin:
        log, *arguments = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _serve(log, arguments)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
