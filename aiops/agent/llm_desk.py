"""What a language model is told of a question, and what it may look up: three read-only tools, all of them masked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiops.agent import prompts
from aiops.agent.catalogue import Catalogue, resolve
from aiops.agent.concepts import Concept, Form
from aiops.agent.executor import Executor
from aiops.agent.found import Asking
from aiops.agent.masks import Pseudonyms, redacted
from aiops.agent.retrieval import ConceptIndex, MetricIndex
from aiops.agent.skeletons import SERVICE_LABELS
from aiops.agent.validator import Validator
from aiops.core.errors import AiopsError
from aiops.core.evidence import Evidence
from aiops.core.query import ActionProposalStep, Plan, Question
from aiops.core.untrusted import Untrusted

PROMPT = "plan_question"
RESULT_CAP = 4_000


@dataclass(frozen=True, slots=True)
class LlmDesk:
    """One question on one model's desk.

    Attributes:
        accept: the model's object as a plan; raises ``InvalidPlan``.
        names: turns real names into stand-ins and back.
    """

    question: Question
    catalogue: Catalogue
    executor: Executor
    validator: Validator
    concepts: ConceptIndex
    accept: Callable[[Any], Plan]
    names: Pseudonyms

    def asked(self) -> str:
        """The question as the model reads it."""
        self.names.know(self.catalogue, {m for _, form in self._fitting() for m in form.metrics})
        return self.names.hide(redacted(self.question.text))

    def system(self) -> str:
        """The system prompt: rules, concepts that may fit and can be measured here, services."""
        lines = [f"- {c.title} ({c.unit or '1'}): {(f.value or f.quantile)[:260]}" for c, f in self._fitting()]
        lines += [f"- a tool step (name and args) looks into {form}" for form in self.executor.tool_forms]
        services = ", ".join(Untrusted(s).fenced(60) for s in _services(self.catalogue)[:20])
        return prompts.load(PROMPT).fill(
            now=str(self.question.asked_ms),
            zone=self.question.zone,
            concepts="\n".join(lines) or "- none fits",
            services=self.names.hide(services) or "none",
        )

    def _fitting(self) -> list[tuple[Concept, Form]]:
        """Concepts that the question may be about, each with the first way to measure it that exists here."""
        metrics = self.catalogue.metrics()
        found = [
            (match.concept, form)
            for match in self.concepts.search(self.question.text, 30)
            for form in match.concept.forms
            if all(resolve(metrics, m) for m in form.metrics)
        ]
        return list({concept.id: (concept, form) for concept, form in reversed(found)}.values())[::-1][:6]

    def tools(self) -> list[Callable[..., str]]:
        """The look-ups, as functions whose signature and docstring the model sees."""
        catalogue, names = self.catalogue, self.names

        def find_metrics(words: str) -> str:
            """Search live metric names by words of their name and help. Gives name, type and help, best first."""
            metrics = catalogue.metrics()
            found = [n for n, _ in MetricIndex(metrics).search(words[:200], 12)]
            rows = [f"{n} ({metrics[n].type}) {Untrusted(redacted(metrics[n].help)).fenced(120)}" for n in found]
            return names.hide("\n".join(rows)) or "No metric has such words."

        def label_values(metric: str, label: str = "") -> str:
            """Labels of a metric, or with a label's name its live values."""
            known = catalogue.labels(metric)
            if known is None:
                return f"There is no metric {Untrusted(metric).fenced(100)}."
            if not label:
                return "Labels: " + ", ".join(sorted(known))
            shown = sorted(known.get(label, ()))[:40]
            names.learn({label: shown})
            return names.hide(", ".join(Untrusted(redacted(v)).fenced(80) for v in shown)) or "No such label."

        def run_plan(plan: dict[str, Any]) -> str:
            """Run a plan (an object as Plan takes it) and see what it measures. Proposes no actions."""
            try:
                made = self.accept(names.show(plan))
                if any(isinstance(s, ActionProposalStep) for s in made.steps):
                    return "Refused: actions are not run from here."
                self.validator.check(made, catalogue, self.question.asked_ms)
                asking = Asking(self.question.principal, self.question.asked_ms, self.question.zone)
                found = self.executor.run(made, asking, catalogue)
            except AiopsError as error:
                return names.hide(f"Refused: {error}")
            return names.hide("\n".join(row for e in found.evidence for row in self._rows(e)))[:RESULT_CAP]

        return [find_metrics, label_values, run_plan]

    def _rows(self, evidence: Evidence) -> list[str]:
        shown = evidence.figures[:12]
        for figure in shown:
            self.names.learn({name: (value,) for name, value in figure.labels})
        head = f"{evidence.id} {evidence.kind} {evidence.state.value} {Untrusted(redacted(evidence.note)).display(200)}"
        figures = [
            f"  {f.name} {f.value:g} {f.unit} "
            + " ".join(f"{k}={Untrusted(redacted(v)).fenced(60)}" for k, v in f.labels)
            for f in shown
        ]
        return [head, *figures, *("  " + Untrusted(redacted(line.raw)).fenced(160) for line in evidence.lines[:8])]


def prompt_in_use() -> str:
    """The planner's prompt as ``name@version``."""
    return f"{PROMPT}@{prompts.load(PROMPT).version}"


def _services(catalogue: Catalogue) -> list[str]:
    found: set[str] = set()
    for metric in ("http_server_request_duration_seconds_count", "http_requests_total"):
        table: Mapping[str, Any] = catalogue.labels(metric) or {}
        label = next((n for n in SERVICE_LABELS if n in table), "")
        found.update(table.get(label, ()))
    return sorted(found)
