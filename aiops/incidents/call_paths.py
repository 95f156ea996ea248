"""Who calls whom, over how many services, and who depends on whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field

DEPTH = 5


@dataclass(frozen=True, slots=True)
class CallPaths:
    """Directed call paths of at most two hops, ready for look-up."""

    hops: Mapping[tuple[str, str], int] = field(default_factory=dict)
    callees: Mapping[str, Set[str]] = field(default_factory=dict)
    _below: dict[str, frozenset[str]] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, edges: Iterable[tuple[str, str]]) -> CallPaths:
        """Self-loops are dropped; cycles do no harm at two hops."""
        callees: dict[str, set[str]] = {}
        for caller, callee in edges:
            if caller != callee:
                callees.setdefault(caller, set()).add(callee)
        hops: dict[tuple[str, str], int] = {}
        for caller, direct in callees.items():
            for middle in direct:
                for far in callees.get(middle, ()):
                    if far != caller:
                        hops.setdefault((caller, far), 2)
        for caller, direct in callees.items():
            for callee in direct:
                hops[caller, callee] = 1
        return cls(hops, callees)

    def below(self, service: str) -> frozenset[str]:
        """What it calls, directly or over others, :data:`DEPTH` calls deep."""
        found = self._below.get(service)
        if found is None:
            reached: set[str] = set()
            level = {service}
            for _ in range(DEPTH):
                level = {c for s in level for c in self.callees.get(s, ())} - reached
                reached |= level
            found = self._below[service] = frozenset(reached - {service})
        return found

    def roots(self, services: Iterable[str]) -> list[str]:
        """Those of ``services`` that call none of the others within two hops: where their trouble may come from."""
        every = [s for s in services if s]
        return [s for s in every if not any((s, other) in self.hops for other in every if other != s)]

    def describe(self, new: str, old: str) -> tuple[int, str]:
        """(hops, words) between two services along the calls; (0, "") where there is no such path."""
        down, up = self.hops.get((new, old), 0), self.hops.get((old, new), 0)
        if down and (not up or down <= up):
            return down, f"{new} calls {old}" + ("" if down == 1 else " over one service")
        if up:
            return up, f"{new} is called by {old}" + ("" if up == 1 else " over one service")
        return 0, ""


def callers_of(service: str, edges: Iterable[tuple[str, str]], limit: int = 50) -> tuple[str, ...]:
    """Who calls ``service``, directly or through others: the nearest first, then by name.

    >>> callers_of("db", [("web", "cart"), ("cart", "db"), ("db", "cart"), ("job", "db")])
    ('cart', 'job', 'web')
    """
    callers: dict[str, set[str]] = {}
    for caller, callee in edges:
        callers.setdefault(callee, set()).add(caller)
    found: list[str] = []
    level = [service]
    while level and len(found) < limit:
        level = sorted({c for s in level for c in callers.get(s, ())} - {service, *found})
        found += level
    return tuple(found[:limit])
