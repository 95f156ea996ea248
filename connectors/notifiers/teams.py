"""Incidents to Microsoft Teams."""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field, SecretStr

from aiops.core.incident import Notification, NotificationEvent, Severity
from aiops.core.ports import Notifier, PluginContext, PluginOptions
from connectors import incident_text as words
from connectors.http import client

_STYLE = {Severity.CRITICAL: "attention", Severity.WARNING: "warning", Severity.INFO: "accent"}
_MARKDOWN = re.compile(r"([\\`*_\[\]()<>#~|])")


class TeamsOptions(PluginOptions):
    """``url`` is what the Teams workflow «Post to a channel when a webhook request is received» shows."""

    url: SecretStr
    public_url: str = ""
    timeout_s: float = Field(10.0, gt=0, le=30)


class Teams(Notifier[TeamsOptions]):
    """An Adaptive Card by a Teams workflow for each change of an incident. A workflow's webhook cannot edit what it
    posted or answer in a thread, so every change is a card of its own; the title is the same on all of them.
    """

    Options = TeamsOptions

    def __init__(self, options: TeamsOptions, context: PluginContext) -> None:
        super().__init__(options, context)
        self._client = client(context.name, timeout_s=options.timeout_s, attempts=1)

    def notify(self, notification: Notification) -> str:
        card = {"contentType": "application/vnd.microsoft.card.adaptive", "content": self._card(notification)}
        self._client.post(self.options.url.get_secret_value(), json={"type": "message", "attachments": [card]})
        return ""

    def close(self) -> None:
        self._client.close()

    def _card(self, notification: Notification) -> dict[str, Any]:
        incident = notification.incident
        over = notification.event is NotificationEvent.RESOLVED
        title = _block(words.subject(incident), weight="Bolder", size="Medium")
        body: list[dict[str, Any]] = [
            {"type": "Container", "style": "good" if over else _STYLE[incident.severity], "items": [title]},
            _block(words.news(notification)),
            {"type": "FactSet", "facts": [{"title": name, "value": _safe(v)} for name, v in words.facts(incident)]},
        ]
        for heading, lines in (("Causes", words.causes(incident)), ("Signals", words.signals(incident, 5))):
            if lines:
                body.append(_block(heading, weight="Bolder", spacing="Medium"))
                body += [_block(line, spacing="Small") for line in lines]
        card: dict[str, Any] = {
            "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
            "type": "AdaptiveCard",
            "version": "1.4",
            "body": body,
        }
        if address := words.link(incident, self.options.public_url):
            card["actions"] = [{"type": "Action.OpenUrl", "title": f"Open {incident.id}", "url": address}]
        return card


def _block(text: str, **more: str) -> dict[str, Any]:
    return {"type": "TextBlock", "text": _safe(text), "wrap": True, **more}


def _safe(text: str) -> str:
    """A card's text is Markdown: what came from telemetry must not become a link or a mention."""
    return _MARKDOWN.sub(r"\\\1", text)
