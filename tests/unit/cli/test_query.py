"""``aiops query``: answers as promtool prints them, mistakes under a caret."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from aiops.cli.app import run
from aiops.core.ports import Collected
from aiops.core.series import NativeHistogram, SampleBlock, labels_of
from aiops.ingest.exponential import Exponential, Side
from aiops.settings import StoreSettings
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore

NOW = 1_764_000_000_000


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    store = TelemetryStore(TelemetryDatabase(tmp_path / "telemetry.duckdb", StoreSettings(), lambda: NOW))
    rows = [
        (labels_of({"__name__": "up", "job": job, "note": 'a"b'}), [NOW - 15_000, NOW], [1.0, 0.5])
        for job in ("a", "b")
    ]
    native = Exponential(0, 8, 20.0, 2, 0.5, Side(0, np.array([4])), Side(0, np.array([2]))).native(NOW)
    held = NativeHistogram(labels_of({"__name__": "lat"}), NOW, native)
    store.append(Collected(samples=SampleBlock.build(rows), histograms=(held,)))
    store.close()
    return tmp_path


def test_answers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = ["--data-dir", str(folder)]
    assert run(["query", "up", "--time", "1764000000", *here]) == 0
    assert capsys.readouterr().out.splitlines() == [
        'up{job="a", note="a\\"b"} => 0.5 @[1764000000]',
        'up{job="b", note="a\\"b"} => 0.5 @[1764000000]',
    ]
    arguments = ["--start", "1763999985", "--end", "1764000000", "--step", "15", *here]
    assert run(["query", "sum(up)", *arguments]) == 0
    assert capsys.readouterr().out.splitlines() == ["{} =>", "2 @[1763999985]", "1 @[1764000000]"]
    assert run(["query", "rate(up[1m]) * 0 + 1 / 4", "--time", "1764000000", "--json", *here]) == 0
    shown = capsys.readouterr()
    assert [row["value"][1] for row in json.loads(shown.out)["result"]] == ["0.25", "0.25"]
    assert "might not be a counter" in shown.err
    assert run(["query", "1 + 1", "--time", "1764000000", *here]) == 0
    assert capsys.readouterr().out == "scalar: 2 @[1764000000]\n"


def test_native_histograms_are_shown_whole(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = ["--data-dir", str(folder)]
    one = "{count:8, sum:20, [-2,-1):2, [-0.5,0.5]:2, (1,2]:4}"
    assert run(["query", "lat", "--time", "1764000000", *here]) == 0
    assert capsys.readouterr().out == f"lat{{}} => {one} @[1764000000]\n"
    arguments = ["--start", "1764000000", "--end", "1764000000", "--step", "15", *here]
    assert run(["query", "lat or up{job='a'}", *arguments]) == 1
    assert "only functions of histograms read" in capsys.readouterr().err
    assert run(["query", "lat", *arguments]) == 0
    assert capsys.readouterr().out.splitlines() == ["lat{} =>", f"{one} @[1764000000]"]


def test_a_caret_stands_under_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["query", "sum(\n  ratte(x[5m])\n)"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        'aiops: 2:3: parse error: unknown function with name "ratte"',
        "  ratte(x[5m])",
        "  ^ ",
        "Did you mean 'rate'?",
    ]
    assert run(["query", "sum by job (x)"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == " " * 7 + "^"


def test_a_range_is_whole_or_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["query", "up", "--start", "1"]) == 1
    assert "--start, --end and --step" in capsys.readouterr().err
