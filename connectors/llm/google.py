"""Google's Gemini models: by an API key, or in a project on Vertex AI."""

from __future__ import annotations

from typing import Any

from pydantic import Field, SecretStr, model_validator

from aiops.core.ports import ChatModelProvider, PluginOptions


class GoogleOptions(PluginOptions):
    """``api_key``, or ``project`` and ``location`` with Google's application default credentials.

    ``base_url`` empty means Google itself; ``timeout_s`` bounds one request.
    """

    api_key: SecretStr = SecretStr("")
    project: str = ""
    location: str = ""
    base_url: str = ""
    timeout_s: float = Field(30.0, gt=0, le=600)
    max_output_tokens: int = Field(4000, gt=0)

    @model_validator(mode="after")
    def one_way_in(self) -> GoogleOptions:
        if bool(self.api_key.get_secret_value()) == bool(self.project):
            raise ValueError("give either api_key or project")
        if self.project and not self.location:
            raise ValueError("project needs a location, such as europe-west4")
        return self


class Google(ChatModelProvider[GoogleOptions]):
    """``google:MODEL``, such as ``google:gemini-2.5-flash``."""

    Options = GoogleOptions
    extra = "llm-google"
    needs = ("langchain_google_genai",)

    @property
    def address(self) -> str:
        return self.options.base_url or "https://generativelanguage.googleapis.com"

    def chat_model(self, model: str) -> Any:
        from langchain_google_genai import ChatGoogleGenerativeAI

        options = self.options
        way: dict[str, Any] = (
            {"vertexai": True, "project": options.project, "location": options.location}
            if options.project
            else {"google_api_key": options.api_key}
        )
        return ChatGoogleGenerativeAI(
            model=model,
            base_url=options.base_url or None,
            timeout=options.timeout_s,
            max_retries=1,  # attempts, the first included
            max_output_tokens=options.max_output_tokens,
            **way,
        )
