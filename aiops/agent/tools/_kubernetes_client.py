"""GET requests to a Kubernetes API server: bounded, without redirects, errors that say who must react."""

from __future__ import annotations

import json
import os
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from pydantic import Field, SecretStr, model_validator

from aiops.access.binding import is_loopback
from aiops.core.errors import ConfigError, NotFound, PermanentError, TransientError
from aiops.core.ports import PluginOptions
from aiops.core.untrusted import Untrusted

MOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where Kubernetes puts a service account's token and the API server's certificate authority into a pod."""
MOST_BYTES = 16 * 1024 * 1024
RBAC = "Its role needs get and list on what is asked, see docs/operations.md."


class KubernetesOptions(PluginOptions):
    """``in_cluster`` takes address, token and certificate authority from the pod that aiops runs in.

    ``token_file`` is read again for every request, since mounted tokens change. ``namespaces`` are the only ones that
    are looked into; empty means all that the token may read. ``max_lines`` caps lines and rows of one look-up.
    """

    url: str = ""
    in_cluster: bool = False
    token: SecretStr = SecretStr("")
    token_file: Path | None = None
    ca_file: Path | None = None
    verify: bool = True
    namespaces: tuple[str, ...] = Field((), max_length=20)
    timeout_s: float = Field(10.0, gt=0, le=60)
    max_lines: int = Field(200, ge=1, le=2000)

    @model_validator(mode="after")
    def has_a_safe_address(self) -> KubernetesOptions:
        if bool(self.url) is self.in_cluster:
            raise ValueError("give url, or in_cluster: true")
        parts = urlsplit(self.url)
        if self.url and (parts.scheme not in ("http", "https") or not parts.hostname or parts.username):
            raise ValueError("url must be https://host[:port], without user and password")
        if parts.scheme == "http" and not is_loopback(parts.hostname or "") and (self.token or self.token_file):
            raise ValueError("url must be https, as a token is sent to it")
        return self


class Refused(PermanentError):
    """The server's answer that is neither success nor worth another try."""

    def __init__(self, status: int, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status


class KubernetesClient:
    """One API server. Thread-safe."""

    def __init__(self, options: KubernetesOptions, name: str) -> None:
        """Raises ``ConfigError`` outside a cluster, or for a certificate authority that cannot be read."""
        self._name, self._options = name, options
        self._token_file, ca_file, url = options.token_file, options.ca_file, options.url.rstrip("/")
        if options.in_cluster:
            host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
            if not host:
                raise ConfigError(f"tools '{name}': in_cluster is set, and this is no pod.", hint="Set url instead.")
            url = f"https://{f'[{host}]' if ':' in host else host}:{port}"
            if not options.token.get_secret_value():
                self._token_file = options.token_file or MOUNT / "token"
            ca_file = ca_file or MOUNT / "ca.crt"
        try:
            verify = ssl.create_default_context(cafile=ca_file) if options.verify else False
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"tools '{name}': ca_file {ca_file} cannot be read as certificates.") from error
        timeout = httpx.Timeout(options.timeout_s, connect=min(5.0, options.timeout_s))
        self._http = httpx.Client(base_url=url, verify=verify, timeout=timeout, follow_redirects=False)

    def close(self) -> None:
        self._http.close()

    def json(self, path: str, query: Mapping[str, str | int]) -> dict[str, Any]:
        try:
            found = json.loads(self.get(path, query))
        except ValueError as error:
            raise PermanentError(f"{self._name} did not answer as Kubernetes does.") from error
        if not isinstance(found, dict):
            raise PermanentError(f"{self._name} did not answer as Kubernetes does.")
        return found

    def get(self, path: str, query: Mapping[str, str | int]) -> bytes:
        """A successful answer's body.

        Raises:
            TransientError: no connection, time-out, 429, 5xx.
            NotFound: 404.
            Refused: any other status; 401 and 403 say what to mend.
            PermanentError: more than 16 MiB, or a token file that cannot be read.
        """
        until = time.monotonic() + 2 * self._options.timeout_s
        body = bytearray()
        try:
            with self._http.stream("GET", path, params=dict(query), headers=self._headers()) as response:
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > MOST_BYTES:
                        raise PermanentError(f"{self._name} answered more than {MOST_BYTES} bytes.")
                    if time.monotonic() > until:
                        raise TransientError(f"{self._name} answered too slowly.")
        except httpx.TimeoutException as error:
            raise TransientError(f"{self._name} did not answer in time.") from error
        except httpx.HTTPError as error:
            untrusted = isinstance(error.__cause__, ssl.SSLError) or "CERTIFICATE_VERIFY" in str(error)
            why = "its certificate is not trusted, see ca_file" if untrusted else type(error).__name__
            raise TransientError(f"{self._name} cannot be reached ({why}).") from error
        if response.status_code == 200:
            return bytes(body)
        raise self._error(response.status_code, bytes(body))

    def _headers(self) -> dict[str, str]:
        token = self._options.token.get_secret_value()
        if not token and self._token_file is not None:
            try:
                token = self._token_file.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise PermanentError(f"The token file of {self._name} cannot be read.") from error
        return {"accept": "application/json, */*", **({"authorization": f"Bearer {token}"} if token else {})}

    def _error(self, status: int, body: bytes) -> TransientError | PermanentError:
        try:
            told = json.loads(body)["message"]
        except (ValueError, KeyError, TypeError):
            told = ""
        said = Untrusted(str(told)).display(200)
        text = f"{self._name} answered {status}" + (f": {said}" if said else ".")
        if status in (408, 429) or status >= 500:
            return TransientError(text)
        if status == 404:
            return NotFound(text)
        hint = {401: "Its token is missing, wrong or too old.", 403: RBAC}.get(status, "")
        return Refused(status, text, hint=hint)
