from __future__ import annotations

import pytest

from aiops.agent import prompts
from aiops.agent.limits import DailyBudget
from aiops.core.errors import ConfigError, LimitExceeded


def test_a_day_s_money_is_spent_once_and_comes_back_the_next_day() -> None:
    now = [1_795_521_600_000]
    budget = DailyBudget(1.0, lambda: now[0])
    budget.check("openai:x", 0.6)
    budget.record("openai:x", 0.6, {})
    with pytest.raises(LimitExceeded) as caught:
        budget.check("openai:x", 0.6)
    assert caught.value.kind == "budget"
    now[0] += 86_400_000
    budget.check("openai:x", 0.6)
    assert budget.spent == 0


def test_prompts_are_package_data_with_a_version() -> None:
    prompt = prompts.load("plan_question")
    assert prompt.version >= 1
    text = prompt.fill(now="1", zone="UTC", concepts="- {x}", services="«a»")
    assert "«a»" in text
    with pytest.raises(ConfigError, match="missing"):
        prompt.fill(now="1")
    with pytest.raises(ConfigError, match="no prompt"):
        prompts.load("nothing")
