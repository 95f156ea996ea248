from __future__ import annotations

import pytest

from aiops.agent import prompts
from aiops.core.errors import ConfigError


def test_prompts_are_package_data_with_a_version() -> None:
    prompt = prompts.load("plan_question")
    assert prompt.version >= 1
    text = prompt.fill(now="1", zone="UTC", concepts="- {x}", services="«a»")
    assert "«a»" in text
    with pytest.raises(ConfigError, match="missing"):
        prompt.fill(now="1")
    with pytest.raises(ConfigError, match="no prompt"):
        prompts.load("nothing")
