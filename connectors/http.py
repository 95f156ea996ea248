"""The HTTP client of every connector: time-outs, retries where they are safe, a size cap, errors that say who
must react. Nothing it raises or logs holds a query string, a header or a body that we sent."""

from __future__ import annotations

import email.utils
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from pydantic import SecretStr
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from aiops.core.errors import PermanentError, TransientError
from aiops.core.untrusted import Untrusted

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
RETRY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_REDIRECTS = 3


@dataclass(frozen=True, slots=True)
class Reply:
    """A successful answer (2xx), read whole. ``who`` names the peer in error messages."""

    status: int
    headers: httpx.Headers
    content: bytes
    who: str

    def json(self) -> Any:
        """Raises ``PermanentError`` where the peer answered something else than JSON."""
        try:
            return json.loads(self.content)
        except ValueError as error:
            kind = self.headers.get("content-type", "no type").split(";")[0]
            raise PermanentError(f"{self.who} answered {Untrusted(kind)} instead of JSON.") from error

    @property
    def text(self) -> str:
        return self.content.decode("utf-8", "replace")


class Client:
    """Calls one peer. Thread-safe. See :func:`client`."""

    def __init__(
        self, inner: httpx.Client, name: str, attempts: int, max_response_bytes: int, deadline_s: float
    ) -> None:
        self._inner = inner
        self._name = name
        self._attempts = attempts
        self._cap = max_response_bytes
        self._deadline_s = deadline_s

    def get(self, url: str, **rest: Any) -> Reply:
        return self.request("GET", url, **rest)

    def post(self, url: str, **rest: Any) -> Reply:
        return self.request("POST", url, **rest)

    def request(self, method: str, url: str, *, idempotent: bool | None = None, **rest: Any) -> Reply:
        """One exchange, tried again with jitter where ``idempotent`` (by default: where the method is).

        ``rest`` is httpx's: ``params``, ``headers``, ``json``, ``content``, ``data``, ``timeout``.

        Raises:
            TransientError: no connection, time-out, 408, 425, 429, 5xx; ``retry_after_s`` as the peer says.
            PermanentError: any other status, a redirect elsewhere, an answer over the size cap.
        """
        safe = method in IDEMPOTENT if idempotent is None else idempotent
        for attempt in Retrying(
            retry=retry_if_exception_type(TransientError),
            stop=stop_after_attempt(self._attempts if safe else 1),
            wait=wait_random_exponential(multiplier=0.2, max=3),
            reraise=True,
        ):
            with attempt:
                return self._once(method, url, rest)
        raise AssertionError("unreachable")

    def close(self) -> None:
        self._inner.close()

    def _once(self, method: str, url: str, rest: dict[str, Any]) -> Reply:
        started = time.monotonic()
        try:
            request = self._inner.build_request(method, url, **rest)
            for _ in range(_REDIRECTS + 1):
                who = f"{self._name} ({request.url.host})"
                response = self._inner.send(request, stream=True)
                try:
                    elsewhere = response.next_request
                    if elsewhere is None:
                        return self._read(response, who, started)
                    same = (elsewhere.url.scheme, elsewhere.url.netloc) == (request.url.scheme, request.url.netloc)
                    if not same or method not in ("GET", "HEAD"):
                        raise PermanentError(f"{who} redirects; redirects are not followed.", hint="Set its final URL.")
                    request = elsewhere
                finally:
                    response.close()
            raise PermanentError(f"{self._name} redirects in circles.")
        except httpx.TimeoutException as error:
            raise TransientError(f"{self._name} did not answer in time.") from error
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise PermanentError(f"The URL of {self._name} is not valid.") from error
        except httpx.TransportError as error:
            raise TransientError(f"{self._name} cannot be reached ({_plain(error)}).") from error
        except httpx.HTTPError as error:
            raise PermanentError(f"{self._name} gave an answer that cannot be read ({_plain(error)}).") from error

    def _read(self, response: httpx.Response, who: str, started: float) -> Reply:
        body = bytearray()
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > self._cap:
                raise PermanentError(f"{who} answered more than {self._cap} bytes.")
            if time.monotonic() - started > self._deadline_s:
                raise TransientError(f"{who} answered too slowly.")
        if response.is_success:
            return Reply(response.status_code, response.headers, bytes(body), who)
        said = Untrusted(bytes(body[:2000]).decode("utf-8", "replace")).display(200)
        html = "html" in response.headers.get("content-type", "")
        message = f"{who} answered {response.status_code}" + (f": {said}" if said and not html else ".")
        if response.status_code in RETRY_STATUS or response.status_code >= 500:
            raise TransientError(message, retry_after_s=retry_after(response.headers.get("retry-after", "")))
        raise PermanentError(message)


def client(
    name: str,
    base_url: str = "",
    *,
    headers: Mapping[str, str | SecretStr] | None = None,
    auth: tuple[str, SecretStr] | None = None,
    timeout_s: float = 10.0,
    attempts: int = 3,
    max_response_bytes: int = 16 * 1024 * 1024,
    verify: bool = True,
) -> Client:
    """A client for one peer.

    Args:
        name: how messages name the peer, such as its configured name.
        headers: sent with every request; secrets as ``SecretStr``.
        timeout_s: for connecting and for each read; an exchange takes three times that at most.
        attempts: for idempotent calls; others are tried once.
    """
    plain = {k: v.get_secret_value() if isinstance(v, SecretStr) else v for k, v in (headers or {}).items()}
    inner = httpx.Client(
        base_url=base_url,
        headers={"user-agent": "aiops-assistant", **plain},
        auth=(auth[0], auth[1].get_secret_value()) if auth else None,
        timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, 5.0)),
        follow_redirects=False,
        verify=verify,
        limits=httpx.Limits(max_connections=20, max_keepalive_connections=5, keepalive_expiry=30),
    )
    return Client(inner, name, attempts, max_response_bytes, 3 * timeout_s)


def retry_after(value: str) -> float | None:
    """Seconds of a ``Retry-After`` header, given as a number or as a date; ``None`` where it says nothing."""
    text = value.strip()
    if not text:
        return None
    try:
        seconds = float(text)
        return max(0.0, min(seconds, 86_400.0)) if math.isfinite(seconds) else None
    except ValueError:
        pass
    try:
        when = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, min(when.timestamp() - time.time(), 86_400.0))


def _plain(error: httpx.HTTPError) -> str:
    """The kind of failure; the library's text may hold the URL."""
    words = {"ConnectError": "connection refused or name not found", "ReadError": "connection broken",
             "RemoteProtocolError": "not HTTP, or cut off", "WriteError": "connection broken"}  # fmt: skip
    return words.get(type(error).__name__, type(error).__name__)
