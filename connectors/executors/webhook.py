"""Actions by a signed webhook: whatever the receiver's automation makes of it."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

from pydantic import Field, SecretStr, field_validator
from standardwebhooks.webhooks import Webhook as Signer

from aiops.core.action import Action, ExecutionResult
from aiops.core.errors import PermanentError
from aiops.core.ports import Executor, PluginContext, PluginOptions
from connectors.http import client


class WebhookOptions(PluginOptions):
    """``secret`` is Standard Webhooks' base64 key and required: nobody else may trigger the automation.

    ``description`` tells the approver what the receiver will do.
    """

    url: SecretStr
    secret: SecretStr
    description: str = Field("runs the automation behind this webhook", max_length=300)
    timeout_s: float = Field(20.0, gt=0, le=120)

    @field_validator("secret")
    @classmethod
    def base64_secret(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value().removeprefix("whsec_")
        try:
            if not base64.b64decode(text + "=" * (-len(text) % 4), validate=True):
                raise ValueError("it is empty")
        except ValueError as error:
            raise ValueError("the signing secret must be base64 and not empty") from error
        return value


class Webhook(Executor[WebhookOptions]):
    """Posts the approved action as JSON, signed as Standard Webhooks.

    ``webhook-id`` is the proposal's id: a receiver that has seen it must not act again. Tried once; a time-out
    leaves the outcome unknown, which is reported as such and never retried.
    """

    Options = WebhookOptions
    action_kinds = ("webhook",)

    def __init__(self, options: WebhookOptions, context: PluginContext) -> None:
        super().__init__(options, context)
        self._client = client(context.name, timeout_s=options.timeout_s, attempts=1)
        self._signer = Signer(options.secret.get_secret_value())

    def dry_run(self, action: Action) -> str:
        if action.kind not in self.action_kinds:
            raise PermanentError(f"{self.context.name} cannot do '{action.kind}'.")
        return f"'{self.context.name}' {self.options.description} for {action.target}."

    def execute(self, action: Action, idempotency_key: str) -> ExecutionResult:
        """Raises ``TransientError`` where the outcome is unknown, ``PermanentError`` where it was refused."""
        self.dry_run(action)
        now = datetime.fromtimestamp(self.context.clock() // 1000, UTC)
        body = json.dumps(
            {
                "id": idempotency_key,
                "kind": action.kind,
                "target": action.target,
                "parameters": dict(action.parameters),
            },
            sort_keys=True,
        )
        headers = {
            "content-type": "application/json",
            "webhook-id": idempotency_key,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._signer.sign(idempotency_key, now, body),
        }
        reply = self._client.post(self.options.url.get_secret_value(), content=body.encode(), headers=headers)
        return ExecutionResult(True, f"{self.context.name} answered {reply.status}.")

    def close(self) -> None:
        self._client.close()
