"""One group of rules, evaluated in order at given instants over a querier.

A rule that fails is a state of that rule: the rules after it run all the same. Samples of a rule are stored
before a later rule of the group that may read them, else together at the group's end.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from aiops.core.errors import AiopsError, QueryError
from aiops.core.ports import Collected, MetricQuerier, TelemetrySink
from aiops.core.principal import SYSTEM
from aiops.core.series import METRIC_NAME, STALE_NAN, Labels, Matcher, MatchOp, ResultType, SampleBlock, labels_of
from aiops.core.untrusted import Untrusted
from aiops.promql.parse import selectors_of
from aiops.rules.alerting import ALERTS, FOR_STATE, AlertState, AlertTable, Found, state_samples
from aiops.rules.files import Group, Rule
from aiops.rules.template_functions import Sample
from aiops.rules.templates import AlertData, expand

log = logging.getLogger(__name__)

OUTAGE_MS = 3_600_000
"""How far back the state of alerts is looked for after a start."""
SEEN_AGAIN_MS = 240_000
"""A state sample older than this at its next evaluation is beyond the look-back of a query."""


class Health(StrEnum):
    UNKNOWN = "unknown"
    OK = "ok"
    ERR = "err"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a rule's last evaluation went. ``at_ms`` is 0 before the first."""

    health: Health = Health.UNKNOWN
    error: str = ""
    at_ms: int = 0
    took_s: float = 0.0


@dataclass(frozen=True, slots=True)
class AlertView:
    """An alert as people see it; ``kept_since_ms`` is 0 unless ``keep_firing_for`` holds it."""

    labels: Labels
    annotations: tuple[tuple[str, str], ...]
    state: AlertState
    active_ms: int
    value: float
    kept_since_ms: int = 0


@dataclass(slots=True)
class RunningRule:
    """A rule and what it did. ``alerts`` is a snapshot, replaced as a whole."""

    rule: Rule
    table: AlertTable
    labels: Mapping[str, str]
    reads: frozenset[str] | None
    """Metric names that the expression reads; ``None`` where it may read any."""
    outcome: Outcome = Outcome()
    alerts: tuple[AlertView, ...] = ()
    series: set[Labels] = field(default_factory=set)
    restored: bool = False


@dataclass(frozen=True, slots=True)
class Outside:
    """What evaluation needs from elsewhere."""

    querier: MetricQuerier
    sink: TelemetrySink
    external_labels: Mapping[str, str] = field(default_factory=dict)
    external_url: str = ""


