"""Calls between services, from pairs of client and server spans.

Names and labels as the OpenTelemetry Collector's service-graph connector writes them; beside its labels
``service_name`` is the callee, whom the call tells of. ``request_wire_seconds`` is ours: client minus server duration,
so that clocks which differ do not matter. How far they differ is ``clock_skew_seconds``. A call to something that
sends no spans is an edge by what the client says of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aiops.core.series import Labels, MetricMetadata, labels_of
from aiops.core.signals import Span, label
from aiops.ingest.event_series import EventSeries
from aiops.ingest.sampling import adjusted_count
from aiops.ingest.signal_labels import OTHER, base_labels
from aiops.ingest.span_metrics import BOUNDS_MS, NAME_CAP

PREFIX = "traces_service_graph_request"
BOUNDS_S = tuple(bound / 1000.0 for bound in BOUNDS_MS)
WAIT_MS = 60_000
"""How long a span waits for its other half."""
WAITING = 50_000
EDGES = 2000
"""Pairs of services; those of further ones are ``other``."""
_CLIENTS, _SERVERS = frozenset({"client", "producer"}), frozenset({"server", "consumer"})
_HELP = {
    "total": ("counter", "", "Calls between two services."),
    "failed_total": ("counter", "", "Calls between two services that failed on either side."),
    "client_seconds": ("histogram", "seconds", "Durations of calls as the caller saw them."),
    "server_seconds": ("histogram", "seconds", "Durations of calls as the callee saw them."),
    "wire_seconds": ("histogram", "seconds", "What the caller waited beyond the callee's own time."),
}
METADATA = tuple(MetricMetadata(f"{PREFIX}_{name}", *about) for name, about in _HELP.items())


@dataclass(frozen=True, slots=True)
class _Half:
    """What is kept of a span that waits."""

    service: str
    start_ns: int
    end_ns: int
    failed: bool
    count: float
    base: Labels
    peer: str
    peer_type: str
    messaging: bool
    since_ms: int

    @property
    def seconds(self) -> float:
        return (self.end_ns - self.start_ns) / 1e9


class ServiceEdges:
    """Pairs spans and adds the calls to series. Not thread-safe.

    Attributes:
        skew: by (caller, callee), how far the callee's clock is ahead of the caller's at least, in s; latest call.
    """

    def __init__(self, series: EventSeries) -> None:
        self._series = series
        self._clients: dict[tuple[str, str], tuple[_Half, bool]] = {}
        self._servers: dict[tuple[str, str], list[_Half]] = {}
        self._edges: set[tuple[str, str]] = set()
        self.skew: dict[tuple[str, str], float] = {}

    def add(self, spans: Sequence[Span], now_ms: int) -> None:
        for span in spans:
            if not span.service:
                continue
            if span.kind in _CLIENTS:
                self._client(span, now_ms)
            elif span.kind in _SERVERS and span.parent_span_id:
                self._server(span, now_ms)

    def _client(self, span: Span, now_ms: int) -> None:
        key, half = (span.trace_id, span.span_id), _half(span, now_ms)
        waiting = self._servers.pop(key, [])
        for server in waiting:
            self._call(half, server, now_ms)
        if len(self._clients) < WAITING:
            self._clients[key] = half, bool(waiting)

    def _server(self, span: Span, now_ms: int) -> None:
        key, half = (span.trace_id, span.parent_span_id), _half(span, now_ms)
        if (found := self._clients.get(key)) is not None:
            self._clients[key] = found[0], True
            self._call(found[0], half, now_ms)
        elif len(self._servers) < WAITING:
            self._servers.setdefault(key, []).append(half)

    def _call(self, client: _Half, server: _Half, now_ms: int) -> None:
        if client.service == server.service:
            return
        pair = client.service, server.service
        apart = 0 if client.messaging else _skew_ns(client, server)
        if len(self.skew) < EDGES or pair in self.skew:
            self.skew[pair] = apart / 1e9
        kind = "messaging_system" if client.messaging else ""
        labels = self._labels(*pair, kind, client)
        at, count = min(client.end_ns // 1_000_000, now_ms), client.count or 1.0
        self._total(client.service, labels, at, count, client.failed or server.failed)
        self._series.observe(client.service, f"{PREFIX}_client_seconds", labels, at, client.seconds, BOUNDS_S, count)
        self._series.observe(client.service, f"{PREFIX}_server_seconds", labels, at, server.seconds, BOUNDS_S, count)
        if not client.messaging:
            wire = max(client.seconds - server.seconds, 0.0)
            self._series.observe(client.service, f"{PREFIX}_wire_seconds", labels, at, wire, BOUNDS_S, count)

    def _total(self, caller: str, labels: Labels, at: int, count: float, failed: bool) -> None:
        self._series.count(caller, f"{PREFIX}_total", labels, at, count)
        self._series.count(caller, f"{PREFIX}_failed_total", labels, at, count if failed else 0.0)

    def expire(self, now_ms: int) -> None:
        """Give up on halves that waited for long; a client's becomes an edge to the peer that it names."""
        for key in _old([(k, half) for k, (half, _) in self._clients.items()], now_ms):
            half, paired = self._clients.pop(key)
            if not paired and half.peer:
                at, count = min(half.end_ns // 1_000_000, now_ms), half.count or 1.0
                labels = self._labels(half.service, half.peer, half.peer_type, half)
                self._total(half.service, labels, at, count, half.failed)
                self._series.observe(
                    half.service, f"{PREFIX}_client_seconds", labels, at, half.seconds, BOUNDS_S, count
                )
        for key in _old([(k, halves[0]) for k, halves in self._servers.items()], now_ms):
            del self._servers[key]

    def _labels(self, client: str, server: str, connection_type: str, half: _Half) -> Labels:
        if (client, server) not in self._edges:
            if len(self._edges) >= EDGES:
                client = server = OTHER
            else:
                self._edges.add((client, server))
        kept = [pair for pair in half.base if pair[0] not in ("service_name", "job")]
        return labels_of(
            [
                *kept,
                ("client", client),
                ("server", server),
                ("service_name", server),
                ("connection_type", connection_type),
                ("sampled", "" if half.count else "true"),
            ]
        )


def _half(span: Span, now_ms: int) -> _Half:
    peer, peer_type = _peer(span) if span.kind in _CLIENTS else ("", "")
    return _Half(
        span.service,
        span.start_unix_nano,
        span.end_unix_nano,
        span.status == "error",
        adjusted_count(span),
        base_labels(span.resource),
        peer,
        peer_type,
        span.kind in ("producer", "consumer"),
        now_ms,
    )


def _peer(span: Span) -> tuple[str, str]:
    said = {name: label(span.attributes, name)[:NAME_CAP] for name, _ in span.attributes}
    if system := said.get("db.system.name") or said.get("db.system"):
        return said.get("db.namespace") or said.get("db.name") or system, "database"
    if system := said.get("messaging.system"):
        return said.get("messaging.destination.name") or system, "messaging_system"
    return said.get("peer.service", ""), "virtual_node"


def _skew_ns(client: _Half, server: _Half) -> int:
    """How much the server's clock must be moved so that its span lies within the client's, if it can."""
    before, after = client.start_ns - server.start_ns, server.end_ns - client.end_ns
    if before <= 0 and after <= 0:
        return 0
    return (server.start_ns + server.end_ns) // 2 - (client.start_ns + client.end_ns) // 2


def _old(halves: Sequence[tuple[tuple[str, str], _Half]], now_ms: int) -> list[tuple[str, str]]:
    found = []
    for key, half in halves:
        if now_ms - half.since_ms < WAIT_MS:
            break  # they are in the order of their arrival
        found.append(key)
    return found
