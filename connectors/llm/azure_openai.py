"""OpenAI's models as Azure serves them: a deployment of a resource, by the chat-completions API."""

from __future__ import annotations

from typing import Any

from pydantic import Field, SecretStr

from aiops.core.ports import ChatModelProvider, PluginOptions


class AzureOpenAiOptions(PluginOptions):
    """``endpoint`` is the resource's address, such as ``https://NAME.openai.azure.com``."""

    endpoint: str = Field(pattern=r"^https?://")
    api_key: SecretStr
    api_version: str = "2024-10-21"
    timeout_s: float = Field(30.0, gt=0, le=600)
    max_output_tokens: int = Field(4000, gt=0)


class AzureOpenAi(ChatModelProvider[AzureOpenAiOptions]):
    """``azure_openai:DEPLOYMENT``."""

    Options = AzureOpenAiOptions
    extra = "llm"
    needs = ("langchain_openai",)

    @property
    def address(self) -> str:
        return self.options.endpoint

    def chat_model(self, model: str) -> Any:
        from langchain_openai import AzureChatOpenAI

        return AzureChatOpenAI(
            azure_endpoint=self.options.endpoint,
            azure_deployment=model,
            api_version=self.options.api_version,
            api_key=self.options.api_key,
            timeout=self.options.timeout_s,
            max_retries=0,
            max_completion_tokens=self.options.max_output_tokens,
            use_responses_api=False,
        )
