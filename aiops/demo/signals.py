"""Log lines, spans and deploys of the simulated shop."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from aiops.core.series import Labels, labels_of
from aiops.core.signals import ChangeEvent, LogRecord, Span
from aiops.core.untrusted import Untrusted
from aiops.demo.fault import Fault
from aiops.demo.physics import SHAPE, Conditions
from aiops.demo.topology import CALLS, ENTRY_SHARES, ROUTES, SERVICES, callers_of

_SEVERITY = {9: "INFO", 13: "WARN", 17: "ERROR", 21: "FATAL"}
_WARNINGS = (
    "cache miss ratio is {n} percent",
    "retrying request after {n} ms",
    "client closed the connection after {n} ms",
    "token of session {hex} expires soon",
)
_MS = 1_000_000


class ShopSignals:
    """Draws sampled traces and the lines that go with them."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def at(
        self, now: Conditions, step_s: float, traces: int, fault: Fault | None
    ) -> tuple[list[LogRecord], list[Span]]:
        """Lines and spans of the ``step_s`` seconds before each time of ``now``, ``traces`` traces a step."""
        rng = np.random.default_rng([self._seed, 11, int(now.ts[0] // 1000)])
        logs: list[LogRecord] = []
        spans: list[Span] = []
        for k, ts in enumerate(now.ts.tolist()):
            for _ in range(traces):
                start = (ts - int(rng.uniform(0, step_s * 1000.0))) * _MS
                entry = int(rng.choice([r for r, _ in ENTRY_SHARES], p=[p for _, p in ENTRY_SHARES]))
                trace = _Trace(rng, now, k)
                trace.serve(entry, "", start)
                spans += trace.spans
                logs += _access_lines(rng, trace.spans)
            logs += self._odd_lines(rng, ts, step_s)
            if fault and now.strength[k] > 0:
                logs += self._fault_lines(rng, ts, step_s, fault, float(now.strength[k]))
        return logs, spans

    def _odd_lines(self, rng: np.random.Generator, ts: int, step_s: float) -> Iterator[LogRecord]:
        for service in SERVICES:
            if rng.random() < 0.004 * step_s:
                text = _WARNINGS[int(rng.integers(len(_WARNINGS)))]
                yield _line(
                    rng, ts, step_s, service, 13, text.format(n=int(rng.integers(5, 90)), hex=rng.bytes(6).hex())
                )

    def _fault_lines(
        self, rng: np.random.Generator, ts: int, step_s: float, fault: Fault, strength: float
    ) -> Iterator[LogRecord]:
        for line in fault.lines:
            writers = (fault.target,) if line.by == "target" else callers_of(fault.target)
            for service in writers:
                for _ in range(int(rng.poisson(0.6 * step_s * strength))):
                    text = line.text.format(target=fault.target, n=int(rng.integers(300, 3000)))
                    yield _line(rng, ts, step_s, service, line.severity, text)


class _Trace:
    """One request through the shop, as nested client and server spans."""

    def __init__(self, rng: np.random.Generator, now: Conditions, k: int) -> None:
        self._rng, self._now, self._k = rng, now, k
        self._id = rng.bytes(16).hex()
        self.spans: list[Span] = []

    def serve(self, route_index: int, parent: str, start: int) -> tuple[int, bool]:
        """Adds the server span of a request and all below it; gives its end (ns) and whether it succeeded."""
        route, k = ROUTES[route_index], self._k
        own = float(self._now.own_s[route_index, k]) * self._luck()
        ok = bool(self._rng.random() >= self._now.own_errors[route_index, k])
        span_id = self._rng.bytes(8).hex()
        clock = start + int(own * 0.6e9)
        for i, call in enumerate(CALLS):
            if call.caller != route_index:
                continue
            clock, answered = self._call(i, span_id, clock)
            ok = ok and (answered or bool(self._rng.random() >= call.fatal))
        end = clock + int(own * 0.4e9)
        attributes = {
            "http.request.method": route.method,
            "http.route": route.path,
            "http.response.status_code": "200" if ok else "500",
        }
        self._add(span_id, parent, f"{route.method} {route.path}", "server", start, end, ok, route.service, attributes)
        return end, ok

    def _call(self, index: int, parent: str, start: int) -> tuple[int, bool]:
        callee = ROUTES[CALLS[index].callee]
        span_id = self._rng.bytes(8).hex()
        wire = int(self._now.wire_s[index, self._k] * self._luck() * 1e9)
        refused = bool(self._rng.random() < self._now.refused[index, self._k])
        attributes = {"http.request.method": callee.method, "url.path": callee.path, "server.address": callee.service}
        if refused:
            end, ok = start + wire + 50 * _MS, False
            attributes["error.type"] = "ConnectionRefusedError"
        else:
            served, ok = self.serve(CALLS[index].callee, span_id, start + wire // 2)
            end = served + wire - wire // 2
            attributes["http.response.status_code"] = "200" if ok else "500"
        caller = ROUTES[CALLS[index].caller].service
        self._add(span_id, parent, callee.method, "client", start, end, ok, caller, attributes)
        return end, ok

    def _luck(self) -> float:
        u = float(self._rng.uniform(0.02, 0.98))
        return float((u / (1.0 - u)) ** (1.0 / SHAPE))

    def _add(
        self, span_id: str, parent: str, name: str, kind: str, start: int, end: int, ok: bool, service: str,
        attributes: dict[str, str],
    ) -> None:  # fmt: skip
        self.spans.append(
            Span(
                self._id, span_id, parent, Untrusted(name), kind, start, end,
                "unset" if ok else "error", resource_of(service), labels_of({**attributes, "aiops.sampled": "true"}),
            )
        )  # fmt: skip


def resource_of(service: str) -> Labels:
    """The OpenTelemetry resource of a simulated service."""
    return labels_of({"service.name": service, "service.namespace": "shop", "simulated": "true"})


def deploys(seed: int, start_ms: int, end_ms: int, fault: Fault | None = None) -> list[ChangeEvent]:
    """Deploys in ``[start_ms, end_ms)``: some every few days at working hours, and the bad one of a deploy fault."""
    found = []
    day_ms = 86_400_000
    for day in range(start_ms // day_ms - 1, end_ms // day_ms + 1):
        rng = np.random.default_rng([seed, 13, day])
        for service in SERVICES:
            if rng.random() < 0.3:
                time_ms = day * day_ms + int(rng.uniform(8, 17) * 3600_000)
                found.append(_deploy(time_ms, service, f"2.{day % 100}.{int(rng.integers(10))}"))
    if fault and fault.deploy and fault.onset_ms > 0:
        found.append(_deploy(fault.onset_ms - 2000, fault.target, "3.0.0"))
    return sorted((c for c in found if start_ms <= c.time_ms < end_ms), key=lambda c: c.time_ms)


def _deploy(time_ms: int, service: str, version: str) -> ChangeEvent:
    return ChangeEvent(
        time_ms, "deploy", service, Untrusted(f"Deploy {service} {version} (simulated)"), "ci", "", "demo",
        labels_of({"simulated": "true", "version": version}),
    )  # fmt: skip


def _access_lines(rng: np.random.Generator, spans: list[Span]) -> Iterator[LogRecord]:
    for span in spans:
        failed = span.status == "error"
        if span.kind == "server" and (failed or rng.random() < 0.35):
            status = "500" if failed else "200"
            text = f"{span.name.raw} -> {status} in {span.duration_ms:.0f} ms"
            severity = 17 if failed else 9
            yield LogRecord(
                span.end_unix_nano, Untrusted(text), severity, _SEVERITY[severity], span.resource,
                (("simulated", "true"),), span.trace_id, span.span_id,
            )  # fmt: skip


def _line(rng: np.random.Generator, ts: int, step_s: float, service: str, severity: int, text: str) -> LogRecord:
    time_ns = (ts - int(rng.uniform(0, step_s * 1000.0))) * _MS
    return LogRecord(
        time_ns, Untrusted(text), severity, _SEVERITY[severity], resource_of(service), (("simulated", "true"),)
    )
