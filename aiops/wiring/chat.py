"""Chat surfaces, their routes beside the API's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiops.actions.approval import ActionService
from aiops.agent.assistant import Assistant
from aiops.core.ports import ChatSurface
from aiops.settings import PluginSettings, Settings
from aiops.wiring.plugins import PluginFactory

if TYPE_CHECKING:
    from fastapi import FastAPI


def chat_surfaces(
    settings: Settings, app: FastAPI, assistant: Assistant, actions: ActionService, plugins: PluginFactory
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

    handler = Conversation(assistant, actions, principal_mapping(configured), zone=settings.agent.zone)
    surfaces: dict[str, ChatSurface[Any]] = {}
    for name, entry in configured.items():
        surface: ChatSurface[Any] = plugins.one("connectors.chat", name, entry)
        surface.start(handler)
        if (place := surface.asgi()) is not None:
            app.router.routes.append(Route(place[0], endpoint=place[1], methods=["POST"]))
        surfaces[name] = surface
    return surfaces
