"""Receivers that are busy put senders off."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from aiops.core.ports import system_clock
from aiops.settings import ServerSettings, Settings
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore
from tests.unit.ingest.app import app_over, serving

LINE = '{"streams":[{"stream":{"a":"b"},"values":[["%d","%s"]]}]}'
HEADERS = {"content-type": "application/json"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TelemetryStore]:
    settings = Settings()
    built = TelemetryStore(TelemetryDatabase(tmp_path / "t.duckdb", settings.store))
    yield built
    built.close()


@pytest.mark.parametrize("path", ["/loki/api/v1/push", "/v1/logs", "/api/v1/write"])
def test_what_cannot_be_held_is_put_off(store: TelemetryStore, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, leave = threading.Event(), threading.Event()
    append = store.append

    def slow(*args: Any, **rest: Any) -> Any:
        entered.set()
        assert leave.wait(20)
        return append(*args, **rest)

    monkeypatch.setattr(store, "append", slow)
    server = ServerSettings(max_inflight_bytes=3000)
    body = LINE % (system_clock() * 10**6, "x" * 4000)
    with (
        serving(app_over(store, Settings(server=server), system_clock)) as url,
        httpx.Client(trust_env=False, timeout=20) as client,
    ):
        first: list[int] = []

        def post() -> None:
            answer = httpx.post(f"{url}/loki/api/v1/push", content=body, headers=HEADERS, trust_env=False, timeout=20)
            first.append(answer.status_code)

        sender = threading.Thread(target=post)
        sender.start()
        assert entered.wait(20)
        answer = client.post(url + path, content=body, headers=HEADERS)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert "max_inflight_bytes" in answer.text
        leave.set()
        sender.join(20)
        assert first == [204], "a body larger than the budget is taken where it is alone"
        assert client.post(f"{url}/loki/api/v1/push", content=body, headers=HEADERS).status_code == 204
