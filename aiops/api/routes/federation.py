"""``/federate``: the newest sample of the series that are asked for, as a scraping Prometheus reads it.

https://prometheus.io/docs/prometheus/latest/federation/: samples keep their own times; a series whose newest sample is
a staleness marker, or older than the lookback, is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Depends, Request, Response
from starlette.concurrency import run_in_threadpool

from aiops.access.permissions import Permission
from aiops.api.auth import allow
from aiops.api.prometheus_parameters import Parameters
from aiops.api.services import Services
from aiops.core.errors import QueryError
from aiops.core.principal import Principal
from aiops.core.series import METRIC_NAME, Labels, is_stale
from aiops.promql.plan import number_text

TEXT_FORMAT = "text/plain; version=0.0.4; charset=utf-8"
UTF8_FORMAT = "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8"
_METRIC, _LABEL = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z"), re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")
_NOT_METRIC, _NOT_LABEL = re.compile(r"[^a-zA-Z0-9_:]"), re.compile(r"[^a-zA-Z0-9_]")
Row = tuple[Labels, float, int]
"""Labels, value, time in ms."""


def router(services: Services) -> APIRouter:
    routes = APIRouter(tags=["prometheus"])

    @routes.get("/federate", response_class=Response, operation_id="prometheus_federate")
    async def federate(request: Request, caller: Annotated[Principal, Depends(allow(Permission.READ))]) -> Response:
        """The newest sample of each series that a ``match[]`` selects."""
        p = Parameters(list(request.query_params.multi_items()), services.clock())
        as_it_is = "escaping=allow-utf-8" in request.headers.get("accept", "").replace(" ", "").lower()

        def work() -> Response:
            text = exposition(newest(services, p, caller), services.settings.rules.external_labels, utf8=as_it_is)
            return Response(text.encode("utf-8", "replace"), media_type=UTF8_FORMAT if as_it_is else TEXT_FORMAT)

        return await run_in_threadpool(work)

    return routes


def newest(services: Services, p: Parameters, caller: Principal) -> list[Row]:
    """What is selected, each series once. Raises ``QueryError`` for more samples than a query may read."""
    chosen = services.settings.promql
    start_ms = p.now_ms - round(chosen.lookback_s * 1000) + 1
    found: dict[Labels, Row] = {}
    for matchers in p.selectors():
        opened = services.store.open_scan(matchers, start_ms, p.now_ms, caller, chosen.max_samples)
        if opened.sample_count > chosen.max_samples:
            raise QueryError("match[] selects more samples than promql.max_samples", kind="execution")
        block = services.store.scan(matchers, start_ms, p.now_ms, caller)
        filled = np.flatnonzero(np.diff(block.offsets))
        last = block.offsets[1:][filled] - 1
        values, ts = block.values[last], block.ts[last]
        for i, value, at, stale in zip(
            filled.tolist(), values.tolist(), ts.tolist(), is_stale(values).tolist(), strict=True
        ):
            if not stale:
                found[block.labels[i]] = (block.labels[i], value, at)
    return list(found.values())


def exposition(rows: Iterable[Row], external: Mapping[str, str], *, utf8: bool) -> str:
    """Samples in the text format, untyped, by name.

    A series without ``instance`` gets an empty one, so that it does not get the scraper's; external labels are added
    where it has none of the name.

    Args:
        utf8: names that the classic format cannot write are quoted; else their characters become underscores.
    """
    lines: list[str] = []
    last = ""
    ordered = sorted((dict(labels).get(METRIC_NAME, ""), labels, value, at) for labels, value, at in rows)
    for name, labels, value, at in ordered:
        own = {"instance": "", **external, **dict(labels)}
        own.pop(METRIC_NAME, None)
        metric = name if utf8 or _METRIC.match(name) else _escaped(name, _NOT_METRIC)
        plain = _METRIC.match(metric) is not None
        shown = metric if plain else quoted(metric)
        if metric != last:
            lines.append(f"# TYPE {shown} untyped")
            last = metric
        pairs = [] if plain else [shown]
        for key, held in sorted(own.items()):
            label = key if _LABEL.match(key) else quoted(key) if utf8 else _escaped(key, _NOT_LABEL)
            pairs.append(f"{label}={quoted(held)}")
        lines.append(f"{metric if plain else ''}{{{','.join(pairs)}}} {number_text(value)} {at}")
    return "\n".join([*lines, ""])


def _escaped(name: str, wrong: re.Pattern[str]) -> str:
    """By underscores, as Prometheus' ``UnderscoreEscaping``."""
    text = wrong.sub("_", name)
    return f"_{text}" if text[:1].isdigit() else text


def quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
