"""A world of recorded telemetry for evals: its own stores in memory, its own clock, the assistant over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aiops.agent.assistant import Assistant
from aiops.agent.catalogue import Catalogues
from aiops.agent.evals import WORLD_FILE
from aiops.agent.executor import Executor
from aiops.agent.ports import Planner
from aiops.core.cost import CostTable
from aiops.core.errors import InvalidInput
from aiops.core.evidence import Answer
from aiops.core.incident import Alert, Severity, SignalKind, fingerprint
from aiops.core.ports import Collected
from aiops.core.principal import LOCAL
from aiops.core.query import Question
from aiops.core.series import Labels, MetricMetadata, SampleBlock, labels_of
from aiops.core.signals import ChangeEvent, LogRecord, Span
from aiops.core.untrusted import Untrusted
from aiops.cost.service import CostService
from aiops.incidents.lifecycle import IncidentService
from aiops.promql.engine import PromqlEngine
from aiops.settings import CostSettings, IncidentSettings, PromqlSettings, StoreSettings
from aiops.store.state.conversations import ConversationRepository
from aiops.store.state.database import StateDatabase
from aiops.store.state.incidents import IncidentRepository
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore

DAY_MS = 86_400_000
Row = tuple[Labels, NDArray[np.int64], NDArray[np.float64]]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SeriesSpec(Part):
    """One series, or one for each entry of ``each`` (its own labels and value).

    ``value`` is constant; ``to`` makes it a line from ``value``; ``per_second`` a counter's slope. ``after_s`` and
    ``before_s`` bound it to a part of the past: seconds before now at which it begins and ends. ``later`` changes the
    value (or slope) from so many seconds before now on.
    """

    name: str
    labels: dict[str, str] = Field(default_factory=dict)
    value: float = 0.0
    to: float | None = None
    per_second: float | None = None
    after_s: float | None = None
    before_s: float = 0.0
    later_s: float = 0.0
    later: float | None = None
    each: tuple[dict[str, str | float], ...] = ()


class ServiceSpec(Part):
    """Request metrics of an HTTP service by OpenTelemetry's names: calls per second, share of failures, seconds.

    ``slower`` and ``failing`` hold since ``later_s`` before now.
    """

    name: str
    rate: float
    errors: float = 0.0
    seconds: float = 0.08
    later_s: float = 0.0
    slower: float | None = None
    failing: float | None = None


class LogSpec(Part):
    """``count`` lines, the newest ``ago_s`` before now, spaced ``every_s``; ``{i}`` is the line's number."""

    service: str
    body: str
    severity: Literal["INFO", "WARN", "ERROR"] = "INFO"
    count: int = 1
    ago_s: float = 60.0
    every_s: float = 60.0


class ChangeSpec(Part):
    kind: str = "deploy"
    service: str
    title: str
    author: str = ""
    ago_s: float


class CallSpec(Part):
    """A span of ``caller`` that calls ``callee``, so many milliseconds long, ``ago_s`` before now."""

    caller: str
    callee: str
    ms: float = 100.0
    ago_s: float = 30.0
    failed: bool = False


class AlertSpec(Part):
    name: str
    service: str
    severity: Severity = Severity.CRITICAL
    summary: str = ""
    ago_s: float
    ended_s: float | None = None


class CostSpec(Part):
    """Money a day of one service, for so many days up to yesterday; ``later`` holds for the last ``later_days``."""

    service: str
    per_day: float
    days: int = 40
    later: float | None = None
    later_days: int = 0
    account: str = ""


class WorldSpec(Part):
    """The telemetry of a world. ``now`` is UTC; series have a sample each ``step_s`` for ``hours`` up to now."""

    now: datetime
    hours: float = Field(2.0, gt=0, le=400)
    step_s: float = Field(15.0, gt=0)
    series: tuple[SeriesSpec, ...] = ()
    services: tuple[ServiceSpec, ...] = ()
    types: dict[str, str] = Field(default_factory=dict)
    logs: tuple[LogSpec, ...] = ()
    changes: tuple[ChangeSpec, ...] = ()
    calls: tuple[CallSpec, ...] = ()
    alerts: tuple[AlertSpec, ...] = ()
    costs: tuple[CostSpec, ...] = ()

    @property
    def now_ms(self) -> int:
        moment = self.now if self.now.tzinfo else self.now.replace(tzinfo=UTC)
        return int(moment.timestamp() * 1000)


