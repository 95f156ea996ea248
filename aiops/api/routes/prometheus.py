"""The Prometheus-compatible query API: same paths, parameters, limits and error JSON, so that Grafana,
``promtool`` and ``prometheus-api-client`` work unchanged."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, Request, Response
from starlette.concurrency import run_in_threadpool

from aiops import __version__
from aiops.access.permissions import Permission
from aiops.api.auth import allow
from aiops.api.rule_views import alerts_data, groups_data
from aiops.api.services import ComponentState, Services
from aiops.core.errors import InvalidInput, QueryError
from aiops.core.principal import Principal
from aiops.core.series import Matcher, QueryResult, ResultType
from aiops.promql.functions import valid_label
from aiops.promql.lexer import duration_ms
from aiops.promql.parse import parse, parse_selector
from aiops.promql.wire import result_data

FUTURE_MS = 3_600_000
LIMIT_WARNING = "results truncated due to limit"
MAX_SECONDS = 9_000_000_000_000.0
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)\Z")
_UTF8_NAME = re.compile(r"__|_([0-9a-f]{1,6})_")

Caller = Annotated[Principal, Depends(allow(Permission.READ))]
Work = Callable[["Parameters", Principal], "Answer"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes into Prometheus' success JSON."""

    data: Any
    warnings: tuple[str, ...] = ()
    infos: tuple[str, ...] = ()

    def response(self) -> Response:
        body: dict[str, Any] = {"status": "success", "data": self.data}
        if self.warnings:
            body["warnings"] = list(self.warnings)
        if self.infos:
            body["infos"] = list(self.infos)
        # ASCII JSON carries lone surrogates, which UTF-8 cannot.
        return Response(json.dumps(body, separators=(",", ":")).encode("ascii"), media_type="application/json")


class Parameters:
    """Parameters of the URL and of a form body, which come first."""

    def __init__(self, pairs: list[tuple[str, str]], now_ms: int) -> None:
        self.pairs = pairs
        self.now_ms = now_ms

    def text(self, name: str) -> str:
        return next((value for key, value in self.pairs if key == name), "")

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.pairs if key == name]

    def time(self, name: str, default: int | None = None) -> int:
        """A time in ms. Raises ``InvalidInput``."""
        text = self.text(name)
        if not text and default is not None:
            return default
        return self._parse(name, text, "timestamp", parse_time)

    def duration(self, name: str) -> int:
        return self._parse(name, self.text(name), "duration", parse_duration)

    def limit(self, name: str = "limit") -> int:
        text = self.text(name)
        if not text:
            return 0
        if not text.isascii() or not text.isdigit():
            raise InvalidInput(f'invalid parameter "{name}": limit must be non-negative')
        return int(text)

    def selectors(self) -> list[tuple[Matcher, ...]]:
        out = []
        for text in self.all("match[]"):
            try:
                out.append(parse_selector(text))
            except QueryError as error:
                raise InvalidInput(f'invalid parameter "match[]": {error.message}', hint=error.hint) from error
        return out

    def window(self) -> tuple[int, int]:
        start, end = self.time("start", 0), self.time("end", self.now_ms + FUTURE_MS)
        if end < start:
            raise InvalidInput('invalid parameter "end": end timestamp must not be before start time')
        return start, end

    @staticmethod
    def _parse(name: str, text: str, what: str, parser: Callable[[str], int]) -> int:
        try:
            return parser(text)
        except (ValueError, OverflowError):
            raise InvalidInput(
                f'invalid parameter "{name}": cannot parse {json.dumps(text[:100])} to a valid {what}'
            ) from None


