"""A whole service in this process, on a free loopback port."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aiops import wiring
from aiops.settings import load_settings


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., wiring.Service]]:
    """``serve(section={...})`` starts a service with those settings; all are stopped at the end."""
    monkeypatch.chdir(tmp_path)
    started: list[wiring.Service] = []

    def start(**sections: Any) -> wiring.Service:
        sections.setdefault("data_dir", tmp_path / f"data-{len(started)}")
        sections.setdefault("detection", {"enabled": False})
        sections["server"] = {"port": 0, **sections.get("server", {})}
        service = wiring.build(load_settings(None, sections))
        started.append(service)
        service.start()
        return service

    yield start
    for service in started:
        service.stop()
