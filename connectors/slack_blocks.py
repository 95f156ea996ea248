"""A chat reply as Slack's blocks. Support, like ``slack_api``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiops.core.ports import ChatReply
from connectors.slack_api import section
from connectors.slack_text import mrkdwn

ACTION = "aiops_decide"
_SECTIONS = 14


def packed(parts: Sequence[str], cap: int = 2_800) -> list[str]:
    """Blocks joined up to Slack's size of a section; a longer one is split at lines."""
    out: list[str] = []
    for part in parts:
        pieces = [part[i : i + cap] for i in range(0, len(part), cap)] if len(part) > cap else [part]
        for piece in pieces:
            if out and len(out[-1]) + len(piece) + 2 <= cap:
                out[-1] += "\n\n" + piece
            else:
                out.append(piece)
    if len(out) > _SECTIONS:
        out = [*out[: _SECTIONS - 1], "… the rest is left out."]
    return out


def fallback(reply: ChatReply) -> str:
    """What notifications show."""
    words = " ".join(mrkdwn(reply.text))
    return words[:300] or "Answer"


def blocks(reply: ChatReply) -> list[dict[str, Any]]:
    """Sections of text, and a row of buttons; approving asks once more."""
    found = [section(part) for part in packed(mrkdwn(reply.text) or ["(empty)"])]
    if reply.buttons:
        found.append({"type": "actions", "elements": [_button(i, *b) for i, b in enumerate(reply.buttons[:10])]})
    return found


def _button(number: int, label: str, value: str) -> dict[str, Any]:
    button: dict[str, Any] = {
        "type": "button",
        "action_id": f"{ACTION}_{number}",
        "text": {"type": "plain_text", "text": label[:75]},
        "value": value[:2000],
    }
    if value.startswith("approve:"):
        button["style"] = "primary"
        button["confirm"] = {
            "title": {"type": "plain_text", "text": "Approve this action?"},
            "text": {
                "type": "plain_text",
                "text": f"{label[:200]}. It is carried out at once and audited under your name.",
            },
            "confirm": {"type": "plain_text", "text": "Approve"},
            "deny": {"type": "plain_text", "text": "Cancel"},
        }
    return button
