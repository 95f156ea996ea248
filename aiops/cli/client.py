"""The CLI's way to the service: HTTP, or the same routes in-process where no service runs."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from aiops.core.errors import (
    AiopsError,
    Conflict,
    Forbidden,
    InvalidInput,
    LimitExceeded,
    NotFound,
    PermanentError,
    TransientError,
)

if TYPE_CHECKING:
    from aiops.settings import Settings

CONNECT_S = 3.0
ANSWER_S = 120.0


class Api:
    """Requests to the HTTP API; every failure is an ``AiopsError`` with one line for people.

    ``where`` names what answers: an address, or the data folder when in-process.
    """

    def __init__(self, client: httpx.Client, where: str, close: Callable[[], None] | None = None) -> None:
        self._client, self.where, self._close = client, where, close

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        if self._close:
            self._close()

    def get(self, path: str, **params: Any) -> Any:
        """GET as JSON; parameters that are ``None`` or empty are left out."""
        return self._send("GET", path, params={k: v for k, v in params.items() if v not in (None, "", [], ())})

    def get_text(self, path: str, **params: Any) -> str:
        """GET as text."""
        return self._response("GET", path, params={k: v for k, v in params.items() if v not in (None, "")}).text

    def download(self, path: str, **params: Any) -> tuple[bytes, Mapping[str, str]]:
        """GET as bytes with the reply's headers; no bytes where there is no content."""
        response = self._response("GET", path, params={k: v for k, v in params.items() if v not in (None, "", [], ())})
        return response.content, response.headers

    def send(self, path: str, content: bytes, **params: Any) -> Any:
        """POST bytes; the answer as JSON."""
        headers = {"content-type": "application/octet-stream"}
        return self._send("POST", path, content=content, params=params, headers=headers)

    def get_bytes(self, path: str) -> bytes:
        """GET as bytes."""
        return self._response("GET", path).content

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        return self._send("POST", path, json=dict(body or {}))

    def post_bytes(self, path: str) -> bytes:
        """POST; the answer as bytes."""
        return self._response("POST", path).content

    def put(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._send("PUT", path, json=dict(body))

    def events(self, path: str, body: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """POST and follow the reply: (event, data) of each server-sent event. Raises as the others; a ``problem``
        event is raised too."""
        with self._asked("POST", path, json=dict(body), headers={"accept": "text/event-stream"}) as response:
            name = ""
            try:
                for line in response.iter_lines():
                    field, _, value = line.partition(": ")
                    if field == "event":
                        name = value
                    elif field == "data":
                        found = json.loads(value)
                        if name == "problem":
                            raise _problem(int(found.get("status", 500)), found)
                        yield name, found
            except (httpx.HTTPError, ValueError) as error:
                raise TransientError(f"The service at {self.where} broke off: {type(error).__name__}.") from error

    def upload(self, path: str, file: Path) -> Any:
        """POST a file's bytes; its name goes along as ``name``."""
        try:
            body = file.read_bytes()
        except OSError as error:
            raise InvalidInput(f"{file} cannot be read: {error.strerror}.") from error
        kind = "text/csv" if file.suffix.lower() == ".csv" else "application/octet-stream"
        return self._send("POST", path, content=body, params={"name": file.name}, headers={"content-type": kind})

    def delete(self, path: str) -> Any:
        return self._send("DELETE", path)

    def work(self, path: str, body: Mapping[str, Any], seconds: float) -> Any:
        """POST something that takes its time."""
        return self._send("POST", path, json=dict(body), timeout=httpx.Timeout(seconds, connect=CONNECT_S))

    def _send(self, method: str, path: str, **more: Any) -> Any:
        response = self._response(method, path, **more)
        if not response.content:
            return {}
        try:
            return response.json()
        except ValueError as error:
            raise PermanentError(
                f"{self.where} did not answer in JSON.", hint="Is it the address of an aiops service?"
            ) from error

    def _response(self, method: str, path: str, **more: Any) -> httpx.Response:
        with self._asked(method, path, **more) as response:
            response.read()
            return response

    @contextmanager
    def _asked(self, method: str, path: str, **more: Any) -> Iterator[httpx.Response]:
        """The successful response, its body unread. Raises what went wrong as an ``AiopsError``."""
        try:
            with self._client.stream(method, path, **more) as response:
                if not response.is_success:
                    response.read()
                    raise _error(response)
                yield response
        except httpx.ConnectError as error:
            raise TransientError(
                f"No service answers at {self.where}.", hint="Start one with `aiops serve`, or give --url."
            ) from error
        except httpx.TimeoutException as error:
            raise TransientError(f"The service at {self.where} did not answer in time.") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise TransientError(f"The service at {self.where} cannot be asked: {str(error).rstrip('.')}.") from error


def _error(response: httpx.Response) -> AiopsError:
    try:
        body = response.json()
    except ValueError:
        body = {}
    return _problem(response.status_code, body if isinstance(body, dict) else {})


def _problem(status: int, body: Mapping[str, Any]) -> AiopsError:
    text = str(body.get("detail") or body.get("error") or body.get("title") or f"HTTP {status}")
    hint = str(body.get("hint") or "")
    if hint and text.endswith(hint):
        hint = ""
    if status == 401 and not hint:
        hint = "Give a key with --api-key or AIOPS_API_KEY."
    if status in (401, 403):
        return Forbidden(text, hint=hint, authenticated=status == 403)
    if status in (413, 429):
        return LimitExceeded(text, hint=hint)
    kinds: dict[int, type[AiopsError]] = {400: InvalidInput, 422: InvalidInput, 404: NotFound, 409: Conflict}
    return kinds.get(status, TransientError if status >= 500 else PermanentError)(text, hint=hint)


def over_http(url: str, api_key: str = "", timeout_s: float = ANSWER_S) -> Api:
    """A client of the service at ``url``."""
    headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
    limits = httpx.Timeout(timeout_s, connect=CONNECT_S)
    return Api(httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=limits, trust_env=False), url)


def running_service(data_dir: Path) -> str:
    """The address that a live service left in ``service.json``, or an empty string."""
    try:
        found = json.loads((data_dir / "service.json").read_text(encoding="utf-8"))
        url, pid = str(found["url"]), int(found["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return url
    except OSError:
        return ""
    return url


def connect(settings: Settings, *, reading: bool = True) -> Api:
    """The configured service, else the one of the data folder, else the same routes in-process.

    Args:
        reading: the command only reads, so that it may run without a service.

    Raises:
        FolderInUse: another process holds the data folder and says no address.
        TransientError: no service runs and the command needs one.
    """
    url = settings.url or running_service(settings.data_dir)
    if url:
        return over_http(url, settings.api_key.get_secret_value())
    if not reading:
        raise TransientError(
            f"No service runs on the data folder {settings.data_dir}.",
            hint="Start one with `aiops serve`, or give --url.",
        )
    return _in_process(settings)


def _in_process(settings: Settings) -> Api:
    """The routes over the data folder, without listening; the folder's owner needs no key."""
    from aiops import wiring

    local = settings.model_copy(update={"server": settings.server.model_copy(update={"auth": "none"})})
    service = wiring.local(local)
    print(f"aiops: no service runs; answering from {settings.data_dir} itself", file=sys.stderr)
    client = httpx.Client(transport=_Routes(service.app), base_url="http://127.0.0.1", timeout=ANSWER_S)
    return Api(client, str(settings.data_dir), service.stop)


class _Routes(httpx.BaseTransport):
    """Requests answered by an ASGI app in this process."""

    def __init__(self, app: Any) -> None:
        self._asgi = httpx.ASGITransport(app=app, raise_app_exceptions=False, client=("127.0.0.1", 0))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        async def answer() -> httpx.Response:
            reply = await self._asgi.handle_async_request(request)
            return httpx.Response(reply.status_code, headers=reply.headers, content=await reply.aread())

        return asyncio.run(answer())
