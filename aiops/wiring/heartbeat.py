"""Our sign of life to a dead man's switch elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aiops.api.services import Component, ComponentState
from aiops.core.errors import TransientError
from aiops.jobs.repeating import Repeating
from aiops.settings import HeartbeatSettings

TIMEOUT_S = 10.0


def heartbeat(settings: HeartbeatSettings, components: Callable[[], Sequence[Component]]) -> Repeating | None:
    """``None`` where no address is set; a sign is sent only while all required components are ready."""
    if not settings.url.get_secret_value():
        return None
    return Repeating(lambda: send_sign(settings, components), settings.interval_s, "heartbeat")


def send_sign(settings: HeartbeatSettings, components: Callable[[], Sequence[Component]]) -> None:
    """One sign of life. Raises ``TransientError`` where a required part is not ready, or nobody takes it."""
    import httpx

    sick = [c.name for c in components() if c.required and c.state is not ComponentState.READY]
    if sick:
        raise TransientError(f"No sign of life is sent: {', '.join(sick)} is not ready.")
    try:
        url = settings.url.get_secret_value()
        httpx.get(url, timeout=TIMEOUT_S, headers={"user-agent": "aiops-assistant"}).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise TransientError(f"The heartbeat's receiver did not take it ({type(error).__name__}).") from error
