"""Answers and incidents on the terminal."""

from __future__ import annotations

import io
import math
from typing import Any

from rich.console import Console

from aiops.cli.answers import print_answer, series_block
from aiops.cli.incidents import print_incident
from aiops.cli.output import number, when

ANSWER: dict[str, Any] = {
    "text": "**shop-host-1** has the least disk left.",
    "zone": "Europe/Berlin",
    "confidence": 0.91,
    "sure": True,
    "planner": "offline",
    "limits": ["no data older than 14 days"],
    "evidence": [
        {
            "id": "E1",
            "title": "Disk space left",
            "source": "store",
            "query": "node_filesystem_avail_bytes / node_filesystem_size_bytes",
            "start_ms": 1_795_500_000_000,
            "end_ms": 1_795_503_600_000,
            "newest_ms": 1_795_503_590_000,
            "state": "ok",
            "unit": "%",
            "figures": [{"name": "free", "value": 41.5, "unit": "%", "labels": {"instance": "shop-host-1"}}],
            "lines": ["evil \x1b[31mred\x1b[0m [bold]markup[/bold] line"],
        }
    ],
}


def shown(draw: Any, data: dict[str, Any], width: int = 120) -> str:
    out = Console(file=io.StringIO(), width=width, highlight=False, markup=False, emoji=False)
    draw(data, out)
    file = out.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_an_answer_shows_query_window_figures_and_confidence() -> None:
    text = shown(print_answer, ANSWER)
    assert "shop-host-1 has the least disk left." in text
    assert "node_filesystem_avail_bytes / node_filesystem_size_bytes" in text
    assert "CET" in text
    assert "newest data 10 s before the end" in text
    assert "41.5 %" in text
    assert "instance=shop-host-1" in text
    assert "confidence 91% (sure), planned by offline" in text
    assert "no data older than 14 days" in text


def test_figures_of_many_labels_stay_readable() -> None:
    labels = {"job": "node", "fstype": "ext4", "mountpoint": "/", "simulated": "true"}
    figures = [
        {"name": "", "value": 0.1 * i, "unit": "ratio", "labels": {**labels, "instance": f"shop-host-{i}"}}
        for i in (1, 2)
    ]
    text = shown(print_answer, {**ANSWER, "evidence": [{**ANSWER["evidence"][0], "figures": figures}]}, width=80)
    assert "all of  fstype=ext4, job=node, mountpoint=/, simulated=true" in text
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "of value" in lines
    assert "instance=shop-host-1 10 %" in lines
    assert "instance=shop-host-2 20 %" in lines


def test_times_are_times_and_not_seconds() -> None:
    figures = [{"name": "opened", "value": 1_795_522_411.0, "unit": "time", "labels": {"incident": "INC-1"}}]
    text = shown(print_answer, {**ANSWER, "evidence": [{**ANSWER["evidence"][0], "figures": figures}]})
    assert "2026-11-24 13:13:31 CET" in text
    assert number(1_795_522_411.0, "time") == "2026-11-24 12:13:31 UTC"


def test_text_from_telemetry_is_neither_markup_nor_escape_code() -> None:
    text = shown(print_answer, ANSWER)
    assert "\x1b" not in text
    assert "[bold]markup[/bold]" in text


def test_states_are_told_apart() -> None:
    for state, words in (("no_match", "nothing matched"), ("source_down", "the source is down")):
        evidence = {**ANSWER["evidence"][0], "state": state, "figures": []}
        assert words in shown(print_answer, {**ANSWER, "evidence": [evidence]})


def test_an_incident_shows_its_causes() -> None:
    incident = {
        "id": "inc-1",
        "status": "open",
        "severity": "critical",
        "title": "Latency of checkout",
        "service": "payment",
        "opened_ms": 1_795_500_000_000,
        "simulated": True,
        "clear_cause": True,
        "candidates": [
            {
                "service": "payment",
                "share": 0.7,
                "metric": "p95",
                "before": 0.1,
                "after": 0.9,
                "reasons": ["saturation first"],
                "query": "up",
            }
        ],
        "signals": [{"reason": "same call path", "alert": {"name": "latency", "starts_ms": 1_795_500_000_000}}],
        "timeline": [{"time_ms": 1_795_500_000_000, "actor": "system", "event": "opened", "detail": ""}],
    }
    text = shown(print_incident, incident)
    for expected in ("inc-1 [simulated] Latency of checkout", "payment", "70%", "0.1 → 0.9", "saturation first"):
        assert expected in text
    assert "same call path" in text


def test_chart_series_become_a_block() -> None:
    block = series_block([{"labels": {"a": "x"}, "points": [[1000, 1.0], [2000, None], [3000, 2.5]]}])
    assert block is not None
    assert block.labels == ((("a", "x"),),)
    assert block.ts.tolist() == [1000, 2000, 3000]
    assert math.isnan(block.values[1])
    assert series_block([]) is None


def test_series_are_drawn() -> None:
    points = [[1_795_500_000_000 + 60_000 * i, float(i)] for i in range(60)]
    evidence = {**ANSWER["evidence"][0], "series": [{"labels": {"instance": "shop-host-1"}, "points": points}]}
    assert "█" in shown(print_answer, {**ANSWER, "evidence": [evidence]})


def test_several_figures_are_drawn_as_bars() -> None:
    figures = [{"name": "free", "value": v, "unit": "%", "labels": {"instance": n}} for n, v in (("a", 40), ("b", 20))]
    assert "█" in shown(print_answer, {**ANSWER, "evidence": [{**ANSWER["evidence"][0], "figures": figures}]})


def test_numbers_read_well() -> None:
    assert number(0.0123, "s") == "12.3 ms"
    assert number(3 * 2**30, "By") == "3 GiB"
    assert number(1234.5, "USD") == "1,234.50 USD"
    assert number(None) == "-"
    assert number("abc") == "abc"


def test_times_have_a_zone() -> None:
    assert when(1_795_500_000_000, "UTC").endswith("UTC")
    assert when(None) == ""
    assert when("not a time") == "not a time"
