"""Pages arrive: a receiver that fails half the time in every way, and a service that is killed meanwhile."""

from __future__ import annotations

import json
import random
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.process import Service, until
from tests.loopback import Answer, Received, serving

TIMEOUT_S = 1.0


class Receiver:
    """Takes a page half of the time. Else it refuses, asks to wait, hangs, or takes it and answers too late."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self.well = False
        self.taken: defaultdict[str, list[str]] = defaultdict(list)
        """Ids of the deliveries that were taken in, by incident and event."""
        self.answers: Counter[str] = Counter()

    def answer(self, request: Received) -> Answer:
        body = request.json
        what = f"{body['subject']} {body['type'].rpartition('.')[2]}"
        with self._lock:
            way = (
                "take"
                if self.well or self._random.random() < 0.5
                else self._random.choice(["500", "503", "429", "hang", "late"])
            )
            self.answers[way] += 1
            if way in ("take", "late"):
                self.taken[what].append(request.headers["webhook-id"])
        match way:
            case "take":
                return Answer(204, b"")
            case "late":
                return Answer(204, b"", delay_s=TIMEOUT_S + 0.3)
            case "hang":
                return Answer(500, delay_s=TIMEOUT_S + 0.5)
            case "429":
                return Answer(429, headers={"retry-after": "1"})
        return Answer(int(way))

    def visible_duplicates(self) -> int:
        """Deliveries of one event under different ids, which a receiver cannot know as repeats."""
        with self._lock:
            return sum(len(set(ids)) - 1 for ids in self.taken.values())

    def opened(self) -> set[str]:
        with self._lock:
            return {what.split()[0] for what in self.taken if what.endswith(" opened")}


@pytest.fixture
def receiver() -> Iterator[tuple[Receiver, str]]:
    state = Receiver(7)
    with serving(state.answer) as url:
        yield state, url


def alert(number: int, status: str = "firing") -> dict[str, Any]:
    labels = {"alertname": "Down", "service": f"service-{number:04d}", "severity": "critical"}
    return {"status": status, "labels": labels, "annotations": {"summary": "x"}, "startsAt": "2026-01-01T00:00:00Z"}


def send(service: Service, number: int) -> None:
    """As Alertmanager does: again until it is taken."""
    body = {"version": "4", "alerts": [alert(number)]}

    def taken() -> bool:
        try:
            return service.http.post("/api/v1/webhooks/alertmanager", json=body).status_code == 202
        except httpx.TransportError:
            return False

    until(taken, 60)


def run(folder: Path, state: Receiver, url: str, alerts: int, kills: int) -> dict[str, Any]:
    hook = {"plugin": "webhook", "url": url, "timeout_s": TIMEOUT_S, "per_minute": 100_000}
    config = {
        "receivers": {"hook": hook},
        "detection": {"enabled": False},
        "connectors": {"telemetry": {}},
        "incidents": {"reopen_s": 0},
    }
    service = Service(folder, config)
    dice, killed = random.Random(3), 0
    try:
        every = max(1, alerts // (kills + 1))
        for number in range(alerts):
            send(service, number)
            if number and number % every == 0 and killed < kills:
                time.sleep(dice.uniform(0.0, 1.0))
                service.process.send_signal(signal.SIGKILL)
                service.process.wait(10)
                killed += 1
                service.start(int(service.url.rpartition(":")[2]))
        listed = service.http.get("/api/v1/incidents", params={"limit": 1000}).json()["incidents"]
        assert len(listed) == min(alerts, 1000)
        until(lambda: len(state.opened()) == alerts, 90 + 2 * alerts)
        state.well = True
        pending = "/api/v1/notifications"
        until(lambda: not service.http.get(pending, params={"status": "pending"}).json()["notifications"], 400)
        dead = service.http.get(pending, params={"status": "dead"}).json()["notifications"]
    finally:
        service.close()
    account = {
        "alerts": alerts, "kills": killed, "delivered": len(state.opened()), "dead letters": len(dead),
        "visible duplicates": state.visible_duplicates(), "answers": dict(state.answers),
    }  # fmt: skip
    print(json.dumps(account))
    return account


@pytest.mark.timeout(240)
def test_every_page_arrives_with_at_most_one_visible_duplicate_a_kill(
    tmp_path: Path, receiver: tuple[Receiver, str]
) -> None:
    account = run(tmp_path, *receiver, alerts=60, kills=3)
    assert (account["delivered"], account["kills"], account["dead letters"]) == (60, 3, 0)
    assert account["visible duplicates"] <= 3


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_every_page_of_a_thousand_arrives(tmp_path: Path, receiver: tuple[Receiver, str]) -> None:
    account = run(tmp_path, *receiver, alerts=1000, kills=10)
    assert (account["delivered"], account["kills"], account["dead letters"]) == (1000, 10, 0)
    assert account["visible duplicates"] <= 10
