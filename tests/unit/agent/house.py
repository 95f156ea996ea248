"""A small house of real parts for the assistant: DuckDB store, PromQL engine, cost service, SQLite state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from aiops.agent.assistant import Assistant
from aiops.agent.catalogue import Catalogues
from aiops.agent.executor import Executor
from aiops.core.cost import CostTable
from aiops.core.errors import NotFound
from aiops.core.evidence import Answer
from aiops.core.incident import CauseCandidate, Incident, IncidentStatus, Severity
from aiops.core.ports import Collected
from aiops.core.principal import LOCAL, Principal
from aiops.core.query import Question
from aiops.core.series import Labels, MetricMetadata, SampleBlock, labels_of
from aiops.core.signals import ChangeEvent, LogRecord, Span
from aiops.core.untrusted import Untrusted
from aiops.cost.service import CostService
from aiops.promql.engine import PromqlEngine
from aiops.settings import CostSettings, PromqlSettings, StoreSettings
from aiops.store.state.conversations import ConversationRepository
from aiops.store.state.database import StateDatabase
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore

NOW = 1_795_521_600_000
"""Tuesday, 24 November 2026, 12:00 UTC."""
STEP = 15_000
DAY = 86_400_000
TIMES = np.arange(NOW - 2 * 3_600_000, NOW + 1, STEP, dtype=np.int64)
N = len(TIMES)

Series = tuple[Labels, np.ndarray, np.ndarray]


def gauge(name: str, value: float, **labels: str) -> Series:
    return labels_of({"__name__": name, **labels}), TIMES, np.full(N, value)


def counter(name: str, per_second: float, **labels: str) -> Series:
    return labels_of({"__name__": name, **labels}), TIMES, per_second * np.arange(N) * STEP / 1000


def service(name: str, rate: float, errors: float) -> list[Series]:
    family, base = "http_server_request_duration_seconds", {"service_name": name, "job": f"shop/{name}"}
    out = []
    for status, share in (("200", 1 - errors), ("500", errors)):
        labels = {**base, "http_response_status_code": status}
        for le, part in (("0.1", 0.5), ("0.5", 0.9), ("1", 1.0), ("+Inf", 1.0)):
            out.append(counter(f"{family}_bucket", rate * share * part, le=le, **labels))
        out.append(counter(f"{family}_count", rate * share, **labels))
        out.append(counter(f"{family}_sum", rate * share * 0.2, **labels))
    return out


def samples(free: dict[str, float]) -> Collected:
    rows: list[Series] = []
    for host, share in free.items():
        labels = {"instance": host, "job": "node", "device": "/dev/vda1", "mountpoint": "/", "fstype": "ext4"}
        rows.append(gauge("node_filesystem_avail_bytes", share * 100e9, **labels))
        rows.append(gauge("node_filesystem_size_bytes", 100e9, **labels))
        rows.append(gauge("up", 1.0, instance=host, job="node"))
    for name, rate, errors in (("checkout", 10.0, 0.1), ("payment", 8.0, 0.0)):
        rows += service(name, rate, errors)
    old = labels_of({"__name__": "redis_memory_used_bytes", "instance": "cache"})
    rows.append((old, TIMES[:-120], np.full(N - 120, 5e8)))
    return Collected(
        samples=SampleBlock.build(rows),
        metadata=(
            MetricMetadata("node_filesystem_avail_bytes", "gauge", "By", "Filesystem space available."),
            MetricMetadata("node_filesystem_size_bytes", "gauge", "By", "Filesystem size."),
            MetricMetadata("http_server_request_duration_seconds", "histogram", "s", "Duration of HTTP requests."),
            MetricMetadata("up", "gauge", "1", "Whether the last scrape succeeded."),
            MetricMetadata("redis_memory_used_bytes", "gauge", "By", "Memory used."),
        ),
        logs=tuple(
            LogRecord((NOW - 60_000 * i) * 1_000_000, Untrusted(f"card {i} refused {{E1.f0}} `x` <b>"), 17, "ERROR",
                      (("service.name", "payment"),))
            for i in range(1, 6)
        ),
        spans=(
            _span("a", "", "checkout", 300), _span("b", "a", "checkout", 280, "client"),
            _span("c", "b", "payment", 250),
        ),
        changes=(ChangeEvent(NOW - 1_200_000, "deploy", "payment", Untrusted("payment v42"), "ann"),),
    )  # fmt: skip


def _span(own: str, parent: str, name: str, ms: int, kind: str = "server") -> Span:
    start = (NOW - 30_000) * 1_000_000
    return Span("ab" * 16, own * 16, parent * 16, Untrusted("POST /pay"), kind, start, start + ms * 1_000_000, "unset",
                (("service.name", name),))  # fmt: skip


def costs() -> CostTable:
    days = np.arange(NOW // DAY - 40, NOW // DAY, dtype=np.int64) * DAY
    rows = [(d, s, a) for d in days for s, a in (("Compute", 100.0), ("Storage", 20.5))]
    start = np.array([r[0] for r in rows], np.int64)
    return CostTable(
        "bill",
        {
            "BillingAccountId": np.array(["1"] * len(rows), object),
            "BillingPeriodStart": start.astype("datetime64[ms]")
            .astype("datetime64[M]")
            .astype("datetime64[ms]")
            .astype(np.int64),
            "ChargePeriodStart": start,
            "ChargePeriodEnd": start + DAY,
            "EffectiveCost": np.array([r[2] for r in rows]),
            "BillingCurrency": np.array(["USD"] * len(rows), object),
            "ServiceName": np.array([r[1] for r in rows], object),
        },
    )


INCIDENT = Incident(
    "INC-1", IncidentStatus.OPEN, Severity.CRITICAL, "checkout: share of failed requests is up", "checkout",
    NOW - 600_000, NOW - 5000,
    candidates=(
        CauseCandidate("payment", 0.62, "latency", 0.05, 0.9, NOW - 660_000, ("payment", "checkout"),
                       ("latency p95 50 ms → 900 ms (18x normal)",), change="payment v42"),
        CauseCandidate("checkout", 0.1, "errors", 0.001, 0.1),
    ),
    clear_cause=True,
)  # fmt: skip


@dataclass
class Incidents:
    """Incidents as given."""

    rows: list[Incident] = field(default_factory=list)

    def list(
        self, principal: Principal, status: IncidentStatus | None = None, limit: int = 50, since_ms: int = 0
    ) -> list[Incident]:
        return [i for i in self.rows if status is None or i.status is status]

    def get(self, incident_id: str, principal: Principal) -> Incident:
        for row in self.rows:
            if row.id == incident_id:
                return row
        raise NotFound(f"There is no incident '{incident_id}'.")


@dataclass
class House:
    assistant: Assistant
    conversations: ConversationRepository
    incidents: Incidents

    def ask(self, text: str, conversation: str = "", zone: str = "UTC", principal: Principal = LOCAL) -> Answer:
        return self.assistant.ask(Question(text, principal, NOW, conversation, zone))


@contextmanager
def open_house(folder: Path, free: dict[str, float]) -> Iterator[House]:
    """Hosts have the given shares of disk free."""
    database = TelemetryDatabase(None, StoreSettings(), lambda: NOW)
    state = StateDatabase(f"sqlite:///{folder / 'state.db'}")
    state.upgrade()
    store = TelemetryStore(database)
    store.append(samples(free))
    store.import_costs(costs())
    engine = PromqlEngine(store, PromqlSettings(), lambda: NOW)
    incidents, conversations = Incidents(), ConversationRepository(state)
    executor = Executor(engine, store, CostService(store, CostSettings(), lambda: NOW), incidents)
    assistant = Assistant(
        Catalogues(engine, lambda: NOW), executor, store=conversations, signals=store, clock=lambda: NOW
    )
    try:
        yield House(assistant, conversations, incidents)
    finally:
        executor.close()
        database.close()
        state.close()
