"""What a Prometheus tells of itself: rules, alerts, ``status/*``, readiness."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response

from aiops import __version__
from aiops.access.permissions import Permission
from aiops.api.auth import Administrator, allow
from aiops.api.prometheus_parameters import Answer, Parameters
from aiops.api.routes.prometheus import Work, endpoint_of
from aiops.api.rule_views import alerts_data, groups_data, page_of
from aiops.api.services import ComponentState, Services, running
from aiops.core.errors import InvalidInput
from aiops.core.principal import Principal
from aiops.core.series import METRIC_NAME, Labels
from aiops.promql.plan import duration_text

Caller = Annotated[Principal, Depends(allow(Permission.READ))]
HEAD_MS = 7_200_000
"""``status/tsdb`` counts the series of the last two hours, what a Prometheus has in its head block."""


def router(services: Services) -> APIRouter:
    routes = APIRouter(tags=["prometheus"])
    started_ms = services.clock()

    def add(path: str, work: Work, summary: str) -> None:
        routes.add_api_route(
            f"/api/v1/{path}",
            endpoint_of(services, work),
            methods=["GET"],
            summary=summary,
            operation_id=f"prometheus_{re.sub(r'[^a-z]+', '_', path)}".rstrip("_"),
            response_class=Response,
        )

    def rules(p: Parameters, caller: Principal) -> Answer:
        kind = p.text("type").lower()
        if kind not in ("", "alert", "record"):
            raise InvalidInput(f'invalid parameter "type": not supported value {json.dumps(kind[:100])}')
        found = groups_data(
            services.rules.status() if services.rules else (),
            caller,
            kind=kind,
            rules=p.all("rule_name[]"),
            names=p.all("rule_group[]"),
            files=p.all("file[]"),
            matching=p.selectors(),
            alerts=p.text("exclude_alerts").lower() not in ("1", "t", "true"),
        )
        return Answer(page_of(found, p.text("group_limit"), p.text("group_next_token")))

    def alerts(p: Parameters, caller: Principal) -> Answer:  # noqa: ARG001
        return Answer(alerts_data(services.rules.status() if services.rules else (), caller))

    def buildinfo(p: Parameters, caller: Principal) -> Answer:  # noqa: ARG001
        about = {"version": f"3.0.0+aiops.{__version__}", "revision": "", "branch": "", "buildUser": "",
                 "buildDate": "", "goVersion": ""}  # fmt: skip
        return Answer(about)

    def runtimeinfo(p: Parameters, caller: Principal) -> Answer:  # noqa: ARG001
        retention = f"{services.settings.store.retention_days}d"
        return Answer(
            {"startTime": _moment(started_ms), "serverTime": _moment(p.now_ms), "storageRetention": retention}
        )

    def flags(p: Parameters, caller: Principal) -> Answer:  # noqa: ARG001
        chosen = services.settings.promql
        feature = "promql-experimental-functions" if chosen.experimental_functions else ""
        return Answer(
            {
                "enable-feature": feature,
                "query.lookback-delta": duration_text(round(chosen.lookback_s * 1000)),
                "query.max-samples": str(chosen.max_samples),
                "query.timeout": duration_text(round(chosen.timeout_s * 1000)),
                "storage.tsdb.retention.time": f"{services.settings.store.retention_days}d",
            }
        )

    def tsdb(p: Parameters, caller: Principal) -> Answer:
        found = services.engine.series((), p.now_ms - HEAD_MS, p.now_ms, caller)
        return Answer(cardinality(found, p.now_ms, p.limit() or 10))

    def walreplay(p: Parameters, caller: Principal) -> Answer:  # noqa: ARG001
        return Answer({"min": 0, "max": 0, "current": 0, "state": "done"})

    def nothing_of(*names: str) -> Work:
        return lambda p, caller: Answer({name: [] for name in names})  # noqa: ARG005

    add("rules", rules, "Rules, how they went, and their alerts")
    add("alerts", alerts, "Alerts of rules that are pending or fire")
    add("alertmanagers", nothing_of("activeAlertmanagers", "droppedAlertmanagers"), "None: alerts go to incidents")
    add("status/buildinfo", buildinfo, "Which Prometheus this answers like")
    add("status/runtimeinfo", runtimeinfo, "Since when it runs, and how long samples are kept")
    add("status/flags", flags, "Limits of queries, by the names of Prometheus' flags")
    add("status/tsdb", tsdb, "Series by metric and label: what has most")
    add("status/walreplay", walreplay, "Done: the store is open before the service answers")

    @routes.post("/-/reload", response_class=Response, operation_id="prometheus_reload")
    def reload(caller: Administrator) -> Response:
        """Read the rule files again; the configuration itself is read at the start only."""
        count = running(services.rules, "rule engine").reload()
        services.audit.append(caller.name, "rules.reload", "rules", {"rules": str(count)})
        return Response(f"{count} rules are in force.\n", media_type="text/plain")

    @routes.get("/-/healthy", response_class=Response, operation_id="prometheus_healthy")
    async def healthy() -> Response:
        """The process answers."""
        return Response("aiops is Healthy.\n", media_type="text/plain")

    @routes.get("/-/ready", response_class=Response, operation_id="prometheus_ready")
    def ready() -> Response:
        """200 when every required component is ready."""
        serving = (ComponentState.READY, ComponentState.DEGRADED)
        if all(c.state in serving for c in services.components() if c.required):
            return Response("aiops is Ready.\n", media_type="text/plain")
        return Response("aiops is not ready.\n", 503, media_type="text/plain")

    return routes


def cardinality(series: Iterable[Labels], now_ms: int, most: int) -> dict[str, Any]:
    """``status/tsdb``: the metrics and labels that have most series, values and bytes."""
    metrics: Counter[str] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    count = 0
    for labels in series:
        count += 1
        pairs.update(labels)
        metrics[dict(labels).get(METRIC_NAME, "")] += 1
    values: Counter[str] = Counter(name for name, _ in pairs)
    memory: Counter[str] = Counter()
    for name, value in pairs:
        memory[name] += len(value.encode("utf-8", "surrogateescape"))

    def rows(counts: Counter[str]) -> list[dict[str, Any]]:
        return [{"name": name, "value": n} for name, n in sorted(counts.items(), key=lambda x: (-x[1], x[0]))[:most]]

    return {
        "headStats": {
            "numSeries": count,
            "numLabelPairs": len(pairs),
            "chunkCount": count,
            "minTime": now_ms - HEAD_MS,
            "maxTime": now_ms,
        },
        "seriesCountByMetricName": rows(metrics),
        "labelValueCountByLabelName": rows(values),
        "memoryInBytesByLabelName": rows(memory),
        "seriesCountByLabelValuePair": rows(Counter({f"{name}={value}": n for (name, value), n in pairs.items()})),
    }


def _moment(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"
