"""Anthropic's models by its Messages API, or a gateway that speaks it."""

from __future__ import annotations

from typing import Any

from pydantic import Field, SecretStr

from aiops.core.ports import ChatModelProvider, PluginOptions

ANTHROPIC_URL = "https://api.anthropic.com"


class AnthropicOptions(PluginOptions):
    """``base_url`` empty means Anthropic itself; ``timeout_s`` bounds one request."""

    api_key: SecretStr
    base_url: str = ""
    timeout_s: float = Field(30.0, gt=0, le=600)
    max_output_tokens: int = Field(4000, gt=0)


class Anthropic(ChatModelProvider[AnthropicOptions]):
    """``anthropic:MODEL``."""

    Options = AnthropicOptions
    extra = "llm-anthropic"
    needs = ("langchain_anthropic",)

    @property
    def address(self) -> str:
        return self.options.base_url or ANTHROPIC_URL

    def chat_model(self, model: str) -> Any:
        from langchain_anthropic import ChatAnthropic

        return ChatAnthropic(
            model=model,
            base_url=self.options.base_url or ANTHROPIC_URL,
            api_key=self.options.api_key,
            timeout=self.options.timeout_s,
            max_retries=0,
            max_tokens_to_sample=self.options.max_output_tokens,
            stop=None,
        )