def router(services: Services) -> APIRouter:
    routes = APIRouter(tags=["prometheus"])

    def add(path: str, work: Work, summary: str, *, post: bool = True) -> None:
        routes.add_api_route(
            f"/api/v1/{path}",
            _endpoint(services, work),
            methods=["GET", "POST"] if post else ["GET"],
            summary=summary,
            operation_id=f"prometheus_{re.sub(r'[^a-z]+', '_', path)}".rstrip("_"),
            response_class=Response,
        )

    def query(p: Parameters, caller: Principal) -> Answer:
        _no_lookback(p)
        time_ms = p.time("time", p.now_ms)
        result = services.engine.instant(p.text("query"), time_ms, caller)
        return _limited(result, p.limit(), time_ms)

    def query_range(p: Parameters, caller: Principal) -> Answer:
        _no_lookback(p)
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
        return _limited(services.engine.range(p.text("query"), start, end, step, caller), p.limit(), end)

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
        known = [m for m in services.engine.metadata(caller) if not wanted or m.name == wanted]
        rows = {m.name: [{"type": m.type, "help": m.help, "unit": m.unit}] for m in known[: limit or None]}
        return Answer(rows)

    def format_query(p: Parameters, caller: Principal) -> Answer:  # noqa: ARG001
        return Answer(str(parse(p.text("query"))))

    def exemplars(p: Parameters, caller: Principal) -> Answer:  # noqa: ARG001
        parse(p.text("query"))
        p.window()
        return Answer([])

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
            alerts=p.text("exclude_alerts").lower() not in ("1", "t", "true"),
        )
        return Answer(found)

    def alerts(p: Parameters, caller: Principal) -> Answer:  # noqa: ARG001
        return Answer(alerts_data(services.rules.status() if services.rules else (), caller))

    def buildinfo(p: Parameters, caller: Principal) -> Answer:  # noqa: ARG001
        about = {"version": f"3.0.0+aiops.{__version__}", "revision": "", "branch": "", "buildUser": "",
                 "buildDate": "", "goVersion": ""}  # fmt: skip
        return Answer(about)

    add("query", query, "PromQL at one time")
    add("query_range", query_range, "PromQL over a range of time")
    add("series", series, "Series that match")
    add("labels", labels, "Label names")
    add("format_query", format_query, "A PromQL query in canonical form")
    add("query_exemplars", exemplars, "Exemplars: none are stored")
    add("metadata", metadata, "Type, unit and help of metrics", post=False)
    add("rules", rules, "Rules, how they went, and their alerts", post=False)
    add("alerts", alerts, "Alerts of rules that are pending or fire", post=False)
    add("status/buildinfo", buildinfo, "Which Prometheus this answers like", post=False)

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


def _endpoint(services: Services, work: Work) -> Callable[..., Awaitable[Response]]:
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


def _no_lookback(p: Parameters) -> None:
    if p.text("lookback_delta"):
        raise InvalidInput('invalid parameter "lookback_delta": it is a setting here (promql.lookback_s)')


def _limited(result: QueryResult, limit: int, time_ms: int) -> Answer:
    data = result_data(result, time_ms)
    warnings = result.warnings
    if limit and result.type in (ResultType.VECTOR, ResultType.MATRIX) and len(data["result"]) > limit:
        data["result"] = data["result"][:limit]
        warnings = (*warnings, LIMIT_WARNING)
    return Answer(data, warnings, result.infos)


def _cut(rows: list[Any], limit: int) -> Answer:
    if limit and len(rows) > limit:
        return Answer(rows[:limit], (LIMIT_WARNING,))
    return Answer(rows)


def parse_time(text: str) -> int:
    """Unix seconds, or RFC 3339, in ms. Raises ``ValueError``."""
    try:
        seconds = float(text) if "_" not in text else float("nan")
    except ValueError:
        if not _RFC3339.match(text):
            raise
        moment = datetime.fromisoformat(re.sub(r"(\.\d{1,6})\d*", r"\1", text.upper()))
        return round((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)
    if not abs(seconds) < MAX_SECONDS:
        raise ValueError(text)
    return round(seconds * 1000)


def parse_duration(text: str) -> int:
    """Seconds as a number, or ``1h30m``, in ms. Raises ``ValueError``."""
    try:
        seconds = float(text) if "_" not in text else float("nan")
    except ValueError:
        sign = -1 if text.startswith("-") else 1
        return sign * duration_ms(text.lstrip("-"))
    if not abs(seconds) < MAX_SECONDS:
        raise ValueError(text)
    return round(seconds * 1000)


def unescape_name(name: str) -> str:
    """A label name of a URL; ``U__`` marks one whose special characters are written as ``_<hex>_``."""
    if not name.startswith("U__"):
        return name
    return _UTF8_NAME.sub(lambda m: chr(int(m.group(1), 16)) if m.group(1) else "_", name[3:])
