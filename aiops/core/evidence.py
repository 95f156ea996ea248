"""Evidence and the answers that cite it. Every figure shown to a person comes from here."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from aiops.core.series import Labels, SampleBlock
from aiops.core.untrusted import Untrusted


class EvidenceState(StrEnum):
    """Three states are never mixed: nothing matched, it does not exist, the source is down or late."""

    OK = "ok"
    NO_MATCH = "no_match"
    DOES_NOT_EXIST = "does_not_exist"
    SOURCE_DOWN = "source_down"
    SOURCE_LATE = "source_late"


@dataclass(frozen=True, slots=True)
class Figure:
    """One number with its unit (UCUM-like: ``s``, ``By``, ``1``, ``%``, ``USD``) and what it is of."""

    value: float
    unit: str
    labels: Labels = ()
    name: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """The result of one executed step.

    Attributes:
        id: ``E1``, ``E2`` … within an answer.
        source: where it was asked (``store``, ``prometheus:prod``).
        query: what was asked, verbatim: PromQL, or the step in words.
        start_ms, end_ms: the window, UTC.
        newest_ms: time of the newest sample seen, to state the age of the data.
        series: the data of the chart, if it can be drawn.
        truncated: rows or series were left out.
    """

    id: str
    kind: str
    title: str
    source: str
    query: str
    start_ms: int
    end_ms: int
    state: EvidenceState
    figures: tuple[Figure, ...] = ()
    lines: tuple[Untrusted, ...] = ()
    series: SampleBlock | None = None
    unit: str = ""
    newest_ms: int | None = None
    truncated: bool = False
    note: str = ""
    link: str = ""


@dataclass(frozen=True, slots=True)
class Citation:
    """The part of an answer that rests on a piece of evidence."""

    evidence_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A cause considered, kept or dropped, and why."""

    text: str
    kept: bool
    share: float
    evidence_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """The reply to a question.

    ``text`` is Markdown without raw telemetry text; ``sure`` is the planner's calibrated confidence
    above its threshold; ``suggestions`` are "did you mean" questions or metric names;
    ``limits`` say what could not be seen.
    """

    id: str
    question: str
    text: str
    evidence: tuple[Evidence, ...]
    confidence: float
    sure: bool
    planner: str
    answered_ms: int
    zone: str = "UTC"
    citations: tuple[Citation, ...] = ()
    hypotheses: tuple[Hypothesis, ...] = ()
    suggestions: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    proposals: tuple[str, ...] = field(default=())
    """Ids of action proposals made along the way."""
    plan: str = ""
    """The plan that was carried out, as JSON of :class:`aiops.core.query.Plan` without its defaults."""
