"""The command line: light help, one line an error, exit statuses."""

from __future__ import annotations

import io
import json
import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from aiops.cli.app import COMMANDS, run
from aiops.core.errors import ConfigError, FolderInUse

HEAVY = ("torch", "fastapi", "langchain", "duckdb", "sqlalchemy", "mlflow", "numpy", "pydantic", "httpx", "numba")


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = run(arguments)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture(autouse=True)
def clean_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    for name in list(os.environ):
        if name.startswith("AIOPS_"):
            monkeypatch.delenv(name)


def test_help_is_light_and_names_every_command() -> None:
    code = (
        "import sys\nsys.argv = ['aiops', '--help']\nfrom aiops.cli import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        f"heavy = [m for m in {HEAVY!r} if m in sys.modules]\nassert not heavy, heavy\n"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert all(f"  {name} " in done.stdout for name in COMMANDS)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_loads_and_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = output(capsys, name, "--help")
    assert status == 0
    assert f"Usage: aiops {name}" in out


@pytest.mark.parametrize(
    "arguments", [("nonsense",), ("incidents", "nonsense"), ("ask",), ("serve", "--port", "x"), ("status", "--bogus")]
)
def test_wrong_usage_exits_2(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    status, _, err = output(capsys, *arguments)
    assert status == 2
    assert "Traceback" not in err
    assert "Error: " in err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = output(capsys, "--version")
    assert status == 0
    assert out.startswith("aiops ")


def test_a_misspelt_setting_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("server:\n  prot: 9000\n")
    status, _, err = output(capsys, "config", "check", "--config", str(file))
    assert status == 1
    assert "prot" in err
    assert "port" in err
    assert err.count("\n") == 1


def test_an_unknown_plug_in_option_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(
        "connectors: {telemetry: {}, inbound: {}}\n"
        "receivers: {ops: {plugin: webhook, url: 'http://127.0.0.1:1/', sekret: QUJD}}\n"
    )
    status, _, err = output(capsys, "config", "check", "--config", str(file))
    assert status == 1
    assert "ops" in err
    assert "did you mean 'secret'?" in err


def test_config_show_masks_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    monkeypatch.setenv("AIOPS_API_KEY", "aiops_very_secret")
    file = tmp_path / "aiops.yaml"
    file.write_text(
        "receivers: {ops: {plugin: webhook, url: 'http://127.0.0.1/very-secret', headers: {X-Pass: very-secret}}}\n"
        "connectors:\n"
        "  telemetry: {prom: {plugin: prometheus, url: 'http://me:very-secret@127.0.0.1/'}}\n"
        "  llm: {openai: {plugin: openai, api_key: very-secret}}\n"
        "  oncall: {pd: {plugin: pagerduty, api_token: very-secret}}\n"
        "  tools: {prod: {plugin: kubernetes, url: 'https://127.0.0.1', token: very-secret}}\n"
        "state: {url: 'postgresql://me:very-secret@127.0.0.1/aiops'}\n"
    )
    status, out, _ = output(capsys, "config", "show")
    assert status == 0
    assert "secret" in out
    assert "very-secret" not in out
    assert "very_secret" not in out
    status, out, _ = output(capsys, "config", "show", "--json")
    assert json.loads(out)["server"]["port"] == 8420
    assert "very-secret" not in out


def test_a_port_in_use_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, _, err = output(capsys, "serve", "--port", str(port))
        assert status == 1
        assert err == f"aiops: Port {port} on 127.0.0.1 is in use. Choose another with --port.\n"


def test_refused_connection_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    status, _, err = output(capsys, "status", "--url", f"http://127.0.0.1:{port}")
    assert status == 1
    assert err.startswith(f"aiops: No service answers at http://127.0.0.1:{port}.")
    assert err.count("\n") == 1


def test_a_command_that_changes_needs_a_service(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = output(capsys, "incidents", "ack", "inc-1")
    assert status == 1
    assert "No service runs on the data folder" in err


@pytest.mark.parametrize(("kind", "expected"), [(FolderInUse, 3), (ConfigError, 1)])
def test_a_folder_in_use_exits_3(
    kind: type[ConfigError], expected: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def held(*_: object) -> None:
        raise kind("The data folder /x is in use by pid 1.")

    monkeypatch.setattr("aiops.core.plugins.discover", held)
    status, _, err = output(capsys, "plugins", "list")
    assert status == expected
    assert err == "aiops: The data folder /x is in use by pid 1.\n"


def test_plugins_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = output(capsys, "plugins", "list", "--json")
    assert status == 0
    assert {"kind": "connectors.notifiers", "name": "webhook"}.items() <= next(
        p for p in json.loads(out) if p["name"] == "webhook"
    ).items()


def test_doctor_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "aiops.yaml"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = probe.getsockname()[1]
    file.write_text(
        "server: {port: 0}\n"
        f"connectors: {{telemetry: {{prod: {{plugin: prometheus, url: 'http://127.0.0.1:{closed}'}}}}}}\n"
    )
    status, out, _ = output(capsys, "doctor", "--data-dir", str(tmp_path / "data"))
    assert status == 1
    assert "✓ python" in out
    assert "✓ data folder" in out
    assert f"✗ source prod: http://127.0.0.1:{closed} cannot be reached" in out
    file.write_text("server: {port: 0}\n")
    status, out, _ = output(capsys, "doctor", "--json", "--data-dir", str(tmp_path / "data"))
    assert status == 0, out
    assert all(check["ok"] for check in json.loads(out))
