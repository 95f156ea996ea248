"""The demo's settings, folder and port, and what it asks of an answer."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from aiops.core.errors import ConfigError, FolderInUse
from aiops.demo.probe import wait_until
from aiops.demo.scenario import missing_parts
from aiops.demo.watching import MARK, demo_settings, free_port, fresh_folder, watch_list
from aiops.promql.parse import parse


def test_watched_queries_parse_and_see_only_simulated_series() -> None:
    entries = watch_list()
    assert len({e.name for e in entries}) == len(entries)
    for entry in entries:
        parse(entry.query)
        assert entry.query.count("{") == entry.query.count('{simulated="true"')
        assert "simulated)" in entry.query or "simulated, le)" in entry.query


def test_the_settings_are_valid_and_need_no_outside_service(tmp_path: Path) -> None:
    settings = demo_settings(tmp_path, 8421, "http://127.0.0.1:1/alerts", "whsec_QUJD")
    assert settings.server.port == 8421
    assert settings.server.host == "127.0.0.1"
    assert settings.agent.planner == "offline"
    assert settings.receivers["demo"].options["url"] == "http://127.0.0.1:1/alerts"
    assert not settings.connectors.chat


def test_a_folder_is_emptied_only_when_it_is_the_demos(tmp_path: Path) -> None:
    folder = fresh_folder(tmp_path / "demo")
    (folder / "old").write_text("x")
    assert not (fresh_folder(folder) / "old").exists()
    assert (folder / MARK).is_file()
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "precious").write_text("x")
    with pytest.raises(ConfigError, match="something else"):
        fresh_folder(foreign)
    assert (foreign / "precious").is_file()


def test_a_folder_that_cannot_be_made_or_is_in_use(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="cannot be written"):
        fresh_folder(tmp_path / "file" / "demo")
    folder = fresh_folder(tmp_path / "demo")
    (folder / "service.json").write_text(json.dumps({"url": "http://127.0.0.1:1", "pid": os.getpid()}))
    with pytest.raises(FolderInUse):
        fresh_folder(folder)


def test_a_taken_port_is_replaced() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) not in (0, port)


def test_an_answer_without_a_part_is_told() -> None:
    whole = {"id": "E1", "query": "up", "figures": [1], "start_ms": 1, "end_ms": 2, "chart": "/x.png"}
    assert list(missing_parts({"text": "x", "evidence": [whole]})) == []
    assert list(missing_parts({"text": "x", "evidence": []})) == ["a query", "figures", "a window", "a chart"]
    assert list(missing_parts({"text": "", "evidence": [{**whole, "chart": None}]})) == ["text", "a chart"]


def test_waiting_gives_the_first_thing_found() -> None:
    things = iter([None, None, "found"])
    assert wait_until(lambda: next(things), 5.0, 0.0) == "found"
    assert wait_until(lambda: None, 0.0, 0.0) is None
