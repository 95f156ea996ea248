"""How the demo asks the service it started: HTTP only, as any user would."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import httpx

from aiops.core.errors import TransientError
from aiops.core.series import SampleBlock, labels_of

T = TypeVar("T")


class Probe:
    """Requests to the service at ``url``; failures are ``TransientError``."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = httpx.Client(base_url=url, timeout=httpx.Timeout(60.0, connect=2.0), trust_env=False)

    def close(self) -> None:
        self._client.close()

    def get(self, path: str, **params: Any) -> Any:
        return self._json("GET", path, params=params)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self._json("POST", path, json=body)

    def text(self, path: str, **params: Any) -> str:
        return self._response("GET", path, params=params).text

    def answers(self, path: str) -> bool:
        """Whether a GET gives a 2xx."""
        try:
            return self._client.get(path).is_success
        except httpx.HTTPError:
            return False

    def instant(self, query: str) -> list[tuple[dict[str, str], float]]:
        """An instant vector now, as (labels, value)."""
        found = self.get("/api/v1/query", query=query)["data"]["result"]
        return [(dict(one["metric"]), float(one["value"][1])) for one in found]

    def range(self, query: str, start_s: float, end_s: float, step_s: float) -> SampleBlock:
        """A range query; values as they come, per series."""
        found = self.get("/api/v1/query_range", query=query, start=start_s, end=end_s, step=step_s)["data"]["result"]
        return SampleBlock.build(
            (
                labels_of(one["metric"]),
                [round(float(t) * 1000) for t, _ in one["values"]],
                [float(v) for _, v in one["values"]],
            )
            for one in found
        )

    def _json(self, method: str, path: str, **more: Any) -> Any:
        try:
            return self._response(method, path, **more).json()
        except ValueError as error:
            raise TransientError(f"{method} {path} did not answer in JSON.") from error

    def _response(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            response = self._client.request(method, path, **more)
        except httpx.HTTPError as error:
            raise TransientError(f"{method} {path}: {str(error) or type(error).__name__}.") from error
        if not response.is_success:
            raise TransientError(f"{method} {path} answered {response.status_code}: {response.text[:300]}")
        return response


def wait_until(found: Callable[[], T | None], timeout_s: float, every_s: float = 0.25) -> T | None:
    """The first thing that ``found`` gives, or ``None`` when the time is up."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = found()
        if value is not None or time.monotonic() >= deadline:
            return value
        time.sleep(every_s)
