"""OpenAI, and any server that speaks its chat-completions protocol (vLLM, llama.cpp, Ollama, gateways).

Requests go to ``base_url`` and nowhere else. There are no hidden retries: the planner decides what a failure means.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, SecretStr

from aiops.core.ports import ChatModelProvider, PluginOptions

OPENAI_URL = "https://api.openai.com/v1"
UNUSED_KEY = SecretStr("none")
"""Local servers take any key; the client library refuses to start without one."""


class OpenAiOptions(PluginOptions):
    """``base_url`` empty means OpenAI itself; ``timeout_s`` bounds one request."""

    base_url: str = ""
    api_key: SecretStr = SecretStr("")
    timeout_s: float = Field(30.0, gt=0, le=600)
    max_output_tokens: int = Field(4000, gt=0)


class OpenAi(ChatModelProvider[OpenAiOptions]):
    """``openai:MODEL``, by the chat-completions API."""

    Options = OpenAiOptions
    extra = "llm"
    needs = ("langchain_openai",)

    @property
    def address(self) -> str:
        return self.options.base_url or OPENAI_URL

    def chat_model(self, model: str) -> Any:
        from langchain_openai import ChatOpenAI

        return ChatOpenAI(
            model=model,
            base_url=self.options.base_url or OPENAI_URL,
            api_key=self.options.api_key if self.options.api_key.get_secret_value() else UNUSED_KEY,
            timeout=self.options.timeout_s,
            max_retries=0,
            max_completion_tokens=self.options.max_output_tokens,
            use_responses_api=False,
        )
