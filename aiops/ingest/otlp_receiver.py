"""OTLP requests into the store, whatever carried them: HTTP or gRPC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aiops.core.ports import Clock
from aiops.core.principal import LOCAL
from aiops.core.series import METRIC_NAME, Labels, Matcher, MatchOp
from aiops.ingest import otlp
from aiops.ingest.bodies import Decoded, DecodeLimits
from aiops.ingest.otlp_metrics import MetricDecoder
from aiops.ingest.otlp_names import Strategy
from aiops.ingest.otlp_rules import OtlpRules
from aiops.ingest.refusals import refusals
from aiops.settings import Settings
from aiops.store.telemetry.store import AppendReport, TelemetryStore

SIGNALS = ("metrics", "logs", "traces")
KEY_CAP = 200


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a request that was taken: rows left out, and why."""

    lost: int = 0
    complaint: str = ""


class OtlpReceiver:
    """Decodes and stores requests; a return means committed and synced. Safe to use from several threads."""

    def __init__(self, store: TelemetryStore, clock: Clock, limits: DecodeLimits, rules: OtlpRules) -> None:
        self._store = store
        self._clock = clock
        self._limits = limits
        self._metrics = MetricDecoder(rules, limits, self._last_samples, clock)

    def receive(
        self, signal: str, body: bytes, content_type: str = otlp.PROTOBUF, encoding: str = "", key: str = ""
    ) -> Receipt:
        """Take one request of a signal: ``metrics``, ``logs`` or ``traces``.

        Args:
            key: the sender's name for this delivery of logs; by default the hash of the body.

        Raises:
            UnsupportedMedia: a type or encoding that is not OTLP's.
            InvalidInput: a body that is not what its type says.
            LimitExceeded: too large a body.
            TransientError: the store cannot write now; nothing was kept.
        """
        if signal == "metrics":
            return self._take_metrics(otlp.metrics_request(body, content_type, encoding, self._limits))
        if signal == "logs":
            decoded = otlp.decode_logs(body, content_type, encoding, self._clock(), self._limits)
            report = self._store.append(decoded.collected, key=f"logs:{(key or decoded.key)[:KEY_CAP]}")
        else:
            decoded = otlp.decode_traces(body, content_type, encoding, self._limits)
            report = self._store.append(decoded.collected)
        return receipt(decoded, report)

    def _take_metrics(self, plain: bytes) -> Receipt:
        request = self._metrics.parse(plain)
        if not self._metrics.has_delta(request):
            decoded = self._metrics.translate(request)
            return receipt(decoded, self._store.append(decoded.collected))
        with self._metrics.delta_lock:
            stored = False
            try:
                decoded = self._metrics.translate(request)
                report = self._store.append(decoded.collected)
                stored = True
            finally:
                self._metrics.settle(stored)
        return receipt(decoded, report)

    def _last_samples(self, name: str, since_ms: int) -> Mapping[Labels, tuple[int, float]]:
        block = self._store.scan((Matcher(METRIC_NAME, MatchOp.EQUAL, name),), since_ms, 1 << 60, LOCAL)
        found = {}
        for i, labels in enumerate(block.labels):
            ts, values = block.series(i)
            found[labels] = (int(ts[-1]), float(values[-1]))
        return found


def receiver_of(settings: Settings, store: TelemetryStore, clock: Clock) -> OtlpReceiver:
    """A receiver by the sections ``server`` and ``otlp``. One a store: it keeps the totals of delta streams."""
    chosen = settings.otlp
    rules = OtlpRules(
        strategy=Strategy(chosen.translation_strategy),
        promote_resource_attributes=chosen.promote_resource_attributes,
        promote_all_resource_attributes=chosen.promote_all_resource_attributes,
        ignore_resource_attributes=chosen.ignore_resource_attributes,
        keep_identifying=chosen.keep_identifying_resource_attributes,
        promote_scope_metadata=chosen.promote_scope_metadata,
        exponential_as_classic=chosen.exponential_as_classic,
        classic_scale=chosen.classic_scale,
        delta_max_streams=chosen.delta_max_streams,
        delta_idle_ms=round(chosen.delta_idle_s * 1000),
        delta_future_ms=settings.store.future_limit_s * 1000,
    )
    return OtlpReceiver(store, clock, DecodeLimits(max_bytes=settings.server.max_body_bytes), rules)


def receipt(decoded: Decoded, report: AppendReport) -> Receipt:
    """What the sender has to know of a body that was decoded and stored."""
    lost = decoded.rejected + report.conflicts + report.too_new + report.too_old + report.over_limit
    return Receipt(lost, complaint(decoded, report))


def complaint(decoded: Decoded, report: AppendReport) -> str:
    """What was left out and why, in Prometheus' words where it has some."""
    rejected = [f"{decoded.rejected} rejected: {decoded.reason}"] if decoded.rejected else []
    return "; ".join([*rejected, *refusals(report)])
