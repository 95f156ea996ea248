"""Silences in Alertmanager."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from pydantic import Field, SecretStr

from aiops.core.action import Action, ExecutionResult
from aiops.core.errors import PermanentError
from aiops.core.ports import Executor, PluginContext, PluginOptions
from connectors.http import client

MAX_S = 4 * 3600


class SilenceOptions(PluginOptions):
    """``url`` is Alertmanager's base URL, with its route prefix if it has one."""

    url: str
    bearer_token: SecretStr = SecretStr("")
    timeout_s: float = Field(10.0, gt=0, le=60)
    max_s: int = Field(MAX_S, gt=0, le=MAX_S)


class AlertmanagerSilence(Executor[SilenceOptions]):
    """Creates a silence of at most four hours, on exact label values only.

    Parameters: ``matchers`` (a JSON object of label to value), ``duration_s``, ``comment``. Idempotent: the
    comment carries the proposal's id, and a silence that has it already is not made again.
    """

    Options = SilenceOptions
    action_kinds = ("silence",)

    def __init__(self, options: SilenceOptions, context: PluginContext) -> None:
        super().__init__(options, context)
        token = options.bearer_token.get_secret_value()
        self._client = client(
            context.name,
            options.url.rstrip("/"),
            headers={"authorization": SecretStr(f"Bearer {token}")} if token else {},
            timeout_s=options.timeout_s,
        )

    def dry_run(self, action: Action) -> str:
        matchers, seconds = self._arguments(action)
        self._client.get("/api/v2/status")
        shown = ", ".join(f'{k}="{v}"' for k, v in matchers.items())
        return f"Alertmanager would silence {{{shown}}} for {seconds // 60} min."

    def execute(self, action: Action, idempotency_key: str) -> ExecutionResult:
        matchers, seconds = self._arguments(action)
        mark = f"[{idempotency_key}]"
        known = self._client.get("/api/v2/silences").json()
        for silence in known if isinstance(known, list) else []:
            if mark in str(silence.get("comment", "")):
                return ExecutionResult(True, f"Silence {silence.get('id', '')} exists already.")
        now = self.context.clock()
        comment = f"{dict(action.parameters).get('comment', 'silenced by aiops')[:500]} {mark}"
        body: dict[str, Any] = {
            "matchers": [{"name": k, "value": v, "isRegex": False, "isEqual": True} for k, v in matchers.items()],
            "startsAt": _iso(now),
            "endsAt": _iso(now + seconds * 1000),
            "createdBy": "aiops",
            "comment": comment,
        }
        # Safe to repeat within this call: a second silence of the same extent changes nothing.
        reply = self._client.post("/api/v2/silences", json=body, idempotent=True).json()
        made = reply.get("silenceID", "") if isinstance(reply, dict) else ""
        if not made:
            raise PermanentError(f"{self.context.name} did not name the silence that it made.")
        return ExecutionResult(True, f"Silence {made} until {_iso(now + seconds * 1000)}.")

    def close(self) -> None:
        self._client.close()

    def _arguments(self, action: Action) -> tuple[dict[str, str], int]:
        if action.kind not in self.action_kinds:
            raise PermanentError(f"{self.context.name} cannot do '{action.kind}'.")
        given = dict(action.parameters)
        try:
            matchers = json.loads(given.get("matchers", ""))
            seconds = int(given.get("duration_s", ""))
        except ValueError as error:
            raise PermanentError("A silence needs 'matchers' (JSON) and 'duration_s' (whole seconds).") from error
        fits = isinstance(matchers, dict) and matchers
        if not fits or not all(isinstance(v, str) and v for v in matchers.values()):
            raise PermanentError("'matchers' must be an object of label names to values that are not empty.")
        if not 60 <= seconds <= self.options.max_s:
            raise PermanentError(f"A silence lasts 60 to {self.options.max_s} s, not {seconds}.")
        return matchers, seconds


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat().replace("+00:00", "Z")
