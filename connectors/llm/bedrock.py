"""Models on Amazon Bedrock by its Converse API."""

from __future__ import annotations

from typing import Any

from pydantic import Field, SecretStr

from aiops.core.ports import ChatModelProvider, PluginOptions


class BedrockOptions(PluginOptions):
    """Without keys the AWS default chain holds: environment, profile, instance role.

    ``endpoint`` is for a private endpoint; ``timeout_s`` bounds one request.
    """

    region: str = Field(min_length=1)
    access_key_id: SecretStr = SecretStr("")
    secret_access_key: SecretStr = SecretStr("")
    session_token: SecretStr = SecretStr("")
    endpoint: str = ""
    timeout_s: float = Field(30.0, gt=0, le=600)
    max_output_tokens: int = Field(4000, gt=0)


class Bedrock(ChatModelProvider[BedrockOptions]):
    """``bedrock:MODEL``, where the model is the id of a foundation model or of an inference profile in the region."""

    Options = BedrockOptions
    extra = "llm-bedrock"
    needs = ("langchain_aws",)

    @property
    def address(self) -> str:
        return self.options.endpoint or f"https://bedrock-runtime.{self.options.region}.amazonaws.com"

    def chat_model(self, model: str) -> Any:
        from botocore.config import Config  # type: ignore[import-untyped]
        from langchain_aws import ChatBedrockConverse

        options = self.options
        secrets = {
            "aws_access_key_id": options.access_key_id,
            "aws_secret_access_key": options.secret_access_key,
            "aws_session_token": options.session_token,
        }
        return ChatBedrockConverse(
            model_id=model,
            region_name=options.region,
            endpoint_url=options.endpoint or None,
            config=Config(
                connect_timeout=min(options.timeout_s, 10),
                read_timeout=options.timeout_s,
                retries={"total_max_attempts": 1},
            ),
            disable_streaming=True,
            max_tokens=options.max_output_tokens,
            **{name: value for name, value in secrets.items() if value.get_secret_value()},
        )
