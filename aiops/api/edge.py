"""The outermost layer of the app: what every request meets, whatever route it is for."""

from __future__ import annotations

import asyncio
import logging
import secrets
from urllib.parse import urlsplit

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aiops.access.binding import is_loopback
from aiops.api.problems import Problem, respond
from aiops.core.untrusted import Untrusted
from aiops.settings import ServerSettings

log = logging.getLogger(__name__)

BODY_TIMEOUT_S = 60.0
"""A body must have arrived whole by then."""
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
}

_RAW_SECURITY_HEADERS = tuple((name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items())


class Edge:
    """Checks Host and Origin, limits bodies, sets security headers, answers for unexpected errors.

    Without auth the service trusts whoever reaches loopback; a page in the user's browser must not get
    there by DNS rebinding (foreign Host) or a cross-site form (foreign Origin).
    """

    def __init__(self, app: ASGIApp, server: ServerSettings) -> None:
        self._app = app
        self._server = server
        self._public = _hostname(server.public_url)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(receive, send, self._server.max_body_bytes)
        refusal = self._refusal(scope)
        try:
            if refusal is not None:
                await respond(scope["path"], refusal)(scope, receive, exchange.send)
                return
            await self._app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            return
        except Exception:
            number = secrets.token_hex(6)
            log.exception("unexpected error %s at %s", number, Untrusted(scope["path"]))
            if exchange.started:
                raise
            problem = Problem(
                500,
                "internal",
                f"Something went wrong; the service's log has the details under {number}.",
                error_type="internal",
                instance=f"urn:aiops:error:{number}",
            )
            await respond(scope["path"], problem)(scope, receive, exchange.send)

    def _refusal(self, scope: Scope) -> Problem | None:
        headers = Headers(scope=scope)
        host = _host_of(headers.get("host", ""))
        if self._server.auth == "none" and not (is_loopback(host) or host == self._public):
            return Problem(
                403,
                "wrong-host",
                "This host name is not served.",
                "Set server.public_url to use it.",
                error_type="forbidden",
            )
        origin = headers.get("origin")
        if origin is not None and scope["method"] not in SAFE_METHODS and not _explicit(headers):
            source = _hostname(origin)
            if not source or source not in (host, self._public):
                return Problem(
                    403,
                    "wrong-origin",
                    "Requests from other sites are refused.",
                    "Set server.public_url to the address that people open.",
                    error_type="forbidden",
                )
        declared = headers.get("content-length", "")
        if declared.isdecimal() and len(declared) < 20 and int(declared) <= self._server.max_body_bytes:
            return None
        if not declared:
            return None
        if declared.isdecimal():
            return _too_large(self._server.max_body_bytes)
        return Problem(400, "invalid-input", "The Content-Length header is malformed.", error_type="bad_data")


class _Exchange:
    """One request's two channels, watched."""

    def __init__(self, receive: Receive, send: Send, max_body_bytes: int) -> None:
        self._receive = receive
        self._send = send
        self._left = max_body_bytes
        self._deadline: float | None = None
        self._complete = False
        self.started = False

    async def receive(self) -> Message:
        if self._complete:
            return await self._receive()
        now = asyncio.get_running_loop().time()
        self._deadline = self._deadline or now + BODY_TIMEOUT_S
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError as error:
            # FastAPI lets an HTTPException through while it reads a body; others become a plain 400.
            raise HTTPException(408, "The request body did not arrive in time.") from error
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
            if self._left < 0:
                raise HTTPException(413)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            given = {name for name, _ in message.get("headers", ())}
            message["headers"] = [
                *message.get("headers", ()),
                *(pair for pair in _RAW_SECURITY_HEADERS if pair[0] not in given),
            ]
        await self._send(message)


def _explicit(headers: Headers) -> bool:
    """Whether the request carries a credential that no browser sends by itself."""
    return "x-api-key" in headers or headers.get("authorization", "").lower().startswith("bearer ")


def _host_of(header: str) -> str:
    """The host name of a Host header, lower case, without port or brackets; empty if it is malformed."""
    return "" if "@" in header or "/" in header else _hostname(f"//{header}")


def _hostname(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""


def _too_large(limit: int) -> Problem:
    return Problem(413, "too-large", f"The request body is larger than {limit} bytes.", error_type="bad_data")
