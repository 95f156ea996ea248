"""Back-pressure of the receivers: what comes in faster than it is stored is put off, not piled up in memory."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aiops.core.errors import TransientError

PATHS = frozenset(
    {
        "/api/v1/write", "/loki/api/v1/push",
        *(f"{prefix}/v1/{signal}" for prefix in ("", "/api/v1/otlp") for signal in ("metrics", "logs", "traces")),
    }
)  # fmt: skip
RETRY_AFTER_S = 1.0


class Intake:
    """Counts the bytes of bodies that receivers hold; above the budget a request is answered 503 with Retry-After.

    Bytes count as they are read, which is after the sender is known. A request alone is never refused.
    """

    def __init__(self, app: ASGIApp, budget: int) -> None:
        self._app = app
        self._budget = budget
        self.held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in PATHS or not self._budget:
            await self._app(scope, receive, send)
            return
        own = 0

        async def counted() -> Message:
            nonlocal own
            message = await receive()
            size = len(message.get("body", b"")) if message["type"] == "http.request" else 0
            own += size
            self.held += size
            if size and self.held > self._budget and own < self.held:
                raise TransientError(
                    "More telemetry is under way than can be held.",
                    hint="See server.max_inflight_bytes.",
                    retry_after_s=RETRY_AFTER_S,
                )
            return message

        try:
            await self._app(scope, counted, send)
        finally:
            self.held -= own
