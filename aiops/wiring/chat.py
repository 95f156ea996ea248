"""Chat surfaces, their routes beside the API's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiops.actions.approval import ActionService
from aiops.agent.assistant import Assistant
from aiops.core.anomaly import Anomaly, Judgement
from aiops.core.ports import ChatSurface
from aiops.core.principal import Principal
from aiops.incidents.anomalies import Anomalies
from aiops.settings import PluginSettings, Settings
from aiops.store.state.audit import AuditLog
from aiops.wiring.plugins import PluginFactory

if TYPE_CHECKING:
    from fastapi import FastAPI

    from aiops.chat.handler import Marking


def anomaly_marking(anomalies: Anomalies, audit: AuditLog) -> Marking:
    """Keeps a judgement and writes it to the audit trail."""

    def mark(anomaly_id: str, judgement: Judgement, who: Principal) -> Anomaly:
        anomalies.mark(anomaly_id, who, judgement)
        audit.append(who.name, "anomaly.mark", anomaly_id, {"judgement": judgement.value})
        return anomalies.get(anomaly_id, who)

    return mark


def chat_surfaces(
    settings: Settings,
    app: FastAPI,
    assistant: Assistant,
    actions: ActionService,
    plugins: PluginFactory,
    marking: Marking | None = None,
) -> dict[str, ChatSurface[Any]]:
    """Started surfaces by name; Slack without an entry where a bot token is set."""
    configured = dict(settings.connectors.chat)
    if not configured and settings.slack_bot_token.get_secret_value():
        configured = {"slack": PluginSettings(plugin="slack")}
    if not configured:
        return {}
    from starlette.routing import Route

    from aiops.chat.handler import Conversation
    from aiops.chat.people import principal_mapping

    handler = Conversation(assistant, actions, principal_mapping(configured), zone=settings.agent.zone, marking=marking)
    surfaces: dict[str, ChatSurface[Any]] = {}
    for name, entry in configured.items():
        surface: ChatSurface[Any] = plugins.one("connectors.chat", name, entry)
        surface.start(handler)
        if (place := surface.asgi()) is not None:
            app.router.routes.append(Route(place[0], endpoint=place[1], methods=["POST"]))
        surfaces[name] = surface
    return surfaces
