"""What people ask about a model beside its scores: its card, how two versions compare, an export."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from aiops.core.anomaly import Anomaly, Batch, Judgement, Mark
from aiops.core.errors import AiopsError, InvalidInput, NotFound
from aiops.core.model import Dataset, Deployment, DriftReport, ModelUse, ModelVersion, UseKind
from aiops.core.ports import Clock, ModelMeter, system_clock
from aiops.models import edge_bundle
from aiops.models.card import Card, Facts, card_of
from aiops.models.compare import Comparison, Interval, compare, precision_of
from aiops.models.fairness import Fairness, fairness
from aiops.models.guards import wilson
from aiops.models.loaded import Loaded
from aiops.models.registry import CHAMPION, LLM_FAMILY, ModelRegistry
from aiops.models.signing import SIGNATURE
from aiops.settings.models import OversightSettings

DAY_MS = 86_400_000
MOST_ALARMS = 100_000


class Episodes(Protocol):
    def anomalies(self, start_ms: int, end_ms: int, limit: int = 500) -> Sequence[Anomaly]: ...


class Oversight:
    """Thread-safe.

    Args:
        load: a version, ready to score.
        recent: values of a version's series, as batch scoring reads them.
        dataset: the record of a snapshot; raises ``NotFound``.
        labels: of a series by its id.
        uses: what was booked in a window for a model.
    """

    def __init__(
        self,
        registry: ModelRegistry,
        load: Callable[[ModelVersion], Loaded],
        recent: Callable[[Loaded, str, int, int], Batch],
        settings: OversightSettings,
        *,
        dataset: Callable[[str], Dataset],
        deployments: Callable[[str], Sequence[Deployment]],
        drift: Callable[[str], Sequence[DriftReport]],
        episodes: Episodes,
        marks: Callable[[int], Sequence[Mark]],
        uses: Callable[[int, int, str], Sequence[ModelUse]],
        labels: Callable[[str], Mapping[str, str]],
        meter: ModelMeter | None = None,
        clock: Clock = system_clock,
    ) -> None:
        self._registry = registry
        self._load = load
        self._recent = recent
        self._settings = settings
        self._dataset = dataset
        self._deployments = deployments
        self._drift = drift
        self._episodes = episodes
        self._marks = marks
        self._uses = uses
        self._labels = labels
        self._meter = meter
        self._clock = clock

    def find(self, name: str, version: str = "") -> ModelVersion:
        """A version by its number or alias; the champion, else the newest, for none. Raises ``NotFound``."""
        if version.isdigit():
            return self._registry.version(name, version)
        found = self._registry.get(name, version or CHAMPION)
        if found is None and not version:
            found = next(iter(self._registry.versions(name)), None)
        if found is None:
            raise NotFound(
                f"There is no version '{version}' of a model '{name}'."
                if version
                else f"There is no model named '{name}'."
            )
        return found

    def card(self, name: str, version: str = "") -> Card:
        """Raises ``NotFound``."""
        found = self.find(name, version)
        now = self._clock()
        since = now - int(self._settings.days * DAY_MS)
        marks = self._marks(since)
        own = [mark for mark in marks if mark.model == found.reference]
        return card_of(
            Facts(
                version=found,
                dataset=self._snapshot(found),
                precision=precision_of(found.reference, own),
                recall=_recall(own),
                marks=len({mark.anomaly_id for mark in own if mark.anomaly_id}),
                fairness=self._fair(found, marks, since, now),
                drift=[one for one in self._drift(name) if one.version == found.reference],
                deployments=[d for d in self._deployments(name) if found.version in (d.candidate, d.stable)],
                uses=[use for use in self._uses(since, now + 1, name) if use.version == found.version],
                signature=self._signature(found),
                days=self._settings.days,
                made_ms=now,
            )
        )

    def compare(self, first: ModelVersion, second: ModelVersion, hours: float = 24.0, label: str = "") -> Comparison:
        """Two versions on the same last hours. Raises as ``compare.compare`` and loading do."""
        return compare(
            self._load(first),
            self._load(second),
            self._recent,
            self._marks(self._clock() - int(self._settings.days * DAY_MS)),
            hours=hours,
            label=label,
            labels=self._labels,
            clock=self._clock,
        )

    def export(self, version: ModelVersion, by: str) -> bytes:
        """A version as an edge bundle, in a zip. Raises as ``edge_bundle.write``, or ``LimitExceeded``."""
        if version.family == LLM_FAMILY:
            raise InvalidInput(f"{version.reference} is an LLM, which cannot be exported.")
        if self._meter is not None:
            self._meter.check(version.name, UseKind.EXPORT, by, 0.0)
        now = self._clock()
        made = edge_bundle.packed(self._load(version), self._registry.signer, by=by, time_ms=now)
        if self._meter is not None:
            self._meter.record(
                ModelUse(version.name, version.version, UseKind.EXPORT, by, now, float(len(made)), "bytes", 0.0)
            )
        return made

    # ------------------------------------------------------------------ parts

    def _snapshot(self, version: ModelVersion) -> Dataset | None:
        try:
            return self._dataset(version.dataset) if version.dataset else None
        except NotFound:
            return None

    def _signature(self, version: ModelVersion) -> str:
        if version.family == LLM_FAMILY:
            return "it has no artifact, being the record of an LLM."
        try:
            with self._registry.folder_of(version) as folder:
                signed = (folder / SIGNATURE).is_file()
        except AiopsError as error:
            return str(error)
        return "" if signed else "it is not signed."

    def _fair(self, version: ModelVersion, marks: Sequence[Mark], start_ms: int, end_ms: int) -> list[Fairness]:
        if not self._settings.groups or version.family == LLM_FAMILY:
            return []
        try:
            series = [self._labels(key) for key in self._load(version).state.series_ids]
        except AiopsError:
            return []
        found = self._episodes.anomalies(start_ms, end_ms, MOST_ALARMS)
        alarms = [one for one in found if one.model.partition("/")[0] == version.name]
        days = (end_ms - start_ms) / DAY_MS
        return [fairness(label, series, alarms, marks, days) for label in self._settings.groups]


def _recall(marks: Sequence[Mark]) -> Interval:
    last = {mark.anomaly_id or str(n): mark.judgement for n, mark in enumerate(marks)}
    found = sum(said is Judgement.TRUE for said in last.values())
    total = found + sum(said is Judgement.MISSED for said in last.values())
    return (found / total, *wilson(found, total)) if total else (math.nan,) * 3
