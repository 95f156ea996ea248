"""Who calls whom, from spans: a client span and the server span of another service below it make an edge."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiops.core.principal import Principal
from aiops.core.signals import EdgeStats, ServiceGraph
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.schema import DAY_MS, Partitions
from aiops.store.telemetry.signals import in_scope, load_labels

SPAN_CAP = 2_000_000


def service_graph(
    database: TelemetryDatabase, partitions: Partitions, start_ms: int, end_ms: int, principal: Principal
) -> ServiceGraph:
    """Edges of spans that start in ``[start_ms, end_ms)``.

    Durations are the caller's (client span) where there is one, else the callee's; the wire time is
    client minus server. A span counts as an error when its own status is error.
    """
    days = partitions.between("spans", start_ms // DAY_MS, max(end_ms - 1, 0) // DAY_MS)
    if not days:
        return ServiceGraph()
    window = f"start_ns >= {int(start_ms) * 1_000_000} AND start_ns < {int(end_ms) * 1_000_000}"
    union = " UNION ALL ".join(
        f"SELECT trace_id, span_id, parent_span_id, kind, start_ns, end_ns, status, service, resource "  # noqa: S608
        f"FROM {name} WHERE {window}"
        for name in days
    )
    with database.read() as con:
        visible = ""
        if principal.scope:
            check = in_scope(principal)
            resources = con.execute(f"SELECT DISTINCT resource FROM ({union})").fetchall()  # noqa: S608
            con.register(
                "visible", {"r": np.array([r for (r,) in resources if check(load_labels(r), ())] or [""], object)}
            )
            visible = "WHERE resource IN (SELECT r FROM visible)"
        got = con.execute(
            f"""
            WITH s AS (SELECT * FROM ({union} LIMIT {SPAN_CAP}) {visible})
            SELECT p.service AS caller, c.service AS callee,
                   CASE WHEN p.kind = 'client' THEN p.end_ns - p.start_ns ELSE c.end_ns - c.start_ns END AS took,
                   CASE WHEN p.kind = 'client' THEN (p.end_ns - p.start_ns) - (c.end_ns - c.start_ns)
                        ELSE NULL END AS wire,
                   (c.status = 'error' OR p.status = 'error' AND p.kind = 'client') AS failed
            FROM s c JOIN s p ON c.trace_id = p.trace_id AND c.parent_span_id = p.span_id
            WHERE c.service <> p.service AND c.service <> '' AND p.service <> ''
            """  # noqa: S608
        ).fetchall()
        services = con.execute(
            f"SELECT DISTINCT service FROM ({union}) {visible} {'AND' if visible else 'WHERE'} service <> '' ORDER BY 1"  # noqa: S608
        ).fetchall()
    calls: dict[tuple[str, str], list[tuple[Any, ...]]] = {}
    for caller, callee, took, wire, failed in got:
        calls.setdefault((caller, callee), []).append((took, wire, failed))
    stats = tuple(_stats(caller, callee, rows) for (caller, callee), rows in sorted(calls.items()))
    return ServiceGraph(tuple(s for (s,) in services), tuple(sorted(calls)), stats)


def _stats(caller: str, callee: str, rows: list[tuple[Any, ...]]) -> EdgeStats:
    took = np.array([r[0] for r in rows], np.float64) / 1e6
    wire: NDArray[np.float64] = np.array([r[1] for r in rows if r[1] is not None], np.float64) / 1e6
    return EdgeStats(
        caller,
        callee,
        len(rows),
        sum(bool(r[2]) for r in rows),
        float(np.percentile(took, 50)),
        float(np.percentile(took, 95)),
        float(np.percentile(wire, 50)) if len(wire) else float("nan"),
    )
