"""Slack's Web API as notifier and chat surface use it: one call, errors sorted, text escaped."""

from __future__ import annotations

from typing import Any

from pydantic import SecretStr

from aiops.core.errors import PermanentError, TransientError
from aiops.core.untrusted import Untrusted
from connectors.http import Client, client

TRANSIENT = frozenset(
    {"ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable", "request_timeout",
     "team_added_to_org", "accesslimited"}
)  # fmt: skip
TEXT_CAP = 2_900
"""Below Slack's 3,000 characters of a section."""


def escape(text: str) -> str:
    """Text that cannot become a mention, link or entity. Slack escapes exactly these three."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def section(markdown: str) -> dict[str, Any]:
    """A section block; ``markdown`` is already escaped where it holds outside text."""
    return {"type": "section", "text": {"type": "mrkdwn", "text": _cut(markdown), "verbatim": True}}


def context(markdown: str) -> dict[str, Any]:
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": _cut(markdown), "verbatim": True}]}


def header(text: str) -> dict[str, Any]:
    plain = text if len(text) <= 150 else text[:149] + "…"
    return {"type": "header", "text": {"type": "plain_text", "text": plain, "emoji": True}}


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_CAP else text[: TEXT_CAP - 1] + "…"


class SlackApi:
    """``chat.postMessage`` and its kin with a bot token.

    ``base_url`` is changed by tests only. Calls are made once: the caller retries, knowing whether it may.
    """

    def __init__(self, token: SecretStr, base_url: str = "https://slack.com/api/", timeout_s: float = 10.0) -> None:
        bearer = SecretStr(f"Bearer {token.get_secret_value()}")
        self._client: Client = client(
            "Slack", base_url.rstrip("/") + "/", headers={"authorization": bearer}, timeout_s=timeout_s, attempts=1
        )

    def call(self, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """One Web API method, arguments as JSON.

        Raises:
            TransientError: network, 5xx, rate limits (with Retry-After).
            PermanentError: any other ``ok: false``; the message is Slack's error word.
        """
        reply = self._client.post(method, json=arguments)
        body = reply.json()
        if not isinstance(body, dict):
            raise PermanentError("Slack answered something unexpected.")
        if body.get("ok") is True:
            return body
        word = Untrusted(str(body.get("error", "no reason"))).display(100)
        if word in TRANSIENT:
            raise TransientError(f"Slack refused {method} for now: {word}.")
        raise PermanentError(f"Slack refused {method}: {word}.", hint=_HINTS.get(word, ""))

    def post(self, channel: str, text: str, blocks: list[dict[str, Any]] | None = None, thread: str = "") -> str:
        """Post a message, in a thread where given; returns its ``ts``."""
        arguments: dict[str, Any] = {"channel": channel, "text": text, "unfurl_links": False, "unfurl_media": False}
        if blocks:
            arguments["blocks"] = blocks
        if thread:
            arguments["thread_ts"] = thread
        return str(self.call("chat.postMessage", arguments).get("ts", ""))

    def update(self, channel: str, ts: str, text: str, blocks: list[dict[str, Any]] | None = None) -> None:
        self.call("chat.update", {"channel": channel, "ts": ts, "text": text, "blocks": blocks or []})

    def close(self) -> None:
        self._client.close()


_HINTS = {
    "invalid_auth": "Check the bot token.",
    "not_authed": "Set the bot token.",
    "channel_not_found": "Check the channel id.",
    "not_in_channel": "Invite the bot to the channel.",
    "missing_scope": "Give the app the scope chat:write.",
}
