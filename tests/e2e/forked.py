"""A mould that has imported the service and forks it on demand: a start then costs what it does, not what it imports.

As a program it reads one line of JSON a start and answers with the process's number.
"""

from __future__ import annotations

import atexit
import importlib
import itertools
import json
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

GONE_S = 0.01


class Forked:
    """A forked service, with the few methods of ``subprocess.Popen`` that tests use."""

    def __init__(self, pid: int, status: Path) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._status = status

    def poll(self) -> int | None:
        if self.returncode is None and not Path(f"/proc/{self.pid}").exists():
            self.returncode = int(self._status.read_text()) if self._status.exists() else -signal.SIGKILL
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
    """The process that forks; one for all tests, started when it is first asked."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._folder = tempfile.TemporaryDirectory(prefix="aiops-mould-")

    def start(self, folder: Path, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> Forked:
        """``aiops`` with these arguments in ``folder``; what it says goes to ``log``."""
        status = Path(self._folder.name) / str(next(self._numbers))
        request = [str(folder), str(log), str(status), dict(environment), list(arguments)]
        with self._lock:
            process = self._process = self._process or self._begin(environment)
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            return Forked(int(process.stdout.readline()), status)

    def _begin(self, environment: Mapping[str, str]) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.e2e.forked"]
        process = subprocess.Popen(
            command, env=dict(environment), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        atexit.register(self.close)
        return process

    def close(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait(10)
            self._process = None


MOULD = Mould()


def _serve(folder: str, log: str, status: str, environment: dict[str, str], arguments: list[str]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, nothing), (1, out), (2, out)):
        os.dup2(source, target)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    from aiops.core import ports
    from tests.e2e.clocked import LeadClock

    assert isinstance(ports.system_clock, LeadClock)
    ports.system_clock.place = Path(environment["CLOCK_LEAD_FILE"])
    from aiops.cli.app import run

    code = run(arguments)
    Path(status).write_text(str(code))
    os._exit(code)


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
    from aiops.store.telemetry.codec import CODECS

    CODECS.compiled(wait=True)  # else blocks close only when a service has lived as long as its compiler needs
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
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _serve(*request)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
