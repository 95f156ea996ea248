"""The Prometheus-compatible query API: same paths, parameters, limits and error JSON, so that Grafana,
``promtool`` and ``prometheus-api-client`` work unchanged."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, Request, Response
from starlette.concurrency import run_in_threadpool

from aiops.access.permissions import Permission
from aiops.api.auth import allow
from aiops.api.prometheus_parameters import Answer, Parameters, unescape_name
from aiops.api.services import Services
from aiops.core.errors import InvalidInput, QueryError
from aiops.core.ports import MetricQuerier
from aiops.core.principal import Principal
from aiops.core.series import Exemplar, Labels, QueryResult, ResultType
from aiops.promql.functions import valid_label
from aiops.promql.limits import Limitable
from aiops.promql.parse import parse
from aiops.promql.plan import Plan, Selector, walk
from aiops.promql.syntax_tree import tree
from aiops.promql.wire import result_data, seconds, value_text

LIMIT_WARNING = "results truncated due to limit"

Caller = Annotated[Principal, Depends(allow(Permission.READ))]
Work = Callable[["Parameters", Principal], "Answer"]


def router(services: Services) -> APIRouter:
    routes = APIRouter(tags=["prometheus"])

    def add(path: str, work: Work, summary: str, *, post: bool = True) -> None:
        routes.add_api_route(
            f"/api/v1/{path}",
            endpoint_of(services, work),
            methods=["GET", "POST"] if post else ["GET"],
            summary=summary,
            operation_id=f"prometheus_{re.sub(r'[^a-z]+', '_', path)}".rstrip("_"),
            response_class=Response,
        )

    def query(p: Parameters, caller: Principal) -> Answer:
        time_ms, engine = p.time("time", p.now_ms), _limited(services.engine, p)
        return _answer(p, time_ms, lambda text: engine.instant(text, time_ms, caller))

    def query_range(p: Parameters, caller: Principal) -> Answer:
        start, end = p.time("start"), p.time("end")
        if end < start:
            raise InvalidInput('invalid parameter "end": end timestamp must not be before start time')
        step = p.duration("step")
        if step <= 0:
            raise InvalidInput(
                'invalid parameter "step": zero or negative query resolution step widths are not accepted. '
                "Try a positive integer"
            )
        points = services.settings.promql.max_points
        if (end - start) // step > points:
            raise InvalidInput(
                f"exceeded maximum resolution of {points:,} points per timeseries. "
                "Try decreasing the query resolution (?step=XX)"
            )
        engine = _limited(services.engine, p)
        return _answer(p, end, lambda text: engine.range(text, start, end, step, caller))

    def series(p: Parameters, caller: Principal) -> Answer:
        selectors = p.selectors()
        if not selectors:
            raise InvalidInput("no match[] parameter provided")
        start, end = p.window()
        limit = p.limit()
        found = services.engine.series(selectors, start, end, caller, limit + 1 if limit else 0)
        return _cut([dict(labels) for labels in found], limit)

    def labels(p: Parameters, caller: Principal) -> Answer:
        start, end = p.window()
        return _cut(services.engine.label_names(p.selectors(), start, end, caller), p.limit())

    def metadata(p: Parameters, caller: Principal) -> Answer:
        wanted, limit = p.text("metric"), p.limit()
        p.limit("limit_per_metric")  # a metric has one entry
        known = [m for m in services.engine.metadata(caller) if not wanted or m.name == wanted]
        rows = {m.name: [{"type": m.type, "help": m.help, "unit": m.unit}] for m in known[: limit or None]}
        return Answer(rows)

    def format_query(p: Parameters, caller: Principal) -> Answer:  # noqa: ARG001
        return Answer(str(_parsed(p)))

    def parse_query(p: Parameters, caller: Principal) -> Answer:  # noqa: ARG001
        return Answer(tree(_parsed(p)))

    def exemplars(p: Parameters, caller: Principal) -> Answer:
        selectors = [node.matchers for node in walk(_parsed(p)) if isinstance(node, Selector)]
        start, end = p.window()
        found: dict[Labels, dict[Exemplar, None]] = {}
        for matchers in selectors:
            for one in services.store.exemplars(matchers, start, end, caller):
                found.setdefault(one.series, {})[one] = None
        return Answer([_series_exemplars(labels, own) for labels, own in sorted(found.items())])

    add("query", query, "PromQL at one time")
    add("query_range", query_range, "PromQL over a range of time")
    add("series", series, "Series that match")
    add("labels", labels, "Label names")
    add("format_query", format_query, "A PromQL query in canonical form")
    add("parse_query", parse_query, "The syntax tree of a PromQL query")
    add("query_exemplars", exemplars, "Exemplars of the series that a query selects")
    add("metadata", metadata, "Type, unit and help of metrics", post=False)

    @routes.get("/api/v1/label/{name}/values", response_class=Response, operation_id="prometheus_label_values")
    async def label_values(request: Request, name: str, caller: Caller) -> Response:
        """Values of a label."""
        label = unescape_name(name)
        if not valid_label(label):
            raise InvalidInput(f"invalid label name: {json.dumps(name)}")
        p = Parameters(list(request.query_params.multi_items()), services.clock())

        def work() -> Response:
            start, end = p.window()
            return _cut(services.engine.label_values(label, p.selectors(), start, end, caller), p.limit()).response()

        return await run_in_threadpool(work)

    return routes


def endpoint_of(services: Services, work: Work) -> Callable[..., Awaitable[Response]]:
    """A route that reads parameters and answers with what ``work`` gives, in a thread."""

    async def endpoint(request: Request, caller: Caller) -> Response:
        pairs = list(request.query_params.multi_items())
        if request.method == "POST":
            body = await request.body()
            try:
                pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=1000) + pairs
            except ValueError:
                raise InvalidInput("The body is not a URL-encoded form in UTF-8.") from None
        parameters = Parameters(pairs, services.clock())
        return await run_in_threadpool(lambda: work(parameters, caller).response())

    return endpoint


def _limited(engine: MetricQuerier, p: Parameters) -> MetricQuerier:
    """The engine under the request's own ``lookback_delta`` and ``timeout``; ``nocache=1`` is VictoriaMetrics'."""
    lookback, timeout = p.span("lookback_delta"), p.span("timeout")
    afresh = p.text("nocache") in ("1", "true")
    if not isinstance(engine, Limitable):
        if lookback or timeout:
            raise InvalidInput("lookback_delta and timeout cannot be set for this source.")
        return engine
    return engine.limited(lookback_ms=lookback, timeout_s=timeout / 1000, afresh=afresh, histograms=True)


def _parsed(p: Parameters) -> Plan:
    try:
        return parse(p.text("query"))
    except QueryError as error:
        raise _named(error) from error


def _named(error: QueryError) -> QueryError:
    """What is wrong with a query is, as Prometheus words it, wrong with a parameter."""
    if error.kind != "bad_data":
        return error
    return QueryError(f'invalid parameter "query": {error.message}', kind=error.kind, hint=error.hint)


def _answer(p: Parameters, time_ms: int, ask: Callable[[str], QueryResult]) -> Answer:
    """A query's result, cut at ``limit``, with ``stats`` where they are asked for."""
    limit = p.limit()
    began = time.perf_counter()
    try:
        result = ask(p.text("query"))
    except QueryError as error:
        raise _named(error) from error
    took = time.perf_counter() - began
    data, warnings = result_data(result, time_ms), result.warnings
    if limit and result.type in (ResultType.VECTOR, ResultType.MATRIX) and len(data["result"]) > limit:
        data["result"] = data["result"][:limit]
        warnings = (*warnings, LIMIT_WARNING)
    if p.text("stats"):
        timings = dict.fromkeys(("evalTotalTime", "execTotalTime"), took)
        timings |= dict.fromkeys(("resultSortTime", "queryPreparationTime", "innerEvalTime", "execQueueTime"), 0.0)
        # What is read is counted, not what is held at any one time.
        samples = {"totalQueryableSamples": result.samples_read, "peakSamples": result.samples_read}
        data["stats"] = {"timings": timings, "samples": samples}
    return Answer(data, warnings, result.infos)


def _series_exemplars(labels: Labels, found: Iterable[Exemplar]) -> dict[str, Any]:
    rows = [
        {"labels": dict(e.labels), "value": value_text(e.value), "timestamp": seconds(e.ts)}
        for e in sorted(found, key=lambda e: e.ts)
    ]
    return {"seriesLabels": dict(labels), "exemplars": rows}


def _cut(rows: list[Any], limit: int) -> Answer:
    if limit and len(rows) > limit:
        return Answer(rows[:limit], (LIMIT_WARNING,))
    return Answer(rows)
