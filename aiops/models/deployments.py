"""Trials of one version of a model against another: shadow, canary, blue/green; ended by their guards or by people.

Which series the candidate serves is a hash of the model and the series: always the same ones, and with a larger share
those and more. The stable version stays champion until the candidate is promoted, so that a rollback is the end of the
trial and loads nothing.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from aiops.core.anomaly import Judgement, Mark
from aiops.core.errors import AiopsError, Conflict, InvalidInput, NotFound
from aiops.core.model import Deployment, DeploymentState, ModelVersion, Strategy
from aiops.core.ports import Clock, system_clock
from aiops.core.principal import SYSTEM
from aiops.models.guards import Guard, Outcome, guards, judge
from aiops.models.trial_record import TrialRecord
from aiops.settings.models import DeploymentSettings
from aiops.store.state.deployments import DeploymentRepository

log = logging.getLogger(__name__)

CHALLENGER = "challenger"
LOOK_MS = 5_000
"""Between two looks whether the champion is still the one that the trial is against, and two writes of its figures."""
Audit = Callable[[str, str, str, Mapping[str, str]], object]
"""Actor, verb, model, details."""


class Versions(Protocol):
    """The registry, as far as trials need it."""

    def get(self, name: str, alias: str = "champion") -> ModelVersion | None: ...

    def version(self, name: str, number: str) -> ModelVersion: ...

    def set_alias(self, name: str, alias: str, number: str) -> None: ...

    def drop_alias(self, name: str, alias: str, number: str) -> None: ...

    def promote(self, name: str, number: str) -> ModelVersion: ...


@dataclass(slots=True)
class _Running:
    deployment: Deployment
    record: TrialRecord
    looked_ms: int = 0


def share_of(model: str, series_id: str) -> float:
    """Where a series stands in [0, 1): a candidate with a larger share than this serves it."""
    digest = hashlib.blake2b(f"{model}\0{series_id}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def served_by_candidate(deployment: Deployment, series_id: str) -> bool:
    """Whether the candidate serves a series while the trial runs."""
    match deployment.strategy:
        case Strategy.SHADOW:
            return False
        case Strategy.BLUE_GREEN:
            return True
        case Strategy.CANARY:
            return share_of(deployment.model, series_id) < deployment.share


class Deployments:
    """Thread-safe. Call :meth:`restore` once, then :meth:`tick` again and again.

    Args:
        slow_s: a call must take longer than this to count as slow.
        audit: is told of every start and end.
        marks: people's judgements since a time.
        blame: given a trial that was rolled back, marks the incidents that its candidate opened; names the first.
        check: raises where a version cannot be served.
    """

    def __init__(
        self,
        repository: DeploymentRepository,
        registry: Versions,
        settings: DeploymentSettings,
        *,
        slow_s: float = 0.05,
        clock: Clock = system_clock,
        audit: Audit = lambda *_: None,
        marks: Callable[[int], Sequence[Mark]] = lambda _: (),
        blame: Callable[[Deployment], str] = lambda _: "",
        check: Callable[[ModelVersion], object] = lambda _: None,
    ) -> None:
        self._repository = repository
        self._registry = registry
        self._settings = settings
        self._slow_s = slow_s
        self._clock = clock
        self._audit = audit
        self._marks = marks
        self._blame = blame
        self._check = check
        self._running: dict[str, _Running] = {}
        self._listeners: list[Callable[[Deployment], None]] = []
        self._lock = threading.RLock()

    def on_change(self, listener: Callable[[Deployment], None]) -> None:
        """Tell of every start and end, at once, on the thread that made it."""
        self._listeners.append(listener)

    def restore(self) -> None:
        """Go on with the trials that ran when the process before this one ended."""
        with self._lock:
            for found in self._repository.list(state=DeploymentState.RUNNING):
                self._running.setdefault(found.model, self._track(found))

    # ---------------------------------------------------------------- asking

    def running(self, model: str) -> Deployment | None:
        """The trial of a model, if one runs."""
        found = self._running.get(model)
        return found.deployment if found else None

    def record(self, model: str) -> TrialRecord | None:
        """Where both versions' answers are counted while the trial runs."""
        found = self._running.get(model)
        return found.record if found else None

    def serves(self, model: str, series_id: str) -> str:
        """``candidate`` or ``stable``."""
        found = self.running(model)
        return "candidate" if found is not None and served_by_candidate(found, series_id) else "stable"

    def status(self, model: str = "", limit: int = 100) -> list[Deployment]:
        """Trials of a model, or of all, the newest first, with their figures as of now."""
        return [self._as_of_now(found) for found in self._repository.list(model, limit=limit)]

    def get(self, deployment_id: str) -> Deployment:
        """Raises ``NotFound``."""
        found = self._repository.get(deployment_id)
        if found is None:
            raise NotFound(f"There is no deployment '{deployment_id}'.", hint="`aiops models deployments` lists them.")
        return self._as_of_now(found)

    def guards(self, deployment: Deployment) -> tuple[Guard, ...]:
        """How the guards of a trial stand; of one that has ended, how they stood."""
        found = self._running.get(deployment.model)
        mine = found is not None and found.deployment.id == deployment.id
        record = found.record if found is not None and mine else self._track(deployment).record
        return guards(record, self._settings, self._marked(deployment))

    def _as_of_now(self, deployment: Deployment) -> Deployment:
        found = self._running.get(deployment.model)
        return _measured(found) if found is not None and found.deployment.id == deployment.id else deployment

    # ---------------------------------------------------------------- starting and ending

    def start(self, model: str, candidate: str, strategy: Strategy, share: float = 1.0, by: str = "") -> Deployment:
        """Try version ``candidate`` of ``model`` beside its champion.

        Args:
            share: of the series, for a canary; the other strategies take all.

        Raises:
            NotFound: there is no such model, champion or version.
            Conflict: it is the champion, or a trial of the model runs.
            InvalidInput: the share, or an artifact that is not the one that was registered.
        """
        if strategy is Strategy.CANARY and not 0 < share <= 1:
            raise InvalidInput("A canary's share must be above 0 and at most 1.", hint="0.1 is a tenth of the series.")
        found = self._registry.version(model, candidate)
        stable = self._registry.get(model)
        if stable is None:
            raise NotFound(f"The model '{model}' has no champion to try a candidate against.")
        if stable.version == found.version:
            raise Conflict(f"{found.reference} is the champion already.")
        self._check(found)
        with self._lock:
            if (other := self.running(model)) is not None:
                raise Conflict(
                    f"{other.model}/{other.candidate} is being tried already.",
                    hint=f"`aiops models stop {other.id}` ends that trial.",
                )
            made = Deployment(
                id=uuid.uuid4().hex[:12],
                model=model,
                strategy=strategy,
                stable=stable.version,
                candidate=found.version,
                share=share if strategy is Strategy.CANARY else 1.0,
                state=DeploymentState.RUNNING,
                started_ms=self._clock(),
                started_by=by,
            )
            self._registry.set_alias(model, CHALLENGER, found.version)
            self._repository.save(made)
            self._running[model] = self._track(made)
        self._tell(made, by, f"model.{strategy.value}", {"share": f"{made.share:g}"})
        return made

    def promote(self, deployment_id: str, by: str = SYSTEM.name, reason: str = "") -> Deployment:
        """Make the candidate the champion now. Raises ``NotFound``, or ``Conflict`` for a trial that is over."""
        return self._end(deployment_id, DeploymentState.PROMOTED, by, reason or "by hand")

    def roll_back(self, deployment_id: str, by: str = SYSTEM.name, reason: str = "") -> Deployment:
        """Let the stable version serve all again. Raises as :meth:`promote`."""
        return self._end(deployment_id, DeploymentState.ROLLED_BACK, by, reason or "by hand")

    def stop(self, deployment_id: str, by: str = SYSTEM.name, reason: str = "") -> Deployment:
        """End a trial without a verdict; the stable version serves all. Raises as :meth:`promote`."""
        return self._end(deployment_id, DeploymentState.CANCELLED, by, reason or "stopped by hand")

    def tick(self, now_ms: int) -> list[Deployment]:
        """Judge what runs; returns what ended."""
        ended = []
        for running in list(self._running.values()):
            try:
                if (over := self._judge(running, now_ms)) is not None:
                    ended.append(over)
            except AiopsError as error:
                log.warning("the trial of %s cannot be judged: %s", running.deployment.model, error)
        return ended

    def _judge(self, running: _Running, now_ms: int) -> Deployment | None:
        trial = running.deployment
        verdict = judge(running.record, now_ms - trial.started_ms, self._settings, self._marked(trial))
        if verdict.outcome is Outcome.ROLL_BACK:
            return self._end(trial.id, DeploymentState.ROLLED_BACK, SYSTEM.name, verdict.reason)
        if now_ms - running.looked_ms >= LOOK_MS or verdict.outcome is Outcome.PROMOTE:
            running.looked_ms = now_ms
            champion = self._registry.get(trial.model)
            if champion is not None and champion.version == trial.candidate:
                return self._end(trial.id, DeploymentState.PROMOTED, SYSTEM.name, "it was made champion by hand")
            if champion is None or champion.version != trial.stable:
                now = champion.reference if champion else "none"
                return self._end(
                    trial.id, DeploymentState.CANCELLED, SYSTEM.name, f"the champion was changed meanwhile: {now}"
                )
            self._repository.save(_measured(running))
        if verdict.outcome is Outcome.PROMOTE:
            return self._end(trial.id, DeploymentState.PROMOTED, SYSTEM.name, verdict.reason)
        return None

    def _end(self, deployment_id: str, state: DeploymentState, by: str, reason: str) -> Deployment:
        with self._lock:
            known = self.get(deployment_id)
            running = self._running.get(known.model)
            if running is None or running.deployment.id != deployment_id:
                raise Conflict(f"The deployment {deployment_id} is over: {known.state.value}.")
            if state is DeploymentState.PROMOTED:
                self._registry.promote(known.model, known.candidate)
            ended = replace(known, state=state, ended_ms=self._clock(), ended_by=by, reason=reason)
            del self._running[known.model]
            self._repository.save(ended)
        verbs = {DeploymentState.PROMOTED: "promote", DeploymentState.ROLLED_BACK: "rollback"}
        figures = {name: f"{value:g}" for name, value in ended.measures}
        self._tell(ended, by, f"model.{verbs.get(state, 'trial_stopped')}", {"reason": reason, **figures})
        if state is DeploymentState.ROLLED_BACK:
            self._registry.drop_alias(known.model, CHALLENGER, known.candidate)
            if incident := self._blame(ended):
                ended = replace(ended, incident=incident)
                self._repository.save(ended)
        return ended

    def _tell(self, deployment: Deployment, by: str, verb: str, details: Mapping[str, str]) -> None:
        versions = {"deployment": deployment.id, "stable": deployment.stable, "candidate": deployment.candidate}
        for listener in self._listeners:
            try:
                listener(deployment)
            except Exception:
                log.exception("a listener to deployments failed")
        self._audit(by, verb, deployment.model, {**versions, **details})

    # ---------------------------------------------------------------- figures

    def _track(self, deployment: Deployment) -> _Running:
        chosen = self._settings
        record = TrialRecord(chosen.max_latency_ratio, self._slow_s, chosen.max_cost_ratio, dict(deployment.measures))
        return _Running(deployment, record)

    def _marked(self, deployment: Deployment) -> tuple[int, int]:
        """Of the candidate's anomalies that people judged, those found false, and all."""
        own = f"{deployment.model}/{deployment.candidate}"
        said = [m.judgement for m in self._marks(deployment.started_ms) if m.model == own and m.anomaly_id]
        return said.count(Judgement.FALSE), len(said)


def _measured(running: _Running) -> Deployment:
    figures: dict[str, float] = {**running.record.counts(), **running.record.latencies()}
    return replace(running.deployment, measures=tuple(sorted(figures.items())))
