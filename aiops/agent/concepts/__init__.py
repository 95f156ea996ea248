"""The concept table: what on-call people ask about, in YAML beside this file, and how it is measured.

A concept names the metrics it needs and a PromQL skeleton per shape. In skeletons ``$w`` is a rate window,
``$c`` a counting window, ``$r`` the range a forecast looks back on, ``$h`` its horizon in seconds, ``$q`` a
quantile, ``$svc`` the label that names a service and ``$status`` the one that holds the HTTP status.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

StepName = Literal[
    "metric", "log", "log_patterns", "trace", "cost", "cost_forecast", "cost_anomaly", "incident", "explain",
    "change", "action", "discover", "services",
]  # fmt: skip


class Form(BaseModel):
    """The metrics of one way to measure a concept, with its skeletons."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    metrics: tuple[str, ...] = ()
    value: str = ""
    quantile: str = ""
    forecast: str = ""
    change: str = ""


class Concept(Form):
    """One thing that can be asked about.

    Attributes:
        say: phrases people use; ``ask``: whole questions.
        bad: the direction that is the bad one; ``op`` and ``limit`` the default condition, ``note`` its reason.
        shape: what is meant when the question does not say.
        used: the value is a free share; a question about "used" or "full" turns its threshold round.
        domains: where it lives, when that is more than the file's domain.
    """

    id: str
    title: str
    domain: str
    domains: tuple[str, ...] = ()
    step: StepName = "metric"
    say: tuple[str, ...] = ()
    ask: tuple[str, ...] = ()
    unit: str = ""
    bad: Literal["high", "low", ""] = ""
    op: Literal["<", "<=", ">", ">=", "==", "!=", ""] = ""
    limit: float | None = None
    note: str = ""
    shape: Literal["value", "threshold", "age", "quantile", ""] = ""
    used: bool = False
    group_by: tuple[str, ...] = ()
    min_severity: int = 0
    alternatives: tuple[Form, ...] = Field(())

    @property
    def forms(self) -> tuple[Form, ...]:
        return (self, *self.alternatives)

    @property
    def all_domains(self) -> frozenset[str]:
        return frozenset((self.domain, *self.domains))

    @property
    def condition(self) -> str:
        """The default comparison operator."""
        return self.op or ("<" if self.bad == "low" else ">")


class Words(BaseModel):
    """Words of one meaning (the first is the folded form), words that name a domain, and groups of other words."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    same: tuple[tuple[str, ...], ...]
    domains: dict[str, tuple[str, ...]]
    groups: dict[str, tuple[str, ...]]


def _yaml(name: str) -> Any:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(files(__name__).joinpath(name).read_text(encoding="utf-8"), Loader=loader)  # noqa: S506


@cache
def load_words() -> Words:
    return Words.model_validate(_yaml("words.yaml"))


@cache
def load_concepts() -> tuple[Concept, ...]:
    """Every concept of every file, by file name. Raises ``ValueError`` for a double id."""
    found: dict[str, Concept] = {}
    names = sorted(f.name for f in files(__name__).iterdir() if f.name.endswith(".yaml") and f.name != "words.yaml")
    for name in names:
        table = _yaml(name)
        for row in table["concepts"]:
            concept = Concept.model_validate({"domain": table["domain"], **row})
            if concept.id in found:
                raise ValueError(f"two concepts are named {concept.id}")
            found[concept.id] = concept
    return tuple(found.values())
