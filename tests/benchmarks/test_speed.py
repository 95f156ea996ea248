"""The speed bench runs at tiny sizes, and its answers agree with the peers'. No time is asserted."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from tests.benchmarks import reads, speed
from tests.benchmarks.peers import OURS, PROMETHEUS, VICTORIA
from tests.benchmarks.workload import Sizes
from tests.integration.servers import binary


def test_the_bench_runs_and_its_answers_agree(tmp_path: Path) -> None:
    binary("prometheus"), binary("victoria-metrics")
    sizes = Sizes(series=30, hours=6.2, scrapes=4, shard_series=20, repeats=1, disk_series=5, month_series=2)
    results = speed.run(sizes, tmp_path, without=("disk", "month"))
    assert set(results.versions) == {OURS, VICTORIA, PROMETHEUS}
    assert results.answers
    assert {what: answer for what, answer in results.answers.items() if answer != "equal"} == {}
    assert all(row.values[OURS] >= 0 for row in results.rows)
    console = Console(width=200, record=True, quiet=True)
    speed.show(results, console)
    shown = json.loads(json.dumps(results.as_json()))
    assert {row["name"] for row in shown["rows"]} >= {"start to /healthz", "disk, history with its open block"}


def test_a_difference_is_told() -> None:
    row = {"metric": {"job": "a"}, "values": [[1, "2"], [2, "3"]]}
    assert reads.difference([row], [row]) == "equal"
    assert reads.difference([], []) != "equal"
    assert reads.difference([row], []) != "equal"
    assert "at 2: 3 against 4" in reads.difference([row], [{**row, "values": [[1, "2"], [2, "4"]]}])
    assert "2 points against 1" in reads.difference([row], [{**row, "values": [[1, "2"]]}])
