"""Every chat surface keeps the contract of ``ChatSurface``; one row of options per surface."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from aiops.core.errors import ConfigError
from aiops.core.plugins import build, discover, load
from aiops.core.ports import ChatMessage, ChatReply, ChatSurface, PluginContext

pytest.importorskip("slack_bolt")

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "slack": [{"bot_token": "xoxb-secret", "signing_secret": "sign-secret", "api_url": "http://127.0.0.1:9/api/"}],
}
NAMES = sorted(discover("connectors.chat"))


class Handler:
    def message(self, message: ChatMessage) -> ChatReply:
        return ChatReply("hello")

    def button(self, message: ChatMessage, value: str) -> ChatReply:
        return ChatReply("done")


def made(name: str, options: dict[str, Any]) -> ChatSurface[Any]:
    surface = build("connectors.chat", name, options, PluginContext(name))
    assert isinstance(surface, ChatSurface)
    return surface


@pytest.mark.parametrize("name", NAMES)
def test_it_is_described_and_its_options_are_strict(name: str) -> None:
    cls = load("connectors.chat", name)
    assert (cls.__doc__ or "").strip()
    assert (cls.Options.__doc__ or "").strip()
    assert cls.extra
    for options in OPTIONS[name]:
        with pytest.raises(ConfigError, match="unknown key"):
            build("connectors.chat", name, {**options, "no_such_option": 1}, PluginContext(name))


@pytest.mark.parametrize("name", NAMES)
def test_secrets_do_not_show(name: str) -> None:
    for options in OPTIONS[name]:
        surface = made(name, options)
        assert "secret" not in repr(surface.options).replace("signing_secret", "")
        surface.close()


@pytest.mark.parametrize("name", NAMES)
def test_it_starts_while_the_provider_is_away_serves_a_path_and_closes(name: str) -> None:
    before = threading.active_count()
    for options in OPTIONS[name]:
        surface = made(name, options)
        surface.start(Handler())
        place = surface.asgi()
        if place is not None:
            path, app = place
            assert path.startswith("/")
            assert callable(app)
        surface.close()
    assert threading.active_count() <= before + 1
