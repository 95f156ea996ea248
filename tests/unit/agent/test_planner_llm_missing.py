"""Without the extra the LLM planner is not built, and says what to install."""

import pytest

from aiops.agent import planner_llm
from aiops.agent.planner_llm import LlmPlanner
from aiops.core.errors import ConfigError
from aiops.core.plugins import build
from aiops.core.ports import PluginContext


@pytest.mark.parametrize(
    ("plugin", "package", "extra"),
    [("openai", "genai_prices", "llm"), ("anthropic", "langchain_anthropic", "llm-anthropic")],
)
def test_a_missing_package_is_named_with_the_extra(monkeypatch, plugin, package, extra):
    provider = build("connectors.llm", plugin, {"api_key": "k"}, PluginContext(plugin))
    found = planner_llm.find_spec
    monkeypatch.setattr(planner_llm, "find_spec", lambda name: None if name == package else found(name))
    with pytest.raises(ConfigError, match=rf"needs {package}, .*Install aiops-assistant\[{extra}\]"):
        LlmPlanner(provider, plugin, "m", None)
