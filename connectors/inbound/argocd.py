"""Syncs and rollbacks from Argo CD."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiops.core.errors import InvalidInput
from aiops.core.ports import Inbound, InboundParser
from connectors import payloads
from connectors.signatures import SenderOptions, check_sender

TEMPLATE = """
service.webhook.aiops: |
  url: https://AIOPS/api/v1/webhooks/argocd
  headers: [{name: Authorization, value: Bearer $aiops-token}, {name: Content-Type, value: application/json}]
template.aiops: |
  webhook:
    aiops: {method: POST, body: '{"app": {{toJson .app}}, "context": {{toJson .context}}}'}
trigger.aiops: |
  - {when: app.status.operationState.phase in ['Running', 'Succeeded', 'Failed', 'Error'], send: [aiops],
     oncePer: app.status.operationState.startedAt + app.status.operationState.phase}
"""
"""What to put into ``argocd-notifications-cm``."""


class ArgoCdOptions(SenderOptions):
    service_label: str = "app.kubernetes.io/name"
    """The Application's label that names the service; without it the Application's name does."""


class ArgoCd(InboundParser[ArgoCdOptions]):
    """Argo CD's notifications with the whole Application as the body (:data:`TEMPLATE`): each sync becomes a
    change with its revision, who started it, its phase and message.
    """

    Options = ArgoCdOptions

    def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        check_sender(self.options, headers, body)

    def parse(self, body: bytes) -> Inbound:
        data = payloads.object_of(payloads.json_of(body))
        app = data.get("app")
        if not isinstance(app, dict):
            raise InvalidInput(
                "The body has no object 'app'.", hint="Use the notification template in this connector's documentation."
            )
        state = payloads.part(app, "status", "operationState")
        phase = payloads.text(state, "phase") or payloads.text(app, "status", "sync", "status")
        name = payloads.required(app, "metadata", "name")
        labels = payloads.part(app, "metadata", "labels")
        service = payloads.text(labels, self.options.service_label) or name
        revision = payloads.text(state, "syncResult", "revision") or payloads.text(app, "status", "sync", "revision")
        by = payloads.text(state, "operation", "initiatedBy", "username")
        automated = payloads.text(state, "operation", "initiatedBy", "automated") == "true"
        done = payloads.time_ms(state, "finishedAt")
        change = payloads.change(
            self.context,
            "deploy",
            service,
            f"sync of {name} to {revision[:12] or 'a new revision'}: {phase}",
            at_ms=done if phase != "Running" and done else payloads.time_ms(state, "startedAt"),
            author=by or ("argocd" if automated else ""),
            link=_link(data, app, name),
            environment=payloads.text(app, "spec", "destination", "namespace"),
            attributes={
                "revision": revision,
                "state": phase,
                "message": payloads.text(state, "message"),
                "images": ", ".join(_images(app)),
            },
        )
        return Inbound(changes=(change,))


def _link(data: dict[str, Any], app: dict[str, Any], name: str) -> str:
    base = payloads.web_link(data, "context", "argocdUrl")
    return f"{base.rstrip('/')}/applications/{payloads.text(app, 'metadata', 'namespace')}/{name}" if base else ""


def _images(app: dict[str, Any]) -> list[str]:
    images = payloads.part(app, "status", "summary", "images")
    return [i for i in images if isinstance(i, str)][:10] if isinstance(images, list) else []
