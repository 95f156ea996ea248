"""The providers' own protocols over one script: each turns a neutral assistant message into its provider's reply.

By the public references: Anthropic's Messages API, Google's generateContent, Amazon's Converse, Ollama's /api/chat.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.contract.chat_completions import Server
from tests.loopback import Answer, Received

IN, OUT = 1000, 100
KEY = "sk-very-secret"


@dataclass(frozen=True)
class Protocol:
    """``options`` of the plug-in for a server's address; ``path`` of its requests; ``reply`` to the number-th one.

    ``model`` matters to Bedrock's client, which knows by it what may be asked.
    """

    name: str
    options: Callable[[str], dict[str, Any]]
    path: str
    reply: Callable[[dict[str, Any], int], dict[str, Any]]
    model: str = "m-1"


def _calls(message: dict[str, Any]) -> list[tuple[str, str, Any]]:
    """(id, name, arguments) of the tool calls of a message in the neutral form."""
    calls = message.get("tool_calls") or ()
    return [(c["id"], c["function"]["name"], json.loads(c["function"]["arguments"])) for c in calls]


def _openai(message: dict[str, Any], number: int) -> dict[str, Any]:
    finish = "tool_calls" if message.get("tool_calls") else "stop"
    return {
        "id": f"chatcmpl-{number}", "object": "chat.completion", "created": 1, "model": "m-1",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": IN, "completion_tokens": OUT, "total_tokens": IN + OUT},
    }  # fmt: skip


def _anthropic(message: dict[str, Any], number: int) -> dict[str, Any]:
    blocks: list[dict[str, Any]] = [{"type": "text", "text": message["content"]}] if message.get("content") else []
    blocks += [{"type": "tool_use", "id": i, "name": n, "input": a} for i, n, a in _calls(message)]
    return {
        "id": f"msg_{number}", "type": "message", "role": "assistant", "model": "m-1", "content": blocks,
        "stop_reason": "tool_use" if message.get("tool_calls") else "end_turn", "stop_sequence": None,
        "usage": {"input_tokens": IN, "output_tokens": OUT},
    }  # fmt: skip


def _google(message: dict[str, Any], number: int) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"text": message["content"]}] if message.get("content") else []
    parts += [{"functionCall": {"name": n, "args": a}} for _, n, a in _calls(message)]
    return {
        "candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {"promptTokenCount": IN, "candidatesTokenCount": OUT, "totalTokenCount": IN + OUT},
        "modelVersion": "m-1", "responseId": f"r{number}",
    }  # fmt: skip


def _bedrock(message: dict[str, Any], number: int) -> dict[str, Any]:
    del number
    blocks: list[dict[str, Any]] = [{"text": message["content"]}] if message.get("content") else []
    blocks += [{"toolUse": {"toolUseId": i, "name": n, "input": a}} for i, n, a in _calls(message)]
    return {
        "output": {"message": {"role": "assistant", "content": blocks}},
        "stopReason": "tool_use" if message.get("tool_calls") else "end_turn",
        "usage": {"inputTokens": IN, "outputTokens": OUT, "totalTokens": IN + OUT}, "metrics": {"latencyMs": 5},
    }  # fmt: skip


def _ollama(message: dict[str, Any], number: int) -> dict[str, Any]:
    del number
    calls = [{"function": {"name": n, "arguments": a}} for _, n, a in _calls(message)]
    return {
        "model": "m-1", "created_at": "2026-11-24T12:00:00Z", "done": True, "done_reason": "stop",
        "message": {"role": "assistant", "content": message.get("content") or "", "tool_calls": calls},
        "prompt_eval_count": IN, "eval_count": OUT, "total_duration": 5,
    }  # fmt: skip


PROTOCOLS = {
    p.name: p
    for p in (
        Protocol("openai", lambda url: {"base_url": f"{url}/v1", "api_key": KEY}, "/v1/chat/completions", _openai),
        Protocol(
            "azure_openai",
            lambda url: {"endpoint": url, "api_key": KEY},
            "/openai/deployments/m-1/chat/completions?api-version=2024-10-21",
            _openai,
        ),
        Protocol("anthropic", lambda url: {"base_url": url, "api_key": KEY}, "/v1/messages", _anthropic),
        Protocol(
            "google", lambda url: {"base_url": url, "api_key": KEY}, "/v1beta/models/m-1:generateContent", _google
        ),
        Protocol(
            "bedrock",
            lambda url: {"endpoint": url, "region": "eu-west-1", "access_key_id": "AKIA1", "secret_access_key": KEY},
            "/model/anthropic.claude-sonnet-4/converse",
            _bedrock,
            "anthropic.claude-sonnet-4",
        ),
        Protocol("ollama", lambda url: {"base_url": url}, "/api/chat", _ollama),
    )
}


class ProtocolServer(Server):
    """A loopback server of one protocol; ``url`` is its bare address."""

    def __init__(self, protocol: Protocol, script: Callable[[int, dict[str, Any]], Any]) -> None:
        super().__init__(script)
        self._protocol = protocol

    def _answer(self, request: Received) -> Answer:
        body, number = request.json, len(self.requests)
        self.requests.append(body)
        self.paths.append(request.path)
        reply = self.script(number, body)
        if isinstance(reply, float):
            return Answer(503, delay_s=reply)
        if isinstance(reply, tuple):
            return Answer(reply[0], reply[1].encode())
        return Answer(body=json.dumps(self._protocol.reply(reply, number)).encode() + b"\n")
