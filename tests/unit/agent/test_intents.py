from __future__ import annotations

import pytest

from aiops.agent.intents import classify, classify_core


@pytest.mark.parametrize(
    ("prompt", "intent"),
    [
        ("what did we spend last month?", "cost"),
        ("please restart payment", "action"),
        ("what changed today?", "change"),
        ("which metrics are there?", "discover"),
        ("show the logs of cart", "logs"),
        ("slow traces of cart", "traces"),
        ("plot the memory usage of cart", "metrics"),
        ("why is checkout slow?", "investigate"),
    ],
)
def test_intents(prompt: str, intent: str) -> None:
    assert classify(prompt) == intent


@pytest.mark.parametrize(
    ("prompt", "intent"), [("how many nodes are there?", "state"), ("fix it", "clarify"), ("", "clarify")]
)
def test_core_intents(prompt: str, intent: str) -> None:
    assert classify_core(prompt) == intent
