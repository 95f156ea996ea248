from __future__ import annotations

import pytest

from aiops.agent import money, time_phrases
from aiops.core.principal import LOCAL
from aiops.core.query import Question

NOW = 1_773_230_400_000
BILL = {"ServiceName": ("Virtual Machines", "Object Storage"), "SubAccountName": ("prod", "staging")}


def read(text: str, bill: money.Bill = BILL) -> money.Money:
    phrase = time_phrases.find(text, NOW)
    return money.read(Question(text, LOCAL, NOW), phrase.rest, phrase.window, phrase.back_s, bill)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("what will the bill be this month?", "forecast"),
        ("are we over budget?", "forecast"),
        ("what did we spend last week?", "summary"),
        ("did anything spike in the bill?", "anomalies"),
    ],
)
def test_what_is_asked(text: str, what: str) -> None:
    step = read(text).step
    assert step is not None
    assert step.what == what


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("cost of virtual machines", {"ServiceName": "Virtual Machines"}),
        ("storage spend", {"ServiceName": "Object Storage"}),
        ("what does staging cost?", {"SubAccountName": "staging"}),
        ("storage cost of prod", {"ServiceName": "Object Storage", "SubAccountName": "prod"}),
        ("what do we spend?", {}),
    ],
)
def test_values_of_the_bill_filter(text: str, where: dict[str, str]) -> None:
    step = read(text).step
    assert step is not None
    assert step.where == where


def test_what_the_bill_does_not_hold_is_said() -> None:
    got = read("what will the GPU bill be?")
    assert got.step is None
    assert "'GPU'" in got.clarify
    assert "Object Storage" in got.clarify


def test_without_a_known_bill_strange_words_only_lower_the_confidence() -> None:
    got = read("what will the GPU bill be?", {})
    assert got.step is not None
    assert got.confidence < 0.6


@pytest.mark.parametrize(
    "text",
    [
        "what does the assistant itself cost?",
        "how much did you cost this week?",
        "what do you cost us?",
        "cost of aiops last month",
        "what did this assistant spend yesterday?",
    ],
)
def test_the_assistant_knows_what_it_costs_itself(text: str) -> None:
    step = read(text, {**BILL, "ServiceName": (*BILL["ServiceName"], "aiops")}).step
    assert step is not None
    assert step.where == {"ServiceName": "aiops"}
    assert step.group_by == ("ResourceId",)
    assert read(text).step is None or "aiops" not in read(text).step.where.values()  # type: ignore[union-attr]


def test_who_is_asked_is_not_what_is_asked_about() -> None:
    step = read("can you tell what we spent on storage?", {**BILL, "ServiceName": (*BILL["ServiceName"], "aiops")}).step
    assert step is None or step.where.get("ServiceName") != "aiops"
