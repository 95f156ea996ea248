"""The simulated shop: six services, their routes, who calls whom, and the hosts they run on.

Everything in this package is made up by a seeded generator; nothing is measured. Each series, line,
span, deploy and cost row says so (label or attribute ``simulated="true"``).
"""

from __future__ import annotations

from dataclasses import dataclass

SERVICES = ("frontend", "checkout", "payment", "cart", "catalog", "inventory")
HOSTS = ("shop-host-1", "shop-host-2", "shop-host-3")
HOST_OF = {
    "frontend": "shop-host-1",
    "checkout": "shop-host-2",
    "payment": "shop-host-3",
    "cart": "shop-host-1",
    "catalog": "shop-host-2",
    "inventory": "shop-host-3",
}
CPUS_PER_HOST = 4
HOST_MEMORY_BYTES = 16 * 2**30
HOST_DISK_BYTES = 200 * 10**9


@dataclass(frozen=True, slots=True)
class Route:
    """One operation. ``own_s`` is the typical time spent in the service itself, seconds."""

    service: str
    method: str
    path: str
    own_s: float
    error_share: float


ROUTES = (
    Route("frontend", "GET", "/products", 0.012, 0.0020),
    Route("frontend", "POST", "/checkout", 0.018, 0.0020),
    Route("frontend", "GET", "/cart", 0.008, 0.0020),
    Route("checkout", "POST", "/api/orders", 0.025, 0.0030),
    Route("payment", "POST", "/api/charges", 0.045, 0.0050),
    Route("cart", "GET", "/api/cart", 0.006, 0.0040),
    Route("catalog", "GET", "/api/products", 0.020, 0.0030),
    Route("inventory", "GET", "/api/stock", 0.010, 0.0030),
)


@dataclass(frozen=True, slots=True)
class Call:
    """Each request to ``caller`` makes one to ``callee``; ``fatal`` is how often its failure fails the caller."""

    caller: int
    callee: int
    fatal: float = 1.0


CALLS = (
    Call(0, 6),
    Call(1, 3),
    Call(2, 5),
    Call(6, 7, fatal=0.6),
    Call(3, 5),
    Call(3, 7),
    Call(3, 4),
)
"""Ordered so that a route's incoming calls precede its outgoing ones."""

ENTRY_SHARES = ((0, 0.60), (1, 0.25), (2, 0.15))
"""Route index and its share of the shop's traffic."""

PEAK_REQUESTS_PER_S = 240.0
WIRE_S = 0.0012
"""Typical time on the network per call, seconds, both ways together."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What a service may use. Zero pool or queue means it has none."""

    cpu_limit: float
    memory_limit: int
    pool: int
    queue: str = ""
    cpu_per_request_s: float = 0.004


RESOURCES = {
    "frontend": Resources(2.0, 1024 * 2**20, 0, cpu_per_request_s=0.0028),
    "checkout": Resources(1.0, 768 * 2**20, 40, queue="orders", cpu_per_request_s=0.0058),
    "payment": Resources(1.0, 512 * 2**20, 30, queue="settlements", cpu_per_request_s=0.0052),
    "cart": Resources(1.0, 512 * 2**20, 0, cpu_per_request_s=0.0026),
    "catalog": Resources(1.0, 1024 * 2**20, 50, cpu_per_request_s=0.0025),
    "inventory": Resources(1.0, 768 * 2**20, 40, cpu_per_request_s=0.0020),
}


def callers_of(service: str) -> tuple[str, ...]:
    """Services that call ``service`` directly."""
    found = {ROUTES[c.caller].service for c in CALLS if ROUTES[c.callee].service == service}
    return tuple(s for s in SERVICES if s in found)


def routes_of(service: str) -> tuple[int, ...]:
    return tuple(i for i, r in enumerate(ROUTES) if r.service == service)