class GroupEvaluator:
    """A group at work. Not thread-safe: one evaluation at a time; :attr:`rules` may be read from anywhere."""

    def __init__(self, group: Group, outside: Outside, default_interval_ms: int = 60_000) -> None:
        self.group = group
        self.interval_ms = group.interval_ms or default_interval_ms
        self.rules = [
            RunningRule(
                rule,
                AlertTable(rule.for_ms, rule.keep_firing_for_ms, group.limit),
                {**group.labels, **rule.labels},
                _names_read(rule, group),
            )
            for rule in group.rules
        ]
        self.outcome = Outcome()
        self.failures = 0
        self._outside = outside
        self._waiting: list[tuple[RunningRule, list[tuple[Labels, float]]]] = []
        self._ended: set[Labels] = set()
        """Series of rules that are no more, to be ended at the next evaluation."""

    def follow(self, old: GroupEvaluator) -> None:
        """Go on from where the group was before its file was read again."""
        left = list(old.rules)
        for running in self.rules:
            before = next((r for r in left if r.rule.name == running.rule.name and r.labels == running.labels), None)
            if before is None or bool(before.rule.record) != bool(running.rule.record):
                continue
            left.remove(before)
            running.table.alerts = before.table.alerts
            running.alerts, running.series = before.alerts, before.series
            running.outcome, running.restored = before.outcome, before.restored
        self._ended = old._ended.union(*(gone.series for gone in left))
        self.outcome, self.failures = old.outcome, old.failures

    def end(self, ts_ms: int) -> None:
        """The group is no more: end its series."""
        self._ended = self._ended.union(*(running.series for running in self.rules))
        for running in self.rules:
            running.series = set()
        self._store(ts_ms, last=True)

    def evaluate(self, ts_ms: int, stopping: Callable[[], bool] = lambda: False) -> None:
        """All rules, as of ``ts_ms``. Raises nothing for a rule that fails; ends early once ``stopping`` says so."""
        began = time.monotonic()
        at = ts_ms - self.group.query_offset_ms
        for running in self.rules:
            if stopping():
                break
            if self._reads_waiting(running):
                self._store(at)
            started = time.monotonic()
            error = self._guarded(running, ts_ms, at)
            self.failures += bool(error)
            running.outcome = Outcome(Health.ERR if error else Health.OK, error, ts_ms, time.monotonic() - started)
        self._store(at, last=True)
        self.outcome = Outcome(Health.OK, "", ts_ms, time.monotonic() - began)

    def _guarded(self, running: RunningRule, ts_ms: int, at: int) -> str:
        """Evaluates one rule; gives what went wrong."""
        try:
            rows = self._record(running, at) if running.rule.record else self._alert(running, ts_ms, at)
        except AiopsError as error:
            if running.outcome.error != str(error):
                log.warning("rule %s of group %s failed: %s", running.rule.name, self.group.name, Untrusted(str(error)))
            return str(error)
        except Exception as error:  # the boundary of a rule: its group goes on
            log.exception("rule %s of group %s failed", running.rule.name, self.group.name)
            return f"internal error: {type(error).__name__}"
        finally:
            if running.rule.alert:
                running.alerts = _views(running.table)
        self._waiting.append((running, rows))
        return ""

    def _vector(self, query: str, at: int) -> list[tuple[Labels, float]]:
        result = self._outside.querier.instant(query, at, SYSTEM)
        if result.type not in (ResultType.VECTOR, ResultType.SCALAR):
            raise QueryError("rule result is not a vector or scalar", kind="execution")
        return list(zip(result.block.labels, result.block.values.tolist(), strict=True))

    def _record(self, running: RunningRule, at: int) -> list[tuple[Labels, float]]:
        name = running.rule.record
        rows = [
            (labels_of({**dict(labels), METRIC_NAME: name, **running.labels}), value)
            for labels, value in self._vector(running.rule.expr, at)
        ]
        if len({labels for labels, _ in rows}) < len(rows):
            raise QueryError(
                "vector contains metrics with the same labelset after applying rule labels", kind="execution"
            )
        if 0 < self.group.limit < len(rows):
            raise QueryError(f"exceeded limit of {self.group.limit} with {len(rows)} series", kind="execution")
        return rows

    def _alert(self, running: RunningRule, ts_ms: int, at: int) -> list[tuple[Labels, float]]:
        rule, table = running.rule, running.table
        found: dict[Labels, Found] = {}
        for labels, value in self._vector(rule.expr, at):
            full, result = self._filled(running, labels, value, at)
            if full in found:
                raise QueryError(
                    "vector contains metrics with the same labelset after applying alert labels", kind="execution"
                )
            found[full] = result
        table.add(ts_ms, found)
        if not running.restored:
            self._restore(running, ts_ms)
            running.restored = True
        return state_samples(rule.alert, table.move(ts_ms, found))

    def _filled(self, running: RunningRule, labels: Labels, value: float, at: int) -> tuple[Labels, Found]:
        """An alert's labels and annotations for one row of the result."""
        outside = self._outside

        def query(text: str) -> list[Sample]:
            return [Sample(dict(found), number) for found, number in self._vector(text, at)]

        data = AlertData(dict(labels), value, outside.external_labels, outside.external_url, query)
        own = {k: v for k, v in labels if k != METRIC_NAME}
        own.update((k, expand(text, data)) for k, text in running.labels.items())
        own["alertname"] = running.rule.alert
        notes = {k: expand(text, data) for k, text in running.rule.annotations.items()}
        return labels_of(own), Found(value, notes)

    # ------------------------------------------------------------ restart

    def _restore(self, running: RunningRule, ts_ms: int) -> None:
        """Take the time that alerts were active before a restart from ``ALERTS_FOR_STATE``."""
        if not running.table.alerts:
            return
        querier, name = self._outside.querier, running.rule.alert
        selector = f"{FOR_STATE}{{{Matcher('alertname', MatchOp.EQUAL, name)}}}"
        before = querier.instant(f"{selector}[{OUTAGE_MS}ms]", ts_ms - 1, SYSTEM).block
        last: dict[Labels, tuple[int, int]] = {}
        for i, labels in enumerate(before.labels):
            times, values = before.series(i)
            down_ms, active_ms = int(times[-1]), float(values[-1]) * 1000
            if 0 <= active_ms <= down_ms:  # others can write such a series too
                last[labels_of((k, v) for k, v in labels if k != METRIC_NAME)] = down_ms, int(active_ms)
        wanted = {labels: alert for labels, alert in running.table.alerts.items() if labels in last}
        for down in {last[labels][0] for labels in wanted}:
            # An alert that ended has a staleness marker after its last sample, so that it is not found here.
            seen_at = min(down + min(2 * self.interval_ms, SEEN_AGAIN_MS), ts_ms - 1)
            present = {
                labels_of((k, v) for k, v in labels if k != METRIC_NAME)
                for labels, _ in self._vector(selector, seen_at)
            }
            for labels, alert in wanted.items():
                if last[labels][0] == down and labels in present:
                    running.table.restore(alert, ts_ms, down, last[labels][1])

    # ------------------------------------------------------------ storing

    def _reads_waiting(self, running: RunningRule) -> bool:
        if not self._waiting or running.reads is None:
            return bool(self._waiting)
        written = {r.rule.record for r, _ in self._waiting if r.rule.record}
        if any(r.rule.alert for r, _ in self._waiting):
            written |= {ALERTS, FOR_STATE}
        return not running.reads.isdisjoint(written)

    def _store(self, at: int, *, last: bool = False) -> None:
        """Store what waits, with a staleness marker for each series that the rule no longer gives.

        ``last``: the evaluation ends with it, so that series of rules that are no more end as well.
        """
        waiting, self._waiting = self._waiting, []
        rows: list[tuple[Labels, float]] = []
        for running, given in waiting:
            rows += given
            present = {labels for labels, _ in given}
            rows += [(labels, STALE_NAN) for labels in running.series if labels not in present]
        if last and self._ended:
            alive = {labels for labels, _ in rows}.union(*(running.series for running in self.rules))
            rows += [(labels, STALE_NAN) for labels in self._ended - alive]
        if rows:
            unique = dict(reversed(rows))  # of two rules that write one series, the first counts
            try:
                self._outside.sink.append(Collected(samples=SampleBlock.at(at, unique.items())))
            except AiopsError as error:
                for running, _ in waiting:
                    log.warning("samples of rule %s are not stored: %s", running.rule.name, error)
                    running.outcome = Outcome(Health.ERR, str(error), running.outcome.at_ms, running.outcome.took_s)
                    self.failures += 1
                return
        if last:
            self._ended = set()
        for running, given in waiting:
            running.series = {labels for labels, _ in given}


def _names_read(rule: Rule, group: Group) -> frozenset[str] | None:
    templates = (*rule.annotations.values(), *rule.labels.values(), *group.labels.values())
    if rule.alert and any("{{" in text and "query" in text for text in templates):
        return None
    names = {selector.name for selector in selectors_of(rule.expr)}
    return None if "" in names else frozenset(names)


def _views(table: AlertTable) -> tuple[AlertView, ...]:
    return tuple(
        AlertView(a.labels, tuple(sorted(a.annotations.items())), a.state, a.active_ms, a.value, a.kept_since_ms)
        for a in sorted(table.alerts.values(), key=lambda a: a.labels)
        if a.state is not AlertState.INACTIVE
    )
