"""Our sign of life to a dead man's switch elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aiops.api.services import Component, ComponentState
from aiops.core.errors import TransientError
from aiops.incidents.watchdogs import Heartbeat
from aiops.settings import HeartbeatSettings

TIMEOUT_S = 10.0


def heartbeat(settings: HeartbeatSettings, components: Callable[[], Sequence[Component]]) -> Heartbeat | None:
    """``None`` where no address is set; sent only while all required components are ready."""
    url = settings.url.get_secret_value()
    if not url:
        return None
    import httpx

    def ping() -> None:
        try:
            httpx.get(url, timeout=TIMEOUT_S, headers={"user-agent": "aiops-assistant"}).raise_for_status()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise TransientError(f"The heartbeat's receiver did not take it ({type(error).__name__}).") from error

    def healthy() -> bool:
        return all(c.state is ComponentState.READY for c in components() if c.required)

    return Heartbeat(ping, healthy, settings.interval_s)
