from __future__ import annotations

import pytest

from aiops.agent.conversation import is_follow_up


@pytest.mark.parametrize(
    "text", ["and per instance?", "only prod", "why?", "what about payment?", "now by region", "is it slow?"]
)
def test_follow_ups(text: str) -> None:
    assert is_follow_up(text)


@pytest.mark.parametrize(
    "text", ["which hosts are low on disk?", "what did we spend this week?", "show the error logs of payment"]
)
def test_questions_of_their_own(text: str) -> None:
    assert not is_follow_up(text)
