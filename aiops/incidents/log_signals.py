"""Signals of log templates: new ones, bursts, and steady ones that vanish.

Each closed step's lines are counted by template. A template is *new* when it was never seen before in a service that
is past its learning period; it *bursts* when its lines are more than its own past makes plausible, *vanishes* when a
steady one stops while the service goes on. Bursts and vanishing have a chance of being false, and are told when that
is below an equal share of a part of ``incidents.false_alarms_per_day``; new templates, which have none, draw on a
bucket refilled as fast, where those of a few minutes count as one. They are anomalies like all others: of themselves
they never page.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from aiops.core.anomaly import Anomaly
from aiops.core.errors import AiopsError
from aiops.core.incident import Alert, Severity, SignalKind, fingerprint
from aiops.core.ports import AnomalySink, Clock, SignalReader, system_clock
from aiops.core.principal import LOCAL
from aiops.core.series import Labels, labels_of
from aiops.core.signals import OTHER_TEMPLATE, LogPattern
from aiops.core.untrusted import Untrusted
from aiops.incidents.log_baseline import HISTORY, Baseline
from aiops.ingest.signal_labels import base_labels
from aiops.settings import IncidentSettings, SignalSettings

log = logging.getLogger(__name__)

STEP_MS = 60_000
LAG_MS = 10_000
PATTERNS = 5000
SHARE = 0.5
"""Part of the day's budget of false alarms that bursts and vanished templates may use."""
BURST_LEAST, BURST_TIMES = 10, 4.0
"""Lines in a step, and how many times the usual, below which no burst is told."""
VANISHED_STEPS = 3
QUIET_STEPS = 5
LONGEST_STEPS = 60
"""An episode this long is the new normal."""
TOGETHER_MS = 300_000
"""New templates within so much time count as one."""
SOURCE = "aiops log templates"
WORDS = {"new": "new log line", "burst": "burst of log lines", "vanished": "log lines stopped"}
DAY_MS = 86_400_000
Key = tuple[str, str]


@dataclass(slots=True)
class _Template:
    pattern: LogPattern
    baseline: Baseline
    fresh: int = 0
    """Lines since it was first seen, while it is new."""
    told: bool = False
    absent: int = 0


@dataclass(slots=True)
class _Episode:
    anomaly: Anomaly
    pattern: LogPattern
    kind: str
    count: int
    quiet: int = 0
    steps: int = 1


@dataclass(slots=True)
class _Service:
    since_ms: int
    steps: int = 0
    templates: dict[str, _Template] = field(default_factory=dict)


