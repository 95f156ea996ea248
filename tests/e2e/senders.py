"""Senders that know what was acknowledged: remote write, OTLP logs and OTLP traces, each sent until it is taken."""

from __future__ import annotations

import json
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from tests.unit.ingest.encode import series, snappy

SERIES, SAMPLES, LINES, SPANS = 40, 3, 10, 5
WRITE = {"content-encoding": "snappy", "content-type": "application/x-protobuf"}
JSON = {"content-type": "application/json"}
PAUSE_S = 0.01


@dataclass
class Request:
    """One body and the rows that it stands for: (time ms, key)."""

    signal: str
    path: str
    body: bytes
    headers: dict[str, str]
    rows: list[tuple[int, str]]


@dataclass
class Tally:
    """What became of the requests of one sender."""

    acknowledged: dict[str, list[tuple[int, str]]] = field(default_factory=lambda: defaultdict(list))
    requests: int = 0
    replayed: int = 0
    refused: int = 0
    """Answers 429 and 503: not taken, sent again."""
    errors: list[str] = field(default_factory=list)


class Sender(threading.Thread):
    """Sends one request after the other. While ``gate`` is closed it begins none; what is in flight may fail.

    Args:
        number: tells its rows from others'.
        clock: the time of its rows, ms.
        signals: of ``metrics``, ``logs``, ``traces``; sent in turn.
        timeout_s: after it a request is sent again.
    """

    def __init__(
        self, number: int, url: Callable[[], str], clock: Callable[[], int],
        signals: tuple[str, ...] = ("metrics", "logs", "traces"), timeout_s: float = 10.0, pad: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(daemon=True, name=f"sender-{number}")
        self.number, self.url, self.clock, self.signals, self.pad = number, url, clock, signals, pad
        self.tally = Tally()
        self.gate, self.ending = threading.Event(), threading.Event()
        self.gate.set()
        self.busy = threading.Lock()
        """Held while a request is under way; who closes the gate and then takes it knows that none is."""
        self.in_flight: Request | None = None
        self._timeout = timeout_s
        self._last_ms = 0
        self._made = 0

    def run(self) -> None:
        with httpx.Client(trust_env=False, timeout=self._timeout) as client:
            while not self.ending.is_set():
                with self.busy:
                    taken = self.gate.is_set() and self._step(client)
                time.sleep(PAUSE_S if taken else 5 * PAUSE_S)

    def _step(self, client: httpx.Client) -> bool:
        request = self.in_flight or self._next()
        self.tally.replayed += self.in_flight is not None
        self.in_flight = request
        if not self._send(client, request):
            return False
        self.tally.acknowledged[request.signal] += request.rows
        self.tally.requests += 1
        self.in_flight = None
        return True

    def wait(self) -> None:
        """Close the gate and wait until nothing is under way."""
        self.gate.clear()
        with self.busy:
            pass

    def _send(self, client: httpx.Client, request: Request) -> bool:
        try:
            reply = client.post(self.url() + request.path, content=request.body, headers=request.headers)
        except httpx.TransportError:
            return False
        if reply.status_code in (429, 503):
            self.tally.refused += 1
            return False
        if not reply.is_success or b"partialSuccess" in reply.content:
            self.tally.errors.append(f"{request.path} {reply.status_code} {reply.text[:300]}")
        return True

    def stop(self) -> None:
        """Ends once the request in flight is acknowledged."""
        self.gate.set()
        while self.in_flight is not None and self.is_alive():
            time.sleep(0.02)
        self.ending.set()
        self.join(30)
        assert not self.is_alive(), "a sender hangs"

    # ---------------------------------------------------------------- what is sent

    def _next(self) -> Request:
        ts = self._last_ms = max(self.clock(), self._last_ms + SAMPLES)
        self._made += 1
        signal = self.signals[self._made % len(self.signals)]
        return {"metrics": self.metrics, "logs": self.logs, "traces": self.traces}[signal](ts)

    def metrics(self, ts: int) -> Request:
        """``m{sender,i}``; a value is its own time, so that a torn row shows."""
        me = str(self.number)
        rows = [(ts - k, str(i)) for i in range(SERIES) for k in reversed(range(SAMPLES))]
        body = b"".join(
            series(
                (("__name__", "m"), ("i", str(i)), ("sender", me)),
                [(ts - k, _bits(ts - k)) for k in reversed(range(SAMPLES))],
            )
            for i in range(SERIES)
        )
        return Request("metrics", "/api/v1/write", snappy(body), WRITE, rows)

    def logs(self, ts: int) -> Request:
        lines = [(ts, f"{self.number} {self._made} {k}") for k in range(LINES)]
        pad = " " + "x" * self.pad if self.pad else ""
        records = [{"timeUnixNano": str(t * 10**6), "body": {"stringValue": line + pad}} for t, line in lines]
        body = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}).encode()
        return Request("logs", "/v1/logs", body, JSON, lines)

    def traces(self, ts: int) -> Request:
        ids = [(ts, f"{self.number:08x}{self._made:08x}{k:016x}") for k in range(SPANS)]
        spans = [
            {
                "traceId": one, "spanId": one[8:24], "name": "work", "kind": 2,
                "startTimeUnixNano": str(t * 10**6), "endTimeUnixNano": str(t * 10**6 + 1000),
            }
            for t, one in ids
        ]  # fmt: skip
        body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()
        return Request("traces", "/v1/traces", body, JSON, ids)


def _bits(value: int) -> int:
    return int(struct.unpack("<Q", struct.pack("<d", float(value)))[0])
