"""A loopback server that speaks OpenAI's chat-completions protocol from a script."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.loopback import Answer, Received, serving

Reply = dict[str, Any] | tuple[int, str] | float
"""A message, or a status with a raw body, or seconds to hang."""


def tool_call(name: str, arguments: Any, call_id: str = "call_1") -> dict[str, Any]:
    """An assistant message that calls one tool."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    call = {"id": call_id, "type": "function", "function": {"name": name, "arguments": text}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def says(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


class Server:
    """``script`` maps the request's number (from 0) and body to a reply; ``requests`` are the bodies seen."""

    def __init__(self, script: Callable[[int, dict[str, Any]], Reply]) -> None:
        self.script = script
        self.requests: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.keys: list[str] = []
        self.url = ""

    @contextmanager
    def running(self) -> Iterator[Server]:
        with serving(self._answer) as address:
            self.url = f"{address}/v1"
            yield self

    def _answer(self, request: Received) -> Answer:
        body, number = request.json, len(self.requests)
        self.requests.append(body)
        self.paths.append(request.path)
        self.keys.append(request.headers.get("authorization", ""))
        reply = self.script(number, body)
        if isinstance(reply, float):
            return Answer(503, delay_s=reply)
        if isinstance(reply, tuple):
            return Answer(reply[0], reply[1].encode())
        finish = "tool_calls" if reply.get("tool_calls") else "stop"
        return Answer(body=json.dumps({
            "id": f"chatcmpl-{number}", "object": "chat.completion", "created": int(time.time()),
            "model": body["model"], "choices": [{"index": 0, "message": reply, "finish_reason": finish}],
            "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100},
        }).encode())  # fmt: skip
