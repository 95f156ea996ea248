"""Without the extra the LLM planner is not built, and says what to install."""

import pytest

from aiops.agent import planner_llm
from aiops.agent.planner_llm import LlmPlanner
from aiops.core.errors import ConfigError


def test_a_missing_package_is_named_with_the_extra(monkeypatch):
    found = planner_llm.find_spec
    monkeypatch.setattr(planner_llm, "find_spec", lambda name: None if name == "genai_prices" else found(name))
    with pytest.raises(ConfigError, match=r"needs genai_prices, .*Install aiops-assistant\[llm\]"):
        LlmPlanner(None, "openai", "m", None)
