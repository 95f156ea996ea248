"""Local models by Ollama's own chat API. Nothing leaves the machine where the server runs on it."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from aiops.core.ports import ChatModelProvider, PluginOptions


class OllamaOptions(PluginOptions):
    """``timeout_s`` bounds one request; ``context_tokens`` is what the model is loaded with."""

    base_url: str = "http://127.0.0.1:11434"
    timeout_s: float = Field(120.0, gt=0, le=600)
    context_tokens: int = Field(16_384, ge=2048)
    max_output_tokens: int = Field(4000, gt=0)


class Ollama(ChatModelProvider[OllamaOptions]):
    """``ollama:MODEL``."""

    Options = OllamaOptions
    extra = "llm-ollama"
    needs = ("langchain_ollama",)

    @property
    def address(self) -> str:
        return self.options.base_url

    def chat_model(self, model: str) -> Any:
        from langchain_ollama import ChatOllama

        return ChatOllama(
            model=model,
            base_url=self.options.base_url,
            num_ctx=self.options.context_tokens,
            num_predict=self.options.max_output_tokens,
            client_kwargs={"timeout": self.options.timeout_s, "trust_env": False},
        )
