"""Request latencies of a dozen services, sent by remote write: hours of history at once, then as time passes."""

from __future__ import annotations

import struct
import threading
import time

import httpx
import numpy as np

from tests.unit.ingest.encode import series, snappy

WRITE = {"content-encoding": "snappy", "content-type": "application/x-protobuf"}
SERVICES = tuple(f"service-{number:02d}" for number in range(1, 13))
METRIC = "request_latency_seconds"
STEP_MS = 2_000
PERIOD_MS = 1_200_000
"""The rhythm of the load: twenty minutes, so that a short history holds several."""


def bits(value: float) -> int:
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])


class World:
    """``factor`` moves the level of all services from now on, as a season's change would."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.factor = 1.0
        self._rng = np.random.default_rng(11)
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def values(self, times: np.ndarray, number: int) -> np.ndarray:
        level = 0.1 + 0.02 * number
        wave = 1 + 0.3 * np.sin(2 * np.pi * times / PERIOD_MS + number)
        return self.factor * level * wave * (1 + 0.05 * self._rng.normal(size=len(times)))

    def send(self, times: np.ndarray) -> None:
        """The values of all services at these times."""
        body = b"".join(
            series(
                [("__name__", METRIC), ("service_name", service)],
                [(int(t), bits(float(v))) for t, v in zip(times, self.values(times, number), strict=True)],
            )
            for number, service in enumerate(SERVICES)
        )
        with httpx.Client(trust_env=False, timeout=60) as client:
            reply = client.post(f"{self.url}/api/v1/write", content=snappy(body), headers=WRITE)
        assert reply.status_code in (200, 204), reply.text

    def history(self, hours: float) -> None:
        end = time.time_ns() // 1_000_000 // STEP_MS * STEP_MS
        times = np.arange(end - int(hours * 3_600_000), end, STEP_MS)
        for part in np.array_split(times, max(1, len(times) // 600)):
            self.send(part)

    def go_on(self) -> None:
        """Send what the time brings until :meth:`stop`."""

        def run() -> None:
            last = time.time_ns() // 1_000_000 // STEP_MS * STEP_MS - STEP_MS
            while not self._ending.wait(0.2):
                now = time.time_ns() // 1_000_000 // STEP_MS * STEP_MS
                if now > last:
                    self.send(np.arange(last + STEP_MS, now + 1, STEP_MS))
                    last = now

        self._thread = threading.Thread(target=run, name="world", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ending.set()
        if self._thread is not None:
            self._thread.join(10)
