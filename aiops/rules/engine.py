"""Runs groups of rules on their intervals and brings firing alerts to the one door of incidents."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import quote

from opentelemetry import metrics

from aiops.core.errors import AiopsError, ConfigError
from aiops.core.incident import Alert, SignalKind, fingerprint, severity_named
from aiops.core.ports import AnomalySink, Clock, MetricQuerier, TelemetrySink, system_clock
from aiops.core.series import labels_of
from aiops.core.untrusted import Untrusted
from aiops.rules.alerting import ActiveAlert, AlertState
from aiops.rules.evaluate import AlertView, GroupEvaluator, Health, Outcome, Outside
from aiops.rules.files import Group, Rule, load_groups
from aiops.rules.slo import groups_of
from aiops.settings import Settings

log = logging.getLogger(__name__)

RESEND_MS = 60_000
"""A firing alert is told again after so long; it ends by itself after four of the longer of this and its interval."""
WORKERS = 4
MAX_WAIT_S = 1.0
ANNOTATION_CAP = 4_000
SUMMARIES = ("summary", "message", "title", "description")
LINKS = ("runbook_url", "dashboard_url", "runbook", "dashboard")


@dataclass(frozen=True, slots=True)
class RuleStatus:
    """A rule, how it went, and its pending and firing alerts."""

    rule: Rule
    labels: tuple[tuple[str, str], ...]
    outcome: Outcome
    alerts: tuple[AlertView, ...] = ()


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """A group and its rules. ``missed`` counts evaluations that were due and did not happen."""

    group: Group
    interval_ms: int
    outcome: Outcome
    rules: tuple[RuleStatus, ...]
    missed: int = 0


class _Scheduled:
    """A group and when it is due. ``lock`` is held while it is evaluated; a ``retired`` one no longer is."""

    def __init__(self, evaluator: GroupEvaluator) -> None:
        self.evaluator = evaluator
        self.last_ms = 0
        self.missed = 0
        self.lock = threading.Lock()
        self.retired = False


class RuleEngine:
    """Evaluates groups at whole multiples of their intervals (UTC); Prometheus adds an offset by group.

    Args:
        groups: from :func:`~aiops.rules.files.load_groups`.
        load: reads the groups anew, for :meth:`reload`.
        querier: what expressions are asked of.
        sink: takes recorded samples and the series ``ALERTS`` and ``ALERTS_FOR_STATE``.
        incidents: takes alerts.
        clock: ms UTC.
        interval_s: of groups that name none.
        external_labels: added to alerts (not to samples), and known to templates.
        external_url: address of the service, for links and templates.
        meters: where the engine's own metrics go; the process' global provider without one.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        querier: MetricQuerier,
        sink: TelemetrySink,
        incidents: AnomalySink,
        clock: Clock = system_clock,
        *,
        interval_s: float = 60.0,
        external_labels: Mapping[str, str] | None = None,
        external_url: str = "",
        meters: metrics.MeterProvider | None = None,
        load: Callable[[], Sequence[Group]] | None = None,
    ) -> None:
        self._external = dict(external_labels or {})
        self._url = external_url.rstrip("/")
        self._outside = Outside(querier, sink, self._external, self._url)
        self._interval_ms = round(interval_s * 1000)
        self._groups = [self._scheduled(group) for group in groups]
        self._load = load
        self._changing = threading.Lock()
        self._incidents = incidents
        self._clock = clock
        self._started = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._pool: ThreadPoolExecutor | None = None
        meter = metrics.get_meter("aiops.rules", meter_provider=meters)
        self._took = meter.create_histogram(
            "aiops.rules.group.duration", unit="s", description="Time that one evaluation of a rule group took"
        )
        self._missed = meter.create_counter(
            "aiops.rules.group.iterations_missed", description="Evaluations of rule groups that were due and left out"
        )
        self._failed = meter.create_counter(
            "aiops.rules.evaluation_failures", description="Evaluations of single rules that failed"
        )

    # ---------------------------------------------------------------- running

    def start(self) -> None:
        """Evaluate on threads until :meth:`stop`; without groups nothing runs. Call once."""
        with self._changing:
            self._started = True
            self._run()

    def _run(self) -> None:
        if not self._groups or self._thread is not None:
            return
        self._pool = ThreadPoolExecutor(WORKERS, "rules")
        now = self._clock()
        for scheduled in self._groups:
            # The instant before the start is past: a start shortly after a stop evaluates none twice.
            scheduled.last_ms = now - now % scheduled.evaluator.interval_ms
        self._thread = threading.Thread(target=self._loop, name="rules-clock", daemon=True)
        self._thread.start()

    def reload(self) -> int:
        """Read the rule files again and go on with what they say; gives the number of rules.

        A rule of the same group, name and labels keeps its alerts and its series; series of a rule that is gone end
        with a staleness marker, its alerts expire. A file that cannot be taken raises ``ConfigError`` and changes
        nothing.
        """
        if self._load is None:
            raise ConfigError("This rule engine has no files to read again.")
        groups = self._load()
        with self._changing:
            now = self._clock()
            before = {_key(s.evaluator.group): s for s in self._groups}
            after: list[_Scheduled] = []
            for group in groups:
                fresh, old = self._scheduled(group), before.pop(_key(group), None)
                fresh.last_ms = now - now % fresh.evaluator.interval_ms
                if old is not None:
                    with old.lock:
                        old.retired = True
                        fresh.evaluator.follow(old.evaluator)
                        fresh.missed = old.missed
                        if fresh.evaluator.interval_ms == old.evaluator.interval_ms:
                            fresh.last_ms = old.last_ms
                after.append(fresh)
            self._groups = after
            for gone in before.values():
                with gone.lock:
                    gone.retired = True
                    gone.evaluator.end(now)
            if self._started and not self._stop.is_set():
                self._run()
        count = sum(len(group.rules) for group in groups)
        log.info("rules are read again: %d in %d groups", count, len(groups))
        return count

    def _scheduled(self, group: Group) -> _Scheduled:
        return _Scheduled(GroupEvaluator(group, self._outside, self._interval_ms))

    def stop(self) -> None:
        """End after the evaluations under way; safe to call twice."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5)
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def run_once(self, now_ms: int) -> None:
        """Evaluate every group as of ``now_ms``, in order, in this thread."""
        for scheduled in self._groups:
            with scheduled.lock:
                self._evaluate(scheduled, now_ms)

    def _loop(self) -> None:
        assert self._pool is not None
        while not self._stop.is_set():
            now = self._clock()
            for scheduled in self._groups:
                interval = scheduled.evaluator.interval_ms
                due = now - now % interval
                if due < scheduled.last_ms:  # the clock went back
                    scheduled.last_ms = due
                elif due > scheduled.last_ms and scheduled.lock.acquire(blocking=False):
                    left_out = (due - scheduled.last_ms) // interval - 1
                    if left_out:
                        scheduled.missed += left_out
                        self._missed.add(left_out, _attributes(scheduled))
                    scheduled.last_ms = due
                    self._pool.submit(self._job, scheduled, due)
            now = self._clock()
            wait_ms = min((s.last_ms + s.evaluator.interval_ms - now for s in self._groups), default=0)
            self._stop.wait(min(max(wait_ms / 1000, 0.02), MAX_WAIT_S))

    def _job(self, scheduled: _Scheduled, ts_ms: int) -> None:
        try:
            self._evaluate(scheduled, ts_ms, self._stop.is_set)
        except Exception:
            log.exception("group %s failed", scheduled.evaluator.group.name)
        finally:
            scheduled.lock.release()

    def _evaluate(self, scheduled: _Scheduled, ts_ms: int, stopping: Callable[[], bool] = lambda: False) -> None:
        if scheduled.retired:
            return
        evaluator = scheduled.evaluator
        before = evaluator.failures
        evaluator.evaluate(ts_ms, stopping)
        self._took.record(evaluator.outcome.took_s, _attributes(scheduled))
        if failed := evaluator.failures - before:
            self._failed.add(failed, _attributes(scheduled))
        self._tell(evaluator, ts_ms)

    # ---------------------------------------------------------------- alerts

    def _tell(self, evaluator: GroupEvaluator, ts_ms: int) -> None:
        """Tell incidents what fires and what ended; what they do not take now is told after the next evaluation.

        Alerts of a rule that fails stay as they were and are told again, so that a source that is down ends none.
        """
        lasts_ms = 4 * max(RESEND_MS, evaluator.interval_ms)
        told: list[ActiveAlert] = []
        alerts: list[Alert] = []
        for running in evaluator.rules:
            for active in running.table.to_send(ts_ms, RESEND_MS):
                told.append(active)
                alerts.append(self._alert(running.rule, active, ts_ms, lasts_ms))
        if not alerts:
            return
        try:
            self._incidents.submit(alerts)
        except AiopsError as error:
            log.warning("%d alerts of group %s are told later: %s", len(alerts), evaluator.group.name, error)
            return
        for active in told:
            active.sent_ms = ts_ms
            active.end_sent = active.state is AlertState.INACTIVE

    def _alert(self, rule: Rule, active: ActiveAlert, ts_ms: int, lasts_ms: int) -> Alert:
        labels = labels_of({**self._external, **dict(active.labels)})
        notes = {k: v[:ANNOTATION_CAP] for k, v in active.annotations.items()}
        over = active.state is AlertState.INACTIVE
        return Alert(
            fingerprint=fingerprint(labels),
            kind=SignalKind.RULE,
            name=rule.alert,
            labels=labels,
            severity=severity_named(dict(labels).get("severity", "")),
            starts_ms=active.fired_ms,
            updated_ms=ts_ms,
            ends_ms=max(active.fired_ms, active.resolved_ms) if over else None,
            summary=Untrusted(next((notes[k] for k in SUMMARIES if notes.get(k)), "")),
            source="rules",
            link=self._link(rule, notes),
            annotations=tuple((k, Untrusted(v)) for k, v in sorted(notes.items())),
            expires_ms=None if over else ts_ms + lasts_ms,
        )

    def _link(self, rule: Rule, notes: Mapping[str, str]) -> str:
        """The runbook or dashboard that the rule names, else the expression at this service."""
        for name in LINKS:
            if notes.get(name, "").startswith(("http://", "https://")):
                return notes[name][:2000]
        return f"{self._url}/api/v1/query?query={quote(rule.expr)}"[:2000] if self._url else ""

    # ---------------------------------------------------------------- state

    def status(self) -> tuple[GroupStatus, ...]:
        """Every group, its rules and their alerts, as of the last evaluations."""
        return tuple(
            GroupStatus(
                s.evaluator.group,
                s.evaluator.interval_ms,
                s.evaluator.outcome,
                tuple(
                    RuleStatus(r.rule, tuple(sorted(r.labels.items())), r.outcome, r.alerts) for r in s.evaluator.rules
                ),
                s.missed,
            )
            for s in self._groups
        )

    def failing(self) -> list[str]:
        """Names of rules whose last evaluation failed."""
        return [
            f"{g.group.name}/{r.rule.name}" for g in self.status() for r in g.rules if r.outcome.health is Health.ERR
        ]


def _key(group: Group) -> tuple[str, str]:
    return group.file, group.name


def _attributes(scheduled: _Scheduled) -> dict[str, str]:
    group = scheduled.evaluator.group
    return {"rule_group": f"{group.file};{group.name}"}


def rules_of(
    settings: Settings,
    querier: MetricQuerier,
    sink: TelemetrySink,
    incidents: AnomalySink,
    meters: metrics.MeterProvider | None = None,
) -> RuleEngine:
    """The engine that the settings ask for. Raises ``ConfigError`` naming file and place of a rule it cannot take."""
    chosen = settings.rules

    def groups() -> tuple[Group, ...]:
        return (*load_groups(chosen.files), *groups_of(settings.slos))

    return RuleEngine(
        groups(),
        querier,
        sink,
        incidents,
        interval_s=chosen.interval_s,
        external_labels=chosen.external_labels,
        external_url=settings.server.public_url,
        meters=meters,
        load=groups,
    )