def read_world(folder: Path) -> WorldSpec:
    """Raises ``InvalidInput`` naming the file and what is wrong in it."""
    path = folder / WORLD_FILE
    try:
        return WorldSpec.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise InvalidInput(f"{path} cannot be used: {' '.join(str(error).split())[:300]}") from error


@dataclass(frozen=True, slots=True)
class World:
    """An assistant over a world. ``executor`` is what a planner needs."""

    spec: WorldSpec
    assistant: Assistant
    executor: Executor

    def ask(self, text: str, conversation: str, zone: str = "UTC") -> Answer:
        return self.assistant.ask(Question(text, LOCAL, self.spec.now_ms, conversation, zone))


@contextmanager
def opened(spec: WorldSpec, planner: Callable[[Executor], Planner] | None = None) -> Iterator[World]:
    """The world with real stores in memory; ``planner`` makes the LLM planner that is tried first."""
    now = spec.now_ms
    database, state = TelemetryDatabase(None, StoreSettings(), lambda: now), StateDatabase("sqlite://")
    try:
        state.upgrade()
        store = TelemetryStore(database)
        store.append(_collected(spec))
        for table in _costs(spec):
            store.import_costs(table)
        engine = PromqlEngine(store, PromqlSettings(), lambda: now)
        incidents = _incidents(spec, state)
        executor = Executor(engine, store, CostService(store, CostSettings(), lambda: now), incidents)
        try:
            llm = planner(executor) if planner is not None else None
            assistant = Assistant(
                Catalogues(engine, lambda: now), executor, llm=llm, store=ConversationRepository(state),
                signals=store, clock=lambda: now,
            )  # fmt: skip
            yield World(spec, assistant, executor)
        finally:
            executor.close()
    finally:
        database.close()
        state.close()


def _incidents(spec: WorldSpec, state: StateDatabase) -> IncidentService:
    """Alerts as they came in, one tick a minute between the first and now, so that ended ones are resolved."""
    time = [spec.now_ms]
    service = IncidentService(
        IncidentRepository(state), None, (), IncidentSettings(), lambda: time[0], background=False
    )  # fmt: skip
    moments = sorted(
        (spec.now_ms - int(ago * 1000), number, firing)
        for number, a in enumerate(spec.alerts)
        for ago, firing in ((a.ago_s, True), *([] if a.ended_s is None else [(a.ended_s, False)]))
    )
    for at, number, firing in moments:
        time[0] = at
        service.submit([_alert(spec.alerts[number], spec.now_ms, at, firing=firing)])
    first = moments[0][0] if moments else spec.now_ms
    for at in range(first, spec.now_ms + 1, 60_000):
        time[0] = at
        service.tick(at)
    return service


def _alert(spec: AlertSpec, now_ms: int, at_ms: int, *, firing: bool) -> Alert:
    labels = labels_of({"alertname": spec.name, "service": spec.service})
    return Alert(
        fingerprint(labels), SignalKind.ALERT, spec.name, labels, spec.severity, now_ms - int(spec.ago_s * 1000), at_ms,
        ends_ms=None if firing else at_ms, summary=Untrusted(spec.summary or spec.name), source="eval",
    )  # fmt: skip


def _collected(spec: WorldSpec) -> Collected:
    step = int(spec.step_s * 1000)
    times = np.arange(spec.now_ms - int(spec.hours * 3_600_000), spec.now_ms + 1, step, dtype=np.int64)
    rows = [row for s in spec.series for row in _series(s, times, spec.now_ms)]
    rows += [row for s in spec.services for row in _service(s, times, spec.now_ms)]
    names = {dict(labels)["__name__"] for labels, _, _ in rows}
    severity = {"INFO": 9, "WARN": 13, "ERROR": 17}
    return Collected(
        samples=SampleBlock.build(rows),
        metadata=tuple(MetricMetadata(n, spec.types.get(n, _kind(n)), "", n.replace("_", " ")) for n in sorted(names)),
        logs=tuple(
            LogRecord(
                (spec.now_ms - int((g.ago_s + g.every_s * i) * 1000)) * 1_000_000,
                Untrusted(g.body.replace("{i}", str(i + 1))), severity[g.severity], g.severity,
                (("service.name", g.service),),
            )
            for g in spec.logs
            for i in range(g.count)
        ),
        spans=tuple(span for i, c in enumerate(spec.calls) for span in _call(c, i, spec.now_ms)),
        changes=tuple(
            ChangeEvent(spec.now_ms - int(c.ago_s * 1000), c.kind, c.service, Untrusted(c.title), c.author)
            for c in spec.changes
        ),
    )  # fmt: skip


