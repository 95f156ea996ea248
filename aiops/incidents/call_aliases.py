"""Nodes of a call graph that only stand in front of a service: load balancers, client stubs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

_FRONT = re.compile(
    r"(\belb\b|\balb\b|\bnlb\b|load-?balancer|(^|[._-])lb([._-]|$)|_remote$|\bingress\b)", re.IGNORECASE
)
_CLIENT = re.compile(r"(^|[._-])client$", re.IGNORECASE)
_MIN_WORD = 4


def fold(
    edges: Sequence[tuple[str, str]], names: Iterable[str] = ()
) -> tuple[list[tuple[str, str]], Mapping[str, str]]:
    """The graph without such nodes, and which service each stands for.

    A client stub calls exactly one service and nobody calls it. A load balancer has no callees of its own and
    carries, perhaps cut short, a word of the one service that its callers call or are.
    """
    callees: dict[str, set[str]] = {}
    callers: dict[str, set[str]] = {}
    for caller, callee in edges:
        if caller != callee:
            callees.setdefault(caller, set()).add(callee)
            callers.setdefault(callee, set()).add(caller)
    alias: dict[str, str] = {}
    for node in sorted({*callees, *callers, *names}):
        if _CLIENT.search(node) and len(callees.get(node, ())) == 1 and not callers.get(node):
            alias[node] = next(iter(callees[node]))
        elif _FRONT.search(node) and not callees.get(node):
            near = set(callers.get(node, ()))
            for caller in callers.get(node, ()):
                near |= callees.get(caller, set())
            fits = _fronted(node, sorted(n for n in near - {node} if not _FRONT.search(n)))
            if len(fits) == 1:
                alias[node] = fits.pop()
    for node in list(alias):
        seen = {node}
        while alias[node] in alias and alias[node] not in seen:
            seen.add(alias[node])
            alias[node] = alias[alias[node]]
    folded = [(alias.get(a, a), alias.get(b, b)) for a, b in edges]
    return list(dict.fromkeys((a, b) for a, b in folded if a != b)), alias


def _fronted(front: str, services: Sequence[str]) -> set[str]:
    """Services whose name alone holds some word of the load balancer's first label."""
    words = [w for w in re.split(r"[^a-z0-9]+", front.split(".")[0].lower()) if len(w) >= _MIN_WORD]
    plain = {s: re.sub(r"[^a-z0-9]", "", s.lower()) for s in services}
    holders = ([s for s in services if word in plain[s]] for word in words)
    return {held[0] for held in holders if len(held) == 1}
