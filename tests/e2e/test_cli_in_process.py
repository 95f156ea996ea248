"""Commands of a user who has no service running, each a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.process import AIOPS, Service, aiops, environment, one_line

HEAVY = ("torch", "fastapi", "langchain", "duckdb", "sqlalchemy", "numpy", "mlflow", "httpx", "rich")
HOLD = """
import sys
from pathlib import Path
from aiops.settings import StoreSettings
from aiops.store.telemetry.database import TelemetryDatabase
folder = Path(sys.argv[1])
folder.mkdir()
held = TelemetryDatabase(folder / "telemetry.duckdb", StoreSettings())
print("held", flush=True)
sys.stdin.read()
held.close()
"""


def test_reading_commands_answer_from_the_folder(tmp_path: Path) -> None:
    where = ("--data-dir", str(tmp_path / "data"))
    done = aiops(tmp_path, "status", *where)
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"aiops: no service runs; answering from {tmp_path / 'data'} itself\n"
    assert "samples" in done.stdout
    assert "starting" not in done.stdout, "nothing starts where no service runs"
    done = aiops(tmp_path, "incidents", "list", "--json", *where)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"incidents": []})
    done = aiops(tmp_path, "ask", "which", "hosts", "are", "low", "on", "disk?", *where)
    assert done.returncode == 0, done.stderr
    assert "I don't know: nothing here measures free disk space." in done.stdout, done.stdout
    assert "planned by offline" in done.stdout
    assert one_line(aiops(tmp_path, "incidents", "ack", "INC-1", *where)).endswith(
        "Start one with `aiops serve`, or give --url."
    )
    for command in ("summary", "forecast"):
        done = aiops(tmp_path, "cost", command, *where)
        assert done.stdout.startswith("No costs are stored"), "nothing known is not nothing spent"
    assert not (tmp_path / "data" / "service.json").exists()


def test_a_misspelt_key_is_named_with_the_right_one(tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    for text, words in (
        ("server: {prot: 9000}", "unknown key 'server.prot', did you mean 'port'? `aiops config show`"),
        ("connectors: {telemetry: {prod: {plugin: promethius}}}", "Did you mean 'prometheus'?"),
        (
            "connectors: {telemetry: {prod: {plugin: prometheus, url: 'http://x', bearer_tokn: s3cret}}}",
            "unknown key 'bearer_tokn', did you mean 'bearer_token'?",
        ),
        ("server: [", "is not valid YAML"),
        ("server: {port: 70000}", "server.port"),
    ):
        config.write_text(text)
        for command in (["config", "check"], ["serve", "--port", "0", "--data-dir", str(tmp_path / "data")]):
            if command[0] == "serve" and "70000" in text:
                continue  # the flag wins over the file
            said = one_line(aiops(tmp_path, *command, "--config", str(config)))
            assert words in said, said
            assert "s3cret" not in said
    said = one_line(aiops(tmp_path, "config", "check", env={"AIOPS_SERVR__PORT": "9000"}))
    assert "AIOPS_SERVR__PORT" in said
    config.write_text("server: {port: 9000}\nreceivers: {hook: {plugin: webhook, url: 'http://127.0.0.1:9/'}}\n")
    done = aiops(tmp_path, "config", "check", "--config", str(config))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("The configuration is valid")


def test_the_doctor_finds_what_is_wrong(tmp_path: Path) -> None:
    port = {"AIOPS_SERVER__PORT": "0"}
    done = aiops(tmp_path, "doctor", "--data-dir", str(tmp_path / "data"), env=port)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✗" not in done.stdout
    assert "✓ packages: all installed" in done.stdout
    (tmp_path / "file").write_text("x")
    config = tmp_path / "aiops.yaml"
    config.write_text("connectors: {telemetry: {prod: {plugin: prometheus, url: 'http://127.0.0.1:9'}}}")
    done = aiops(tmp_path, "doctor", "--json", "--data-dir", str(tmp_path / "file" / "data"), env=port)
    assert done.returncode == 1
    failed = {check["check"]: check["detail"] for check in json.loads(done.stdout) if not check["ok"]}
    assert set(failed) == {"data folder", "source prod"}
    assert "cannot be reached" in failed["source prod"]


def test_plug_ins_are_listed(tmp_path: Path) -> None:
    done = aiops(tmp_path, "plugins", "list", "--json")
    names = {(item["kind"], item["name"]) for item in json.loads(done.stdout)}
    assert {("connectors.telemetry", "prometheus"), ("connectors.chat", "slack"), ("detectors", "ridge_ar")} <= names
    assert "alertmanager_silence" in aiops(tmp_path, "plugins", "list").stdout


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A data folder that another process has open, and its pid."""
    folder = tmp_path / "data"
    command = [sys.executable, "-c", HOLD, str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment())
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n"
        yield folder, process.pid
    finally:
        process.communicate(timeout=30)


def test_a_folder_that_another_process_holds_is_exit_3(tmp_path: Path, held: tuple[Path, int]) -> None:
    folder, pid = held
    for command in (["ask", "disk?"], ["status"], ["incidents", "list", "--json"], ["serve", "--port", "0"]):
        said = one_line(aiops(tmp_path, *command, "--data-dir", str(folder)), 3)
        assert str(folder) in said
        assert str(pid) in said
    made = aiops(tmp_path, "keys", "create", "ci", "--data-dir", str(folder))
    assert made.returncode == 0, "keys can be made beside a running service"


def test_commands_find_the_service_and_notice_its_death(tmp_path: Path) -> None:
    service = Service(tmp_path, {"detection": {"enabled": False}})
    try:
        where = ("--data-dir", str(service.data))
        done = aiops(tmp_path, "status", *where)
        assert (done.returncode, done.stderr) == (0, "")
        assert service.url in done.stdout
        service.process.send_signal(signal.SIGKILL)
        service.process.wait(10)
        done = aiops(tmp_path, "status", "--json", *where)
        assert done.returncode == 0, done.stderr
        assert "no service runs" in done.stderr
        assert json.loads(done.stdout)["store"]["series"] > 0, "what it had stored is there"
    finally:
        service.close()


def test_help_is_light(tmp_path: Path) -> None:
    """At most 0.3 s of CPU, by the kernel's account of the child; nothing heavy is imported."""
    used = []
    for _ in range(3):
        process = subprocess.Popen([*AIOPS, "--help"], cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        used.append(usage.ru_utime + usage.ru_stime)
    assert min(used) <= 0.3, used
    code = "import sys; from aiops.cli.app import run; status = run(['--help']); print(*sys.modules); sys.exit(status)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    assert "Commands:" in done.stdout
    assert not set(HEAVY) & set(done.stdout.splitlines()[-1].split())


def test_the_core_is_light() -> None:
    code = (
        "import pkgutil, sys, importlib, aiops.core\n"
        "for m in pkgutil.iter_modules(aiops.core.__path__): importlib.import_module(f'aiops.core.{m.name}')\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    assert not {"torch", "fastapi", "langchain", "duckdb"} & set(done.stdout.split())