def _kind(name: str) -> str:
    if name.endswith("_total"):
        return "counter"
    return "histogram" if name.endswith(("_bucket", "_count", "_sum")) else "gauge"


def _series(spec: SeriesSpec, times: NDArray[np.int64], now_ms: int) -> Iterator[Row]:
    for own in spec.each or ({},):
        labels = {k: str(v) for k, v in own.items() if k not in ("value", "per_second", "to")}
        first = float(own.get("value", spec.value))
        slope = own.get("per_second", spec.per_second)
        last = own.get("to", spec.to)
        if slope is not None:
            change = now_ms - int(spec.later_s * 1000)
            rates = np.where(times > change, float(slope) if spec.later is None else spec.later, float(slope))
            values = first + np.concatenate([[0.0], np.cumsum(rates[1:] * np.diff(times) / 1000)])
        elif last is not None:
            values = np.linspace(first, float(last), len(times))
        else:
            values = np.full(len(times), first)
            if spec.later is not None:
                values[times > now_ms - int(spec.later_s * 1000)] = spec.later
        begin = -np.inf if spec.after_s is None else now_ms - spec.after_s * 1000
        kept = (times >= begin) & (times <= now_ms - spec.before_s * 1000)
        yield labels_of({"__name__": spec.name, **spec.labels, **labels}), times[kept], values[kept]


BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


def _service(spec: ServiceSpec, times: NDArray[np.int64], now_ms: int) -> Iterator[Row]:
    """Durations are exponentially distributed about the mean."""
    family = "http_server_request_duration_seconds"
    late = times > now_ms - int(spec.later_s * 1000)
    gaps = np.concatenate([[0.0], np.diff(times) / 1000])
    seconds = np.where(late & (spec.slower is not None), spec.slower or 0.0, spec.seconds)
    failing = np.where(late & (spec.failing is not None), spec.failing or 0.0, spec.errors)
    for status, share in (("200", 1 - failing), ("500", failing)):
        labels = {"service_name": spec.name, "job": f"shop/{spec.name}", "http_response_status_code": status}
        calls = spec.rate * share * gaps
        for bound in (*BOUNDS, np.inf):
            below = np.cumsum(calls * (1 - np.exp(-bound / seconds)))
            le = "+Inf" if bound == np.inf else f"{bound:g}"
            yield labels_of({"__name__": f"{family}_bucket", "le": le, **labels}), times, below
        yield labels_of({"__name__": f"{family}_count", **labels}), times, np.cumsum(calls)
        yield labels_of({"__name__": f"{family}_sum", **labels}), times, np.cumsum(calls * seconds)


def _call(spec: CallSpec, number: int, now_ms: int) -> tuple[Span, Span]:
    start = (now_ms - int(spec.ago_s * 1000)) * 1_000_000
    end, trace = start + int(spec.ms * 1e6), f"{number + 1:032x}"
    status = "error" if spec.failed else "unset"
    caller, callee = f"{2 * number + 1:016x}", f"{2 * number + 2:016x}"
    name = Untrusted(f"GET /{spec.callee}")
    return (
        Span(trace, caller, "", name, "client", start, end, status, (("service.name", spec.caller),)),
        Span(trace, callee, caller, name, "server", start, end, status, (("service.name", spec.callee),)),
    )


def _costs(spec: WorldSpec) -> Iterator[CostTable]:
    today = spec.now_ms // DAY_MS
    rows: list[tuple[int, str, str, float]] = []
    for cost in spec.costs:
        for back in range(cost.days, 0, -1):
            amount = cost.later if cost.later is not None and back <= cost.later_days else cost.per_day
            rows.append(((today - back) * DAY_MS, cost.service, cost.account, amount))
    if rows:
        start = np.array([r[0] for r in rows], np.int64)
        months = start.astype("datetime64[ms]").astype("datetime64[M]").astype("datetime64[ms]").astype(np.int64)
        columns: dict[str, Any] = {
            "BillingAccountId": np.array(["1"] * len(rows), object), "BillingPeriodStart": months,
            "ChargePeriodStart": start, "ChargePeriodEnd": start + DAY_MS,
            "EffectiveCost": np.array([r[3] for r in rows]), "BillingCurrency": np.array(["USD"] * len(rows), object),
            "ServiceName": np.array([r[1] for r in rows], object),
            "SubAccountName": np.array([r[2] for r in rows], object),
        }  # fmt: skip
        yield CostTable("bill", columns)
