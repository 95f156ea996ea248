"""A webhook receiver on loopback that the demo starts: it checks the signature and keeps what came."""

from __future__ import annotations

import base64
import json
import secrets
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

MAX_BODY = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Received:
    """One verified delivery: the CloudEvent's id, type, subject (incident id) and data."""

    id: str
    type: str
    subject: str
    data: dict[str, Any]


class Receiver:
    """``POST`` of signed CloudEvents (Standard Webhooks) at :attr:`url`; a bad signature gets 401."""

    def __init__(self) -> None:
        self.secret = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
        self.refused = 0
        self._received: list[Received] = []
        self._arrived = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="demo-receiver", daemon=True
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/alerts"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def all(self) -> list[Received]:
        """Verified deliveries so far, repeats of one id left out."""
        with self._arrived:
            return list({r.id: r for r in self._received}.values())

    def wait_for(self, subject: str, timeout_s: float) -> Received | None:
        """The first delivery about an incident, or ``None`` when none came in time."""

        def found() -> Received | None:
            return next((r for r in self._received if r.subject == subject), None)

        with self._arrived:
            self._arrived.wait_for(lambda: found() is not None, timeout_s)
            return found()

    def _accept(self, body: bytes, headers: dict[str, str]) -> int:
        try:
            event = Webhook(self.secret).verify(body.decode(), headers)
            data = event["data"] if isinstance(event, dict) else None
            received = Received(str(event["id"]), str(event["type"]), str(event["subject"]), dict(data or {}))
        except (WebhookVerificationError, UnicodeDecodeError):
            with self._arrived:
                self.refused += 1
            return 401
        except (KeyError, TypeError, ValueError, json.JSONDecodeError):
            return 400
        with self._arrived:
            self._received.append(received)
            self._arrived.notify_all()
        return 204

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_POST(self) -> None:
                size = int(self.headers.get("content-length") or 0)
                status = 413
                if 0 <= size <= MAX_BODY:
                    headers = {name.lower(): value for name, value in self.headers.items()}
                    status = receiver._accept(self.rfile.read(size), headers)
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return None

        return Handler
