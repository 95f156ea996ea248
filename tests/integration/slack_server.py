"""A loopback server that speaks the parts of Slack's Web API that the surface uses."""

from __future__ import annotations

import json
import threading
import urllib.parse
from contextlib import ExitStack
from typing import Any

from tests.loopback import Answer, Received, serving


class SlackServer:
    """Records calls; ``errors`` maps a method to the answers it gives first, such as ``("ratelimited", 429)``."""

    TOKEN = "xoxb-secret-token"

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.files: dict[str, bytes] = {}
        self.errors: dict[str, list[tuple[str, int]]] = {}
        self.websocket_url = ""
        self.changed = threading.Condition()
        self._running = ExitStack()
        self.url = self._running.enter_context(serving(self._answer))

    def _answer(self, request: Received) -> Answer:
        status, answer = self.answer(request.path, request.body, request.headers)
        headers = {"retry-after": "0"} if status == 429 else {}
        if isinstance(answer, bytes):
            return Answer(status, answer, {"content-type": "text/plain", **headers})
        return Answer(status, json.dumps(answer).encode(), headers)

    def answer(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, Any] | bytes]:
        url = urllib.parse.urlparse(path)
        if url.path.startswith("/upload/"):
            with self.changed:
                self.files[url.path.rpartition("/")[2]] = body
                self.changed.notify_all()
            return 200, b"OK"
        method = url.path.removeprefix("/api/")
        kind = headers.get("content-type", "")
        if "json" in kind and body:
            arguments = json.loads(body)
        else:
            pairs = urllib.parse.parse_qsl(body.decode() if "urlencoded" in kind else url.query)
            arguments = dict(pairs)
        with self.changed:
            self.calls.append((method, arguments))
            self.changed.notify_all()
            number = len(self.calls)
            if self.errors.get(method):
                word, status = self.errors[method].pop(0)
                return status, {"ok": False, "error": word}
        match method:
            case "auth.test":
                return 200, {"ok": True, "user_id": "UBOT", "bot_id": "BBOT", "team_id": "T1", "team": "t", "user": "b"}
            case "chat.postMessage":
                return 200, {"ok": True, "ts": f"1700000000.{number:06d}", "channel": arguments["channel"]}
            case "files.getUploadURLExternal":
                return 200, {"ok": True, "upload_url": f"{self.url}/upload/F{number}", "file_id": f"F{number}"}
            case "files.completeUploadExternal":
                return 200, {"ok": True, "files": json.loads(arguments["files"])}
            case "apps.connections.open":
                return 200, {"ok": True, "url": self.websocket_url}
            case _:
                return 200, {"ok": True}

    def of(self, method: str) -> list[dict[str, Any]]:
        with self.changed:
            return [arguments for name, arguments in self.calls if name == method]

    def wait(self, method: str, count: int = 1, timeout: float = 20.0) -> list[dict[str, Any]]:
        """The calls of a method once there are ``count`` of them."""
        with self.changed:
            found = self.changed.wait_for(lambda: sum(m == method for m, _ in self.calls) >= count, timeout)
        assert found, f"{method} was called {len(self.of(method))} times; calls: {[m for m, _ in self.calls]}"
        return self.of(method)

    def close(self) -> None:
        self._running.close()
