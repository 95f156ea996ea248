"""Systems that hold logs or traces and are asked in place: how they are reached; nothing is polled from them."""

from __future__ import annotations

from typing import TypeVar

from pydantic import Field, SecretStr

from aiops.core.ports import Collected, PluginContext, PluginOptions, TelemetrySource
from connectors.http import client


class InPlaceOptions(PluginOptions):
    """``tenant`` is sent as ``X-Scope-OrgID``; ``timeout_s`` bounds one request."""

    url: str
    bearer_token: SecretStr = SecretStr("")
    username: str = ""
    password: SecretStr = SecretStr("")
    tenant: str = ""
    timeout_s: float = Field(15.0, gt=0, le=120)


OptionsT = TypeVar("OptionsT", bound=InPlaceOptions)


class InPlaceSource(TelemetrySource[OptionsT]):
    """The client of one such system."""

    interval_s = 0.0

    def __init__(self, options: OptionsT, context: PluginContext) -> None:
        super().__init__(options, context)
        headers: dict[str, str | SecretStr] = {"X-Scope-OrgID": options.tenant} if options.tenant else {}
        if options.bearer_token.get_secret_value():
            headers["Authorization"] = SecretStr(f"Bearer {options.bearer_token.get_secret_value()}")
        auth = (options.username, options.password) if options.username else None
        url = options.url.rstrip("/")
        self._http = client(context.name, url, headers=headers, auth=auth, timeout_s=options.timeout_s)

    def poll(self, cursor: str) -> Collected:
        return Collected(cursor=cursor)

    def close(self) -> None:
        self._http.close()
