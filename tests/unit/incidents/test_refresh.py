"""Receivers that forget are told again; a failing one holds up no other and is logged once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import pytest

from aiops.core.errors import TransientError
from aiops.core.incident import Incident, Notification
from aiops.core.ports import Notifier, PluginContext, PluginOptions
from aiops.incidents.refresh import Refresher
from tests.contract.incidents import INCIDENT


class Forgetful(Notifier[PluginOptions]):
    refresh_s = 60.0

    def __init__(self, name: str, failing: bool = False) -> None:
        super().__init__(PluginOptions(), PluginContext(name, lambda: 0))
        self.failing = failing
        self.told: list[Sequence[Incident]] = []

    def notify(self, notification: Notification) -> str:
        raise AssertionError("only refreshed here")

    def refresh(self, incidents: Sequence[Incident]) -> None:
        if self.failing:
            raise TransientError("away")
        self.told.append(incidents)


class Remembering(Forgetful):
    refresh_s = 0.0


def test_tells_each_what_it_was_told_of(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    bad, good, idle, other = Forgetful("bad", failing=True), Forgetful("good"), Forgetful("idle"), Remembering("other")
    receivers: dict[str, Notifier[Any]] = {"bad": bad, "good": good, "idle": idle, "other": other}
    refresher = Refresher(receivers, lambda name: [INCIDENT] if name != "idle" else [])
    refresher.run_once()
    refresher.run_once()
    assert good.told == [[INCIDENT], [INCIDENT]]
    assert idle.told == other.told == []
    assert [r.getMessage() for r in caplog.records] == ["bad cannot be told again: away"]
    bad.failing = False
    refresher.run_once()
    bad.failing = True
    refresher.run_once()
    assert len(caplog.records) == 2


def test_starts_and_stops() -> None:
    fast = type("Fast", (Forgetful,), {"refresh_s": 0.01})("fast")
    refresher = Refresher({"fast": fast}, lambda name: [INCIDENT])
    refresher.start()
    while len(fast.told) < 2:
        pass
    refresher.stop()
    count = len(fast.told)
    assert not any(loop.running for loop in refresher._loops)
    assert len(fast.told) == count
