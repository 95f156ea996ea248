"""The assistant."""

from __future__ import annotations

from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import field_validator

from aiops.settings.section import Section


class LlmSettings(Section):
    """Used where ``model`` is set or a key is found; otherwise the offline planner answers."""

    model: str = ""
    """``provider:model``, such as ``openai:gpt-5-mini``."""
    base_url: str = ""
    timeout_s: float = 30.0
    max_cost_per_day: float = 5.0
    max_calls_per_question: int = 6
    pseudonyms: bool = False
    """Hosts and users reach the model under stand-ins, which are turned back in what it plans."""
    local_only: bool = False
    """Refuse to start with a model that is not on this machine or in a private network."""


class AgentSettings(Section):
    planner: Literal["auto", "offline", "llm"] = "auto"
    metrics_source: str = ""
    """A telemetry connector to ask metrics from; empty means the store, or the only Prometheus configured."""
    logs_source: str = ""
    """A telemetry connector whose logs are asked in place, such as a ``loki``; empty means the store."""
    traces_source: str = ""
    """The same for spans."""
    zone: str = "UTC"
    max_series: int = 1000
    deadline_s: float = 30.0
    llm: LlmSettings = LlmSettings()

    @field_validator("zone")
    @classmethod
    def known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except Exception as error:
            raise ValueError(f"'{value}' is not an IANA time zone name") from error
        return value
