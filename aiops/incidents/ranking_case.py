"""A fault as the ranking sees it: rows of metrics, spans, logs and changes, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from aiops.incidents.metric_kinds import Direction, MetricKind

Array = NDArray[np.float64]

UNREACHABLE = 0.3


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One series of a service on the common time grid; NaN where nothing was observed.

    ``kind`` and ``direction`` override what the name suggests; ``query`` is where it comes from.
    """

    service: str
    name: str
    values: Array
    kind: MetricKind | None = None
    direction: Direction | None = None
    unit: str = ""
    query: str = ""


@dataclass(frozen=True, slots=True)
class SpanRow:
    """One operation of a service as called by ``caller``, one value a span interval (NaN: none seen).

    Times in ms: ``own`` without the children, ``wire`` the client span minus this one. ``count`` is per interval.
    """

    service: str
    operation: str
    caller: str
    own: Array
    wire: Array
    count: Array


@dataclass(frozen=True, slots=True)
class LogRow:
    """Lines of one template: count per minute before and since the onset."""

    service: str
    template: str
    before: float
    after: float
    is_error: bool = False
    steady: bool = False
    """It was there in nearly every interval before."""
    count: int = 0


@dataclass(frozen=True, slots=True)
class ChangeRow:
    service: str
    text: str
    time_ms: int


@dataclass(frozen=True, slots=True)
class Case:
    """What is known of a fault.

    Attributes:
        timestamps: int64 [T], of the metric rows (any unit, ascending).
        onset: index of the first row of the fault, as told; an earlier deviation moves it back a little.
        edges: (caller, callee).
        symptom: the service seen broken and the metric seen there; either may be empty or outside the graph.
    """

    timestamps: NDArray[np.int64]
    onset: int
    metrics: Sequence[MetricRow]
    edges: Sequence[tuple[str, str]] = ()
    symptom: tuple[str, str] = ("", "")
    symptom_kind: MetricKind | None = None
    spans: Sequence[SpanRow] = ()
    span_times: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Start of each span interval, in the unit of ``timestamps``."""
    logs: Sequence[LogRow] = ()
    changes: Sequence[ChangeRow] = ()
    onset_ms: int | None = None
    """For changes; by default the timestamp of the onset row."""
    felt: bool = False
    """The symptom is known to be real, whatever its metric shows."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """A service with its score, its share of all, and what speaks for it, strongest first."""

    service: str
    score: float
    share: float
    metrics: tuple[int, ...] = ()
    """Rows of ``case.metrics`` that deviate there, strongest first."""
    span: str = ""
    log: LogRow | None = None
    change: ChangeRow | None = None
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ranking:
    """``strength`` is the best score over what calm windows reach; ``clear`` that the first share is large enough."""

    ranked: tuple[Ranked, ...]
    strength: float
    onset: int
    clear: bool
    symptom_strength: float = 0.0
    """The symptom's own deviation over what its calm windows reach."""


@dataclass(frozen=True, slots=True)
class Frame:
    case: Case
    services: list[str]
    index: dict[str, int]
    alias: Mapping[str, str]
    edges: Sequence[tuple[str, str]]

    def at(self, service: str) -> int | None:
        return self.index.get(self.alias.get(service, service))

    def pairs(self) -> list[tuple[int, int]]:
        """(caller, callee) as indices, both known."""
        known = ((self.index.get(a), self.index.get(b)) for a, b in self.edges)
        return [(a, b) for a, b in known if a is not None and b is not None and a != b]


def reachability(frame: Frame) -> Array:
    """1 for services that the symptom's calls can reach, less for the others; 1 for all where unknown."""
    start = frame.at(frame.case.symptom[0])
    factor = np.ones(len(frame.services))
    if start is None or not any(start in p for p in frame.pairs()):
        return factor
    reached, todo = {start}, [start]
    callees: dict[int, list[int]] = {}
    for caller, callee in frame.pairs():
        callees.setdefault(caller, []).append(callee)
    while todo:
        for callee in callees.get(todo.pop(), []):
            if callee not in reached:
                reached.add(callee)
                todo.append(callee)
    return np.where([i in reached for i in range(len(factor))], 1.0, UNREACHABLE)
