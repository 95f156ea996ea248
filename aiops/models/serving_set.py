"""Which versions serve: the champion of each model that was asked for, and the candidates that are tried."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from aiops.core.errors import AiopsError, NotFound
from aiops.core.model import Deployment, DeploymentState
from aiops.models.deployments import Deployments
from aiops.models.loaded import Loaded, LoadedModels
from aiops.models.served_before import ServedBefore
from aiops.models.trial_record import TrialRecord

log = logging.getLogger(__name__)

STRIKES = 3
"""Calls in a row that the candidate did not answer, after which it is asked only now and then."""
PROBE = 20
"""Every so many requests it is asked all the same."""


@dataclass(slots=True)
class Trial:
    """A trial whose candidate is loaded."""

    deployment: Deployment
    candidate: Loaded
    record: TrialRecord
    strikes: int = 0
    asked: int = 0

    def willing(self) -> bool:
        """Whether the candidate is to be asked: one that failed in a row only now and then."""
        self.asked += 1
        return self.strikes < STRIKES or self.asked % PROBE == 0


class ServingSet:
    """Thread-safe: versions are loaded first and then put in place in one assignment.

    Args:
        before: what an earlier process served.
    """

    def __init__(self, models: LoadedModels, deployments: Deployments, before: ServedBefore | None = None) -> None:
        self._models = models
        self._deployments = deployments
        self._before = before
        self._stable: dict[str, Loaded] = {}
        self._trials: dict[str, Trial] = {}
        self._said: dict[str, str] = {}
        deployments.on_change(self._changed)

    def champions(self) -> dict[str, str]:
        """References that serve, by model."""
        return {name: loaded.reference for name, loaded in sorted(self._stable.items())}

    def candidates(self) -> dict[str, str]:
        """References that are tried, by model."""
        return {name: trial.candidate.reference for name, trial in sorted(self._trials.items())}

    def chosen(self, name: str, version: str) -> tuple[Loaded, Trial | None]:
        """The version that serves, and the trial beside it; a version that was asked for has none.

        Raises ``NotFound``.
        """
        if version:
            return self._models.get(self._models.registry.version(name, version)), None
        if name not in self._stable and not self._warm_as_before(name):
            self.warm(name)
        stable = self._stable.get(name)
        if stable is None:
            raise NotFound(f"There is no model '{name}' with a champion.", hint="`aiops models list` shows them.")
        return stable, self._trials.get(name)

    def warm(self, name: str) -> bool:
        """Load a model's champion, and its candidate where a trial runs; false where it has none."""
        champion = self._models.registry.get(name)
        if champion is None:
            return False
        self._serve(name, self._models.get(champion))
        running = self._deployments.running(name)
        if running is not None:
            self._join_trial(running)
        return True

    def _serve(self, name: str, loaded: Loaded) -> None:
        self._stable[name] = loaded
        if self._before is not None:
            self._before.put(name, loaded.version)

    def _warm_as_before(self, name: str) -> bool:
        """Serve what an earlier process served, until :meth:`follow` has asked the registry."""
        version = self._before.get(name) if self._before is not None else None
        if version is None:
            return False
        try:
            self._stable[name] = self._models.get(version)
        except AiopsError as error:
            log.warning("%s, served before, is not served: %s", version.reference, error)
            return False
        return True

    def follow(self) -> None:
        """Serve what the registry names champion now; what cannot be served leaves the one before in place."""
        for name in list(self._stable):
            try:
                self._follow(name)
                self._said.pop(name, None)
            except AiopsError as error:
                if self._said.get(name) != str(error):
                    log.warning("the champion of %s is not taken up: %s", name, error)
                self._said[name] = str(error)

    def _follow(self, name: str) -> None:
        champion = self._models.registry.get(name)
        if champion is None:
            self._stable.pop(name, None)
            if self._before is not None:
                self._before.forget(name)
        elif champion.reference != self._stable[name].reference:
            self._serve(name, self._models.get(champion))
            log.info("scoring with %s", champion.reference)
        running = self._deployments.running(name)
        if running is not None and name not in self._trials:
            self._join_trial(running)

    def _changed(self, deployment: Deployment) -> None:
        if deployment.state is DeploymentState.RUNNING:
            self._join_trial(deployment)
            return
        trial = self._trials.pop(deployment.model, None)
        if deployment.state is DeploymentState.PROMOTED and deployment.model in self._stable:
            self._serve(deployment.model, trial.candidate if trial else self._loaded(deployment))
        elif trial is not None:
            self._models.drop(trial.candidate.reference)

    def _loaded(self, deployment: Deployment) -> Loaded:
        return self._models.get(self._models.registry.version(deployment.model, deployment.candidate))

    def _join_trial(self, deployment: Deployment) -> None:
        """Ask the candidate too, once it is loaded."""
        try:
            candidate = self._loaded(deployment)
        except AiopsError as error:
            log.warning("%s/%s cannot be served: %s", deployment.model, deployment.candidate, error)
            return
        running, record = self._deployments.running(deployment.model), self._deployments.record(deployment.model)
        if running is not None and record is not None and running.id == deployment.id:
            self._trials[deployment.model] = Trial(deployment, candidate, record)
