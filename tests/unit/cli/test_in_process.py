"""Commands on a data folder that no service holds: the same routes, over real stores."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from aiops.cli.app import run
from aiops.incidents import transitions
from aiops.store.state.database import StateDatabase, sqlite_url
from aiops.store.state.incidents import IncidentRepository
from tests.unit.incidents.signals import T0, anomaly

FOCUS = (
    "BillingAccountId,BillingPeriodStart,BillingPeriodEnd,ChargePeriodStart,ChargePeriodEnd,"
    "ServiceName,EffectiveCost,BilledCost,BillingCurrency\n"
    "acme,2026-01-01T00:00:00Z,2026-02-01T00:00:00Z,2026-01-05T00:00:00Z,2026-01-06T00:00:00Z,Compute,12.5,12.5,USD\n"
    "acme,2026-01-01T00:00:00Z,2026-02-01T00:00:00Z,2026-01-06T00:00:00Z,2026-01-07T00:00:00Z,Storage,2.5,2.5,USD\n"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = run(arguments)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_reading_commands_need_no_service(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--data-dir", str(folder))
    status, out, err = output(capsys, "status", "--json", *where)
    assert status == 0, err
    assert json.loads(out)["store"]["samples"] == 0
    assert f"answering from {folder} itself" in err
    status, out, _ = output(capsys, "incidents", "list", *where)
    assert (status, out) == (0, "No incidents.\n")
    status, out, _ = output(capsys, "ask", "which", "hosts", "are", "low", "on", "disk?", *where)
    assert status == 0
    assert "planned by offline" in out


def test_questions_are_remembered_marked_and_saved(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    where = ("--data-dir", str(folder))
    monkeypatch.setattr("sys.stdin", io.StringIO("which hosts are low on disk?\n"))
    status, out, err = output(capsys, "ask", "--explain", *where)
    assert status == 0, err
    assert "Plan" in out
    assert "intent" in out
    status, out, _ = output(capsys, "questions", "history", "--json", *where)
    (asked,) = json.loads(out)["answers"]
    assert asked["question"] == "which hosts are low on disk?"
    assert output(capsys, "questions", "show", asked["id"], *where)[0] == 0
    assert output(capsys, "questions", "save", "disks", "which", "hosts", "are", "low", "on", "disk?", *where)[0] == 0
    assert "disks" in output(capsys, "questions", "list", *where)[1]
    assert "planned by offline" in output(capsys, "questions", "run", "disks", *where)[1]
    assert output(capsys, "questions", "delete", "disks", *where)[1] == "Forgot disks.\n"
    status, _, err = output(capsys, "questions", "run", "disks", *where)
    assert (status, "There is no saved question 'disks'." in err) == (1, True)


def test_a_conversation_goes_on_until_an_empty_line(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = iter(["which hosts are low on disk?", "x" * 3000, "and memory?", ""])
    monkeypatch.setattr("builtins.input", lambda _prompt: next(turns))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    status, out, err = output(capsys, "ask", "--data-dir", str(folder))
    assert status == 0
    assert out.count("planned by offline") == 2
    assert "question: String should have at most 2000 characters" in err


def test_a_bill_is_imported_and_summed(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "bill.csv"
    file.write_text(FOCUS)
    where = ("--data-dir", str(folder))
    status, out, err = output(capsys, "cost", "import", str(file), *where)
    assert status == 0, err
    assert out == "Imported 2 rows of bill.csv.\n"
    file.write_text("ServiceName,EffectiveCost\nCompute,1\n")
    status, _, err = output(capsys, "cost", "import", str(file), *where)
    assert status == 1
    assert "BillingAccountId" in err
    status, out, _ = output(capsys, "cost", "budgets", *where)
    assert (status, out) == (0, "No budgets are configured.\n")


def test_an_incident_is_reported_to_the_terminal_and_to_a_file(
    folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder.mkdir()
    state = StateDatabase(sqlite_url(folder))
    state.upgrade()
    IncidentRepository(state).save(transitions.opened("INC-7", anomaly("checkout"), T0))
    state.close()
    where = ("--data-dir", str(folder))
    status, out, err = output(capsys, "report", "incident", "INC-7", *where)
    assert status == 0, err
    assert out.startswith("INC-7  checkout: latency p95 1.9 s")
    for name, start in (("i.html", "<!doctype html>"), ("i.md", "**INC")):
        assert output(capsys, "report", "incident", "INC-7", str(tmp_path / name), *where)[0] == 0
        assert (tmp_path / name).read_text().lower().startswith(start.lower())
    status, _, err = output(capsys, "report", "incident", "INC-8", *where)
    assert (status, "INC-8" in err) == (1, True)


def test_keys_are_made_listed_and_revoked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--data-dir", str(folder))
    status, out, err = output(
        capsys, "keys", "create", "ci", "--role", "viewer", "--scope", 'team="shop"', "--json", *where
    )
    assert status == 0, err
    made = json.loads(out)
    assert made["key"].startswith(f"aiops_{made['id']}_")
    status, out, _ = output(capsys, "keys", "list", "--json", *where)
    assert json.loads(out)[0]["scope"] == ['team="shop"']
    assert made["key"] not in out
    status, out, _ = output(capsys, "keys", "revoke", made["id"], *where)
    assert (status, out) == (0, f"{made['id']} (ci) is revoked.\n")
    status, _, err = output(capsys, "keys", "create", "x", "--role", "king", *where)
    assert status == 1
    assert "There is no role 'king'" in err
    status, out, _ = output(capsys, "audit", "verify", *where)
    assert status == 0
    assert out.startswith("The audit log is whole: 2 entries")


def test_a_data_folder_that_is_a_file_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder.write_text("x")
    status, _, err = output(capsys, "serve", "--port", "0", "--data-dir", str(folder))
    assert status == 1
    assert err.count("\n") == 1
    assert str(folder) in err