class LogSignals:
    """Watches the templates of all services, step by step.

    Args:
        reader: gives the lines of a step by template.
        sink: is told of anomalies that begin, go on and end.
    """

    def __init__(
        self,
        reader: SignalReader,
        sink: AnomalySink,
        settings: SignalSettings,
        policy: IncidentSettings,
        clock: Clock = system_clock,
        step_ms: int = STEP_MS,
    ) -> None:
        self._reader = reader
        self._sink = sink
        self._settings = settings
        self._policy = policy
        self._clock = clock
        self._step_ms = step_ms
        self._services: dict[str, _Service] = {}
        self._episodes: dict[tuple[str, Key], _Episode] = {}
        self._unsent: dict[str, Alert] = {}
        self._judged_ms = 0
        self._tokens = max(policy.false_alarms_per_day, 1.0)
        self._refilled_ms = 0
        self._last_new_ms = -TOGETHER_MS
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    # ------------------------------------------------------------------ running

    def start(self) -> None:
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="log-signals", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(30)

    def _run(self) -> None:
        while not self._stop.wait(self._until_next_s()):
            try:
                self.run_once(self._clock())
            except AiopsError as error:
                log.warning("log templates could not be judged: %s", error)
            except Exception:
                log.exception("log templates could not be judged")

    def _until_next_s(self) -> float:
        return (self._step_ms - (self._clock() - self._lag()) % self._step_ms) / 1000

    def _lag(self) -> int:
        return min(LAG_MS, self._step_ms // 4)

    def run_once(self, now_ms: int) -> list[Alert]:
        """Judge the steps that have closed; returns what was told."""
        end = (now_ms - self._lag()) // self._step_ms * self._step_ms
        if not self._judged_ms:
            self._learn(end)
        told: list[Alert] = []
        while self._judged_ms < end:
            start = max(self._judged_ms, end - HISTORY * self._step_ms)
            told += self._judge(start, self._patterns(start, start + self._step_ms))
            self._judged_ms = start + self._step_ms
        self._tell(told)
        return told

    def _learn(self, end_ms: int) -> None:
        """Take the last hour's steps as past, judging nothing."""
        steps = min(HISTORY, round(3_600_000 / self._step_ms))
        for number in range(steps, 0, -1):
            start = end_ms - number * self._step_ms
            self._count(start, self._patterns(start, start + self._step_ms))
        for service in self._services.values():
            for template in service.templates.values():
                template.told = True
        self._judged_ms = end_ms

    def _patterns(self, start_ms: int, end_ms: int) -> Sequence[LogPattern]:
        found = self._reader.log_patterns(start_ms, end_ms, LOCAL, limit=PATTERNS)
        return [p for p in found if p.template_id and p.template_id != OTHER_TEMPLATE and p.service]

    # ------------------------------------------------------------------ counting

    def _count(self, start_ms: int, patterns: Sequence[LogPattern]) -> dict[Key, int]:
        counts: dict[Key, int] = {}
        widened: list[Key] = []
        for pattern in patterns:
            counts[pattern.service, pattern.template_id] = pattern.count
            service = self._services.get(pattern.service)
            if service is None:
                service = self._services[pattern.service] = _Service(min(pattern.known_ms or start_ms, start_ms))
            service.since_ms = min(service.since_ms, pattern.known_ms or service.since_ms)
            found = service.templates.get(pattern.template_id)
            if found is None:
                baseline = Baseline()
                for _ in range(min(service.steps, HISTORY)):
                    baseline.add(0)
                service.templates[pattern.template_id] = _Template(pattern, baseline)
            else:
                if found.pattern.pattern != pattern.pattern:
                    widened.append((pattern.service, pattern.template_id))
                found.pattern = replace(pattern, known_ms=pattern.known_ms or found.pattern.known_ms)
        for name, service in self._services.items():
            service.steps += 1
            for id, template in list(service.templates.items()):
                count = counts.get((name, id), 0)
                template.absent = 0 if count else template.absent + 1
                if template.absent > HISTORY and ("vanished", (name, id)) not in self._episodes:
                    del service.templates[id]
                elif ("burst", (name, id)) not in self._episodes and ("vanished", (name, id)) not in self._episodes:
                    template.baseline.add(count)
        for name, id in widened:  # it may have taken in one that wrote until now: no burst, and nothing that stopped
            known = self._services[name].templates
            gone = [other for other, template in known.items() if template.absent == 1]
            if gone:
                known[id].baseline = Baseline()
            for other in gone:
                del known[other]
        return counts

    def _judge(self, start_ms: int, patterns: Sequence[LogPattern]) -> list[Alert]:
        at = start_ms + self._step_ms
        known = {(n, i): self._chances(t) for n, s in self._services.items() for i, t in s.templates.items()}
        chances = {(p.service, p.template_id): known.get((p.service, p.template_id)) for p in patterns}
        surprise = {
            (p.service, p.template_id): found.above(p.count)
            for p in patterns
            if (found := chances[p.service, p.template_id]) is not None
        }
        usual = {key: found.mean() for key, found in known.items() if found is not None}
        counts = self._count(start_ms, patterns)
        told = [alert for key, e in list(self._episodes.items()) if (alert := self._carry(key, e, counts, at))]
        allowed = self._allowed()
        for name, service in self._services.items():
            talking = any(counts.get((name, id)) for id in service.templates)
            for id, template in service.templates.items():
                key = (name, id)
                count = counts.get(key, 0)
                if count and self._is_new(service, template, count, at):
                    template.told = True
                    if self._may_tell_new(at):
                        told.append(self._begin("new", key, template, count, 0.0, 0.0, at))
                elif (
                    template.baseline.known
                    and count >= max(BURST_LEAST, BURST_TIMES * usual.get(key, count))
                    and surprise.get(key, 1.0) < allowed
                ):
                    if ("new", key) not in self._episodes and ("burst", key) not in self._episodes:
                        told.append(self._begin("burst", key, template, count, usual[key], surprise[key], at))
                elif talking and template.absent >= VANISHED_STEPS and ("vanished", key) not in self._episodes:
                    chance = template.baseline.below(template.absent)
                    if chance < allowed:
                        told.append(self._begin("vanished", key, template, 0, template.baseline.mean(), chance, at))
        return told

    def _chances(self, template: _Template) -> Baseline | None:
        return template.baseline if template.baseline.known else None

    def _allowed(self) -> float:
        """The chance of being false that one template may have in one step."""
        size = sum(len(s.templates) for s in self._services.values())
        return SHARE * self._policy.false_alarms_per_day * self._step_ms / DAY_MS / max(size, 1)

    def _is_new(self, service: _Service, template: _Template, count: int, at: int) -> bool:
        known = template.pattern.known_ms
        if template.told or not known:
            return False
        if known < service.since_ms + self._settings.learning_s * 1000 or at - known > 10 * self._step_ms:
            return False
        template.fresh += count
        least = self._settings.new_least_errors if template.pattern.severity_number >= 17 else self._settings.new_least
        return template.fresh >= least

    def _may_tell_new(self, at: int) -> bool:
        rate = max(self._policy.false_alarms_per_day, 1.0)
        self._tokens = min(self._tokens + rate * (at - (self._refilled_ms or at)) / DAY_MS, max(rate, 1.0))
        self._refilled_ms = at
        if at - self._last_new_ms > TOGETHER_MS:
            if self._tokens < 1.0:
                return False
            self._tokens -= 1.0
            self._last_new_ms = at
        return True

    # ------------------------------------------------------------------ episodes

    def _begin(
        self, kind: str, key: Key, template: _Template, count: int, usual: float, chance: float, at: int
    ) -> Alert:
        pattern = template.pattern
        began = pattern.last_ms if kind == "vanished" else max(pattern.first_ms, at - self._step_ms)
        labels = _labels(key, pattern)
        a_second = self._step_ms / 1000
        anomaly = Anomaly(
            id=f"{fingerprint(labels)}-{kind}-{began}",
            series=labels,
            service=key[0],
            metric=WORDS[kind],
            query=f'sum(rate(log_template_records_total{{service_name={_quoted(key[0])},template_id="{key[1]}"}}[5m]))',
            kind="other",
            direction="down" if kind == "vanished" else "up",
            started_ms=began,
            updated_ms=at,
            ended_ms=None,
            value=count / a_second,
            expected=usual / a_second,
            lower=0.0,
            upper=usual / a_second,
            score=float(count),
            p_value=chance,
            unit="lines/s",
        )
        episode = _Episode(anomaly, pattern, kind, count)
        self._episodes[kind, key] = episode
        return self._alert(episode, at)

    def _carry(self, where: tuple[str, Key], episode: _Episode, counts: dict[Key, int], at: int) -> Alert | None:
        kind, key = where
        count = counts.get(key, 0)
        episode.steps += 1
        episode.count += count
        over = bool(count) if kind == "vanished" else count <= 2 * episode.anomaly.expected * self._step_ms / 1000
        episode.quiet = episode.quiet + 1 if over else 0
        needed = 1 if kind == "vanished" else QUIET_STEPS
        ended = episode.quiet >= needed or episode.steps >= LONGEST_STEPS
        value = max(episode.anomaly.value, count / (self._step_ms / 1000)) if kind != "vanished" else 0.0
        episode.anomaly = replace(episode.anomaly, updated_ms=at, value=value, ended_ms=at if ended else None)
        if ended:
            del self._episodes[where]
            service = self._services.get(key[0])
            if service is not None and key[1] in service.templates and episode.steps >= LONGEST_STEPS:
                service.templates[key[1]].baseline = Baseline()
        return self._alert(episode, at)

    def _alert(self, episode: _Episode, at: int) -> Alert:
        anomaly, pattern = episode.anomaly, episode.pattern
        text = pattern.pattern.display(200)
        counted = f"{episode.count} lines" if episode.kind != "vanished" else "no line"
        return Alert(
            fingerprint=fingerprint(labels_of([*anomaly.series, ("signal", episode.kind)])),
            kind=SignalKind.ANOMALY,
            name=f"{anomaly.metric}",
            labels=anomaly.series,
            severity=Severity.WARNING if pattern.severity_number >= 13 else Severity.INFO,
            starts_ms=anomaly.started_ms,
            updated_ms=at,
            ends_ms=anomaly.ended_ms,
            summary=Untrusted(f"{anomaly.metric} in {anomaly.service}: {text} ({counted})"),
            source=SOURCE,
            annotations=(
                ("template", pattern.pattern),
                ("first_line", pattern.example),
                ("count", Untrusted(str(episode.count))),
                ("service", Untrusted(anomaly.service)),
            ),
            anomaly=anomaly,
            expires_ms=at + 10 * self._step_ms,
        )

    def _tell(self, alerts: Sequence[Alert]) -> None:
        """Submit; what cannot be delivered now is delivered with the next step, in its latest form."""
        self._unsent |= {alert.fingerprint: alert for alert in alerts}
        if self._unsent:
            self._sink.submit(list(self._unsent.values()))
            self._unsent.clear()


def _labels(key: Key, pattern: LogPattern) -> Labels:
    return labels_of([*base_labels(pattern.resource), ("template_id", key[1])])


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
