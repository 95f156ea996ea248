"""Evals: questions on recorded telemetry with what an answer must and must not say, and how answers are judged.

An answer is *right* where it meets all that its case expects, *abstained* where it says that it does not know and the
case expected more, else *wrong*; *wrong and sure* is the only unforgivable one.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from aiops.core.errors import InvalidInput
from aiops.core.evidence import Answer, EvidenceState
from aiops.core.query import Plan


class Verdict(StrEnum):
    RIGHT = "right"
    ABSTAINED = "abstained"
    WRONG = "wrong"
    WRONG_AND_SURE = "wrong and sure"


class Case(BaseModel):
    """One question, or several of one conversation, of which the last one is judged.

    Attributes:
        says, never: texts that the answer must hold, or must not.
        queries: texts that its queries must hold.
        limits: texts that what it says of its limits must hold.
        steps: kinds of its plan's steps, in their order.
        state: of its first evidence, such as ``source_late``.
        abstains: it must say that it does not know: no steps, and not sure.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str = Field(min_length=1)
    question: tuple[str, ...] = Field(min_length=1)
    zone: str = "UTC"
    says: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    queries: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    state: EvidenceState | None = None
    sure: bool | None = None
    abstains: bool = False

    @field_validator("question", "says", "never", "queries", "limits", "steps", mode="before")
    @classmethod
    def one_or_more(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class Judged:
    """A case's verdict. ``misses`` say what was not met; ``seconds`` and ``cost`` (USD) are of the last question."""

    world: str
    case: Case
    verdict: Verdict
    misses: tuple[str, ...]
    seconds: float
    cost: float
    answer: Answer


def judge(world: str, case: Case, answer: Answer, seconds: float, cost: float = 0.0) -> Judged:
    """Compare an answer with what its case expects."""
    misses = tuple(_misses(case, answer))
    return Judged(world, case, _verdict(case, answer, misses), misses, seconds, cost, answer)


def _verdict(case: Case, answer: Answer, misses: Sequence[str]) -> Verdict:
    if not misses:
        return Verdict.RIGHT
    if not answer.evidence and not answer.sure and not case.abstains:
        return Verdict.ABSTAINED
    return Verdict.WRONG_AND_SURE if answer.sure else Verdict.WRONG


def _misses(case: Case, answer: Answer) -> Iterator[str]:
    asked = " ".join(e.query for e in answer.evidence)
    said = " ".join(answer.limits)
    yield from (f"does not say '{text}'" for text in case.says if text not in answer.text)
    yield from (f"says '{text}'" for text in case.never if text in answer.text)
    yield from (f"does not ask '{text}'" for text in case.queries if text not in asked)
    yield from (f"no limit says '{text}'" for text in case.limits if text not in said)
    if case.steps:
        kinds = tuple(step.kind for step in Plan.model_validate_json(answer.plan or "{}").steps)
        if kinds != case.steps:
            yield f"steps {', '.join(kinds) or 'none'}"
    if case.state is not None and (not answer.evidence or answer.evidence[0].state is not case.state):
        yield f"state {answer.evidence[0].state.value if answer.evidence else 'none'}"
    if case.sure is not None and answer.sure is not case.sure:
        yield "is sure" if answer.sure else "is not sure"
    if case.abstains and (answer.evidence or answer.sure):
        yield "does not abstain"


@dataclass(frozen=True, slots=True)
class Summary:
    """Shares of the verdicts, seconds and USD a question, and how well confidence tells right from wrong.

    ``reliability`` has a row for each band of confidence: bounds, how many answers, mean confidence, share right.
    """

    cases: int
    shares: dict[Verdict, float]
    median_s: float
    slowest_s: float
    cost: float
    reliability: tuple[tuple[float, float, int, float, float], ...] = ()

    @classmethod
    def of(cls, judged: Sequence[Judged]) -> Summary:
        """Raises ``InvalidInput`` where nothing was judged."""
        if not judged:
            raise InvalidInput("There are no cases.")
        counts = Counter(j.verdict for j in judged)
        times = sorted(j.seconds for j in judged)
        shares = {verdict: counts[verdict] / len(judged) for verdict in Verdict}
        cost = sum(j.cost for j in judged)
        return cls(len(judged), shares, times[len(times) // 2], times[-1], cost, tuple(_reliability(judged)))


BANDS = (0.0, 0.3, 0.5, 0.7, 0.85, 1.0)


def _reliability(judged: Sequence[Judged]) -> Iterator[tuple[float, float, int, float, float]]:
    """Of answers that say something: cases that were to abstain are right or wrong by another measure."""
    told = [j for j in judged if not j.case.abstains and j.answer.evidence]
    for low, high in itertools.pairwise(BANDS):
        band = [j for j in told if low <= j.answer.confidence < high or (high == 1.0 == j.answer.confidence)]
        if band:
            right = sum(j.verdict is Verdict.RIGHT for j in band) / len(band)
            yield low, high, len(band), sum(j.answer.confidence for j in band) / len(band), right


WORLD_FILE, CASES_FILE = "world.yaml", "cases.yaml"


def worlds(folder: Path) -> list[Path]:
    """Folders of a world and its cases: ``folder`` itself, or those in it. Raises ``InvalidInput`` where none is."""
    found = [folder] if (folder / WORLD_FILE).is_file() else sorted(p.parent for p in folder.glob(f"*/{WORLD_FILE}"))
    if not found:
        raise InvalidInput(f"No world is in {folder}.", hint=f"A world is a folder with {WORLD_FILE} and {CASES_FILE}.")
    return found


def cases(world: Path) -> list[Case]:
    """Raises ``InvalidInput`` naming the file and what is wrong in it."""
    path = world / CASES_FILE
    try:
        rows = yaml.safe_load(path.read_text(encoding="utf-8"))
        found = [Case.model_validate(row) for row in rows]
    except (OSError, yaml.YAMLError, TypeError, ValidationError) as error:
        raise InvalidInput(f"{path} cannot be used: {' '.join(str(error).split())[:300]}") from error
    if len({case.id for case in found}) != len(found):
        raise InvalidInput(f"{path}: two cases have the same id.")
    return found
