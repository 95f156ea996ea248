"""Who calls whom, from spans: a client span and the server span of another service below it make an edge."""

from __future__ import annotations

import numpy as np

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
            WITH s AS (SELECT * FROM ({union} LIMIT {SPAN_CAP}) {visible}),
            calls AS (
                SELECT p.service AS caller, c.service AS callee, c.start_ns AS began,
                       CASE WHEN p.kind = 'client' THEN p.end_ns - p.start_ns ELSE c.end_ns - c.start_ns END AS took,
                       CASE WHEN p.kind = 'client' THEN (p.end_ns - p.start_ns) - (c.end_ns - c.start_ns)
                            ELSE NULL END AS wire,
                       (c.status = 'error' OR p.status = 'error' AND p.kind = 'client') AS failed
                FROM s c JOIN s p ON c.trace_id = p.trace_id AND c.parent_span_id = p.span_id
                WHERE c.service <> p.service AND c.service <> '' AND p.service <> '')
            SELECT caller, callee, count(*), count(*) FILTER (WHERE failed), quantile_cont(took, 0.5) / 1e6,
                   quantile_cont(took, 0.95) / 1e6, quantile_cont(wire, 0.5) / 1e6, min(began), max(began)
            FROM calls GROUP BY ALL ORDER BY caller, callee
            """  # noqa: S608
        ).fetchall()
        services = con.execute(
            f"SELECT DISTINCT service FROM ({union}) {visible} {'AND' if visible else 'WHERE'} service <> '' ORDER BY 1"  # noqa: S608
        ).fetchall()
    stats = tuple(
        EdgeStats(
            caller,
            callee,
            count,
            errors,
            p50,
            p95,
            float("nan") if wire is None else wire,
            first // 1_000_000,
            last // 1_000_000,
        )
        for caller, callee, count, errors, p50, p95, wire, first, last in got
    )
    return ServiceGraph(tuple(s for (s,) in services), tuple((e.caller, e.callee) for e in stats), stats)
