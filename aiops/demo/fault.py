"""Seven kinds of fault that the demo can inject into the simulated shop, one a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aiops.core.errors import InvalidInput

RAMP_S = 5.0
OOM_PERIOD_S = 40.0


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line the fault writes. ``by`` is ``target`` or ``callers``; ``{target}`` and ``{n}`` are filled in."""

    by: str
    severity: int
    text: str


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault and what it does to its target, at full strength.

    Attributes:
        kind: short name, what ``--fault`` takes.
        target: the faulty service; ``truth`` is what a right diagnosis names.
        onset_ms: when it starts, ms UTC; 0 means not injected yet.
        own_latency_factor, own_latency_add_s: on the time spent in the target itself.
        error_share: extra share of failing requests at the target.
        refused_share: share of calls that never reach the target and fail at its callers.
        cpu_share, pool_share: share of the limit that is used up.
        wire_add_s: added to each call of the target, on the network.
        queue_growth: messages a second that pile up.
        leaks: memory climbs to the limit, then the process is killed and restarts.
        deploy: a deploy of the target precedes the fault.
        expected: effects in words, for people.
    """

    kind: str
    title: str
    target: str
    targets: tuple[str, ...]
    expected: tuple[str, ...]
    lines: tuple[LogLine, ...]
    onset_ms: int = 0
    own_latency_factor: float = 1.0
    own_latency_add_s: float = 0.0
    error_share: float = 0.0
    refused_share: float = 0.0
    cpu_share: float = 0.0
    pool_share: float = 0.0
    wire_add_s: float = 0.0
    queue_growth: float = 0.0
    leaks: bool = False
    deploy: bool = False

    @property
    def truth(self) -> str:
        """The service that a right diagnosis names."""
        return self.target

    def at(self, onset_ms: int) -> Fault:
        """The same fault, starting at ``onset_ms``."""
        return replace(self, onset_ms=onset_ms)

    def strength(self, ts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Share of full effect at each time, in [0, 1]; zero while not injected."""
        if self.onset_ms <= 0:
            return np.zeros(len(ts))
        return np.clip((ts - self.onset_ms) / (RAMP_S * 1000.0), 0.0, 1.0)


def _fault(
    kind: str, title: str, targets: tuple[str, ...], expected: tuple[str, ...], *lines: LogLine, **effects: float | bool
) -> Fault:
    return Fault(kind, title, targets[0], targets, expected, lines, **effects)  # type: ignore[arg-type]


KINDS: Mapping[str, Fault] = {
    fault.kind: fault
    for fault in (
        _fault(
            "cpu",
            "CPU saturation",
            ("catalog", "inventory", "payment"),
            ("CPU of {target} at its limit", "latency of {target} and its callers up"),
            LogLine("target", 13, "event loop lagging {n} ms behind, requests are queueing"),
            LogLine("target", 13, "request took {n} ms, budget is 250 ms"),
            own_latency_factor=6.0,
            cpu_share=0.98,
            error_share=0.01,
        ),
        _fault(
            "database",
            "slow database, connection pool exhausted",
            ("checkout", "inventory", "catalog", "payment"),
            ("all database connections of {target} in use", "latency and errors of {target} and its callers up"),
            LogLine("target", 17, "timeout acquiring connection from pool after {n} ms (pool exhausted)"),
            LogLine("target", 13, "slow query: SELECT ... FOR UPDATE took {n} ms"),
            own_latency_factor=2.0,
            own_latency_add_s=0.45,
            pool_share=1.0,
            error_share=0.06,
        ),
        _fault(
            "deploy",
            "error burst after a bad deploy",
            ("payment", "checkout", "catalog"),
            ("a deploy of {target} just before", "errors of {target} and its callers up"),
            LogLine("target", 17, "unhandled exception: KeyError 'currency_code' in handler"),
            LogLine("target", 17, "request failed with status 500: KeyError 'currency_code'"),
            error_share=0.35,
            deploy=True,
        ),
        _fault(
            "memory",
            "memory leak, out-of-memory restarts",
            ("cart", "catalog", "checkout"),
            ("memory of {target} climbs to its limit and falls on restart", "errors at each restart"),
            LogLine("target", 13, "garbage collection took {n} ms, heap nearly full"),
            LogLine("target", 17, "out of memory: process killed by the kernel, restarting"),
            leaks=True,
            own_latency_factor=3.0,
            error_share=0.15,
        ),
        _fault(
            "network",
            "network delay",
            ("inventory", "cart"),
            ("time on the wire to {target} up while {target} itself is as fast as ever", "latency of its callers up"),
            LogLine("target", 13, "sending response to peer took {n} ms, tcp retransmissions rising"),
            LogLine("target", 17, "write timeout: peer did not acknowledge within {n} ms"),
            wire_add_s=0.35,
        ),
        _fault(
            "outage",
            "dependency outage",
            ("inventory", "payment", "cart"),
            ("traffic at {target} drops", "its callers fail with connection errors"),
            LogLine("callers", 17, "connect to {target}:8080 failed: connection refused"),
            LogLine("target", 21, "worker pool stopped: no worker left to accept connections"),
            refused_share=0.85,
            error_share=0.95,
            own_latency_add_s=0.3,
        ),
        _fault(
            "queue",
            "queue backlog",
            ("checkout", "payment"),
            ("queue of {target} grows", "latency of {target} and its callers up"),
            LogLine("target", 13, "consumer lag is {n} messages and growing"),
            LogLine("target", 17, "publish blocked: queue above high-water mark"),
            queue_growth=60.0,
            own_latency_factor=3.0,
            own_latency_add_s=0.12,
        ),
    )
}  # fmt: skip


def draw(seed: int, kind: str = "") -> Fault | None:
    """The fault of a run: kind and target drawn by ``seed``, or the given kind; ``none`` gives ``None``.

    Raises:
        InvalidInput: an unknown kind.
    """
    rng = np.random.default_rng([seed, 0xFA])
    drawn = list(KINDS)[int(rng.integers(len(KINDS)))]
    chosen = kind or drawn
    if chosen == "none":
        return None
    if chosen not in KINDS:
        raise InvalidInput(f"There is no fault '{chosen}'.", hint=f"Known: none, {', '.join(KINDS)}.")
    fault = KINDS[chosen]
    return replace(fault, target=fault.targets[int(rng.integers(len(fault.targets)))])
