"""Every case of every world is answered as it expects, by the offline planner; and the command that runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aiops.agent.evals import Verdict, cases, worlds
from aiops.cli.app import run
from aiops.core.errors import InvalidInput
from aiops.settings import Settings
from aiops.wiring.eval_world import read_world
from aiops.wiring.evals import judged_cases

WORLDS = Path(__file__).parent / "worlds"


@pytest.mark.parametrize("world", worlds(WORLDS), ids=lambda path: path.name)
def test_world(world: Path) -> None:
    judged = [j for _, j in judged_cases(world, Settings())]
    assert {f"{j.case.id}: {j.verdict.value}, {j.misses}" for j in judged if j.verdict is not Verdict.RIGHT} == set()


def test_there_are_cases_enough_of_every_kind() -> None:
    every = [case for world in worlds(WORLDS) for case in cases(world)]
    assert len(every) >= 120
    assert sum(len(case.question) > 1 for case in every) >= 5  # follow-ups
    assert sum(case.abstains for case in every) >= 10
    steps = {kind for case in every for kind in case.steps}
    assert {"metric", "log", "cost", "forecast", "compare", "explain", "change"} <= steps


def test_the_command_prints_a_table_and_fails_above_its_limit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["evals", "run", "--cases", str(WORLDS / "money"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["shares"]["right"] == 1.0
    assert told["cases"] == len(told["answers"])
    wrong = tmp_path / "money"
    wrong.mkdir()
    (wrong / "world.yaml").write_text((WORLDS / "money/world.yaml").read_text())
    (wrong / "cases.yaml").write_text('- {id: x, question: "what did we spend yesterday?", says: ["1 EUR"]}\n')
    assert run(["evals", "run", "--cases", str(wrong), "--max-wrong-and-sure", "0.05"]) == 1
    shown = capsys.readouterr()
    assert "does not say '1 EUR'" in " ".join(shown.out.split())
    assert "100.0% of the answers were wrong and sure" in shown.err


@pytest.mark.parametrize(
    ("world", "rows", "words"),
    [
        ("now: x\n", "[]", "world.yaml cannot be used"),
        ("now: 2026-11-24T12:00:00Z\nserie: []\n", "[]", "serie"),
        ("now: 2026-11-24T12:00:00Z\n", "- {id: a}", "cases.yaml cannot be used"),
        ("now: 2026-11-24T12:00:00Z\n", "- {id: a, question: x}\n- {id: a, question: y}", "two cases have the same id"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, world: str, rows: str, words: str) -> None:
    (tmp_path / "world.yaml").write_text(world)
    (tmp_path / "cases.yaml").write_text(rows)
    with pytest.raises(InvalidInput, match=words):
        list(judged_cases(tmp_path, Settings()))


def test_a_folder_without_a_world_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="No world is in"):
        worlds(tmp_path)


def test_every_world_reads() -> None:
    assert {path.name for path in worlds(WORLDS)} == {"fault", "middleware", "money", "quiet", "shop"}
    assert all(read_world(path).now_ms for path in worlds(WORLDS))
