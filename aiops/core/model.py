"""Records of the managed model layer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One registered version of a named model.

    ``source`` is the artifact's folder or URI; ``dataset`` the content hash of its training window;
    ``aliases`` hold ``champion`` and ``challenger``.
    """

    name: str
    version: str
    family: str
    run_id: str
    source: str
    created_ms: int
    aliases: tuple[str, ...] = ()
    dataset: str = ""
    parameters: tuple[tuple[str, str], ...] = ()
    metrics: tuple[tuple[str, float], ...] = ()

    @property
    def reference(self) -> str:
        return f"{self.name}/{self.version}"


class ModelAction(StrEnum):
    """What a principal may be allowed to do with a model."""

    USE = "use"
    TRAIN = "train"
    PROMOTE = "promote"
    EXPORT = "export"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Dataset:
    """An immutable snapshot of what a version was trained on. Times are ms UTC, half-open.

    ``id`` is the content's SHA-256 as ``sha256:<hex>``; ``path`` its Parquet file, relative to the data folder.
    """

    id: str
    name: str
    query: str
    start_ms: int
    end_ms: int
    step_ms: int
    series: int
    points: int
    path: str
    created_ms: int


class Strategy(StrEnum):
    """How a candidate is tried beside the stable version."""

    SHADOW = "shadow"
    """Scores everything, decides nothing."""
    CANARY = "canary"
    """Serves a share of series or requests, chosen by a stable hash."""
    BLUE_GREEN = "blue_green"
    """Takes all over at once; the stable version stays warm to go back to."""


class DeploymentState(StrEnum):
    RUNNING = "running"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Deployment:
    """A trial of one version of a model against another, from start to verdict.

    ``share`` is the part of series or requests that the candidate serves; ``reason`` the guard that ended it,
    with its figures; ``incident`` the incident that the candidate caused, if any.
    """

    id: str
    model: str
    strategy: Strategy
    stable: str
    candidate: str
    share: float
    state: DeploymentState
    started_ms: int
    started_by: str
    ended_ms: int | None = None
    ended_by: str = ""
    reason: str = ""
    incident: str = ""
    measures: tuple[tuple[str, float], ...] = ()


class UseKind(StrEnum):
    """What was paid for."""

    TRAIN = "train"
    SCORE = "score"
    BATCH = "batch"
    LLM = "llm"
    EXPORT = "export"


@dataclass(frozen=True, slots=True)
class ModelUse:
    """One job or call of a model, priced. ``cost`` is in USD; ``quantity`` counts ``unit``."""

    model: str
    version: str
    kind: UseKind
    principal: str
    time_ms: int
    quantity: float
    unit: str
    cost: float
    team: str = ""
    detail: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class LlmCall:
    """One call of an LLM. Times are ms UTC; ``model`` is ``provider:model``, ``prompt`` ``name@version``.

    ``asked`` and ``answered`` are what was said; they are kept only where the settings allow it. ``error`` names what
    failed, without the provider's own words.
    """

    model: str
    prompt: str
    principal: str
    start_ms: int
    end_ms: int
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    error: str = ""
    asked: str = ""
    answered: str = ""


@dataclass(frozen=True, slots=True)
class DriftSignal:
    """One thing that may drift: its figure, the limit, and whether it is beyond it. NaN where it cannot be told."""

    name: str
    value: float
    limit: float
    drifted: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class DriftedSeries:
    """A series whose values have drifted.

    ``p`` is of the test of Kolmogorov and Smirnov, ``psi`` the population stability index, ``shift`` in the
    reference's standard deviations, ``changed_ms`` since when, ``None`` where no single moment stands out.
    """

    series: str
    p: float
    psi: float
    shift: float
    changed_ms: int | None


@dataclass(frozen=True, slots=True)
class DriftReport:
    """One check of a model against what it was trained on. Times are ms UTC, half-open.

    ``version`` is the champion's reference; ``tested`` of ``series`` were long enough to say anything of;
    ``confirmed`` says that the check before found drift as well; ``action`` what followed.
    """

    model: str
    version: str
    time_ms: int
    reference_start_ms: int
    reference_end_ms: int
    start_ms: int
    end_ms: int
    series: int
    tested: int
    signals: tuple[DriftSignal, ...]
    worst: tuple[DriftedSeries, ...] = ()
    drifted: bool = False
    confirmed: bool = False
    action: str = ""
