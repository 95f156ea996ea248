"""What one executed step brings back, before the answer is written."""

from __future__ import annotations

from dataclasses import dataclass, replace

from aiops.core.evidence import Evidence, Figure
from aiops.core.incident import Incident
from aiops.core.principal import Principal
from aiops.core.query import PlanStep


@dataclass(frozen=True, slots=True)
class Asking:
    """Who asks, when, and in which zone."""

    principal: Principal
    now_ms: int
    zone: str = "UTC"


@dataclass(frozen=True, slots=True)
class Found:
    """Evidence of a step, and what the answer has to say beside it.

    ``matched`` are how many of the first figures satisfy the step's condition; ``None`` without a condition.
    ``doubtful`` says that the data bears the answer badly, however well the question was understood.
    """

    step: PlanStep
    evidence: tuple[Evidence, ...]
    matched: int | None = None
    incident: Incident | None = None
    limits: tuple[str, ...] = ()
    proposals: tuple[str, ...] = ()
    doubtful: bool = False

    def numbered(self, first: int) -> Found:
        """The same with evidence ids ``E<first>`` and on."""
        return replace(self, evidence=tuple(replace(e, id=f"E{first + i}") for i, e in enumerate(self.evidence)))


def named(evidence: Evidence, name: str) -> int | None:
    """Index of the first figure of a name."""
    return next((i for i, f in enumerate(evidence.figures) if f.name == name), None)


def figure(evidence: Evidence, name: str) -> Figure | None:
    found = named(evidence, name)
    return None if found is None else evidence.figures[found]
