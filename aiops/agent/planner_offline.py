"""The offline planner: concept table, live catalogue, slots. No key, no model, never wrong and sure.

normalise -> intent -> concepts by words -> shape and slots -> PromQL from a skeleton -> confidence, or asking back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from aiops.agent import intents, skeletons, slots, time_phrases
from aiops.agent.catalogue import Catalogue, KnownCatalogue, fold_name, resolve
from aiops.agent.concepts import Concept, Form, load_concepts
from aiops.agent.retrieval import ConceptIndex, Match, MetricIndex
from aiops.agent.words import content, raw_tokens
from aiops.core.errors import TransientError
from aiops.core.query import (
    ActionProposalStep,
    ChangeStep,
    CostStep,
    DiscoverStep,
    ExplainStep,
    ForecastStep,
    IncidentStep,
    LogStep,
    MetricStep,
    Plan,
    PlanStep,
    Question,
    Shape,
    Threshold,
    TraceStep,
    Window,
)
from aiops.core.series import MetricMetadata

NAME = "offline"
SURE = 0.6
ANSWER = 0.25
"""Below, the planner abstains and only suggests."""
NO_SUCH_LABEL = 0.6
SUPPORT_TOP = 12
UNSUPPORTED = 0.6
METRIC_WINS = 0.7
"""A concept that fits this well is meant, though a word such as "log" or "expensive" points elsewhere."""
_DOUBTFUL = ("logs", "traces", "cost", "change")

LastDeploy = Callable[[str], int | None]
"""Time in ms UTC of a service's latest deploy ("" means any), ``None`` when there is none."""


@dataclass(frozen=True, slots=True)
class _Read:
    """A question, taken apart once."""

    text: str
    rest: str
    window: Window | None
    horizon_s: float | None
    shape: Shape | None
    limit: slots.Limit | None
    quantile: float | None
    used: bool


class OfflinePlanner:
    """Plans from the concept table. Thread-safe; one instance serves all."""

    name = NAME

    def __init__(self, concepts: Sequence[Concept] | None = None) -> None:
        self._index = ConceptIndex(load_concepts() if concepts is None else concepts)
        self._metric_index: tuple[Mapping[str, MetricMetadata], MetricIndex] | None = None

    def plan(
        self,
        question: Question,
        catalogue: Catalogue,
        last_deploy: LastDeploy | None = None,
        services: Iterable[str] = (),
    ) -> Plan:
        """A plan, or one without steps that asks back or abstains. Raises what the catalogue raises.

        Args:
            services: names known from traces and logs beside those of the metrics.
        """
        read, notes = self._read(question, last_deploy)
        intent = intents.classify(question.text)
        down: TransientError | None = None
        metrics: Mapping[str, MetricMetadata] = {}
        try:
            metrics = catalogue.metrics()
        except TransientError as error:
            # Costs, incidents and logs can be asked while the metric source is away.
            down, catalogue = error, KnownCatalogue(())
        service = self._service(read.text, catalogue, services)
        topic = self._topic(read.rest, service)
        found = self._index.search(topic, 12)
        usable = [(m, form) for m in found if (form := _form(m.concept, metrics)) is not None]
        usable = _with_label(usable, service, catalogue)
        special = self._special(question, read, intent, service)
        if special is not None and not (intent in _DOUBTFUL and usable and usable[0][0].score > METRIC_WINS):
            step, confidence = special
            return Plan(
                steps=(step,), intent=intent, confidence=confidence, sure=confidence >= SURE, planner=NAME,
                concept=step.kind, notes=tuple(notes),
            )  # fmt: skip
        if down is not None:
            raise down
        if not usable:
            return self._abstain(read, intent, found, metrics)
        best, form = usable[0]
        rivals = [m for m, _ in usable[1:] if not _same_answer(m.concept, best.concept)]
        margin = best.score - (rivals[0].score if rivals else 0.0)
        confidence = _confidence(best, margin)
        if confidence < ANSWER:
            return self._abstain(read, intent, found, metrics)
        if not self._index.curated(read.rest, best.concept):
            confidence *= self._support(topic, form, metrics)
        step, caveats, doubt = self._step(best.concept, form, read, catalogue)
        confidence *= doubt
        return Plan(
            steps=(step,),
            intent=intent if intent != "clarify" else "metrics",
            confidence=round(confidence, 3),
            sure=confidence >= SURE,
            planner=NAME,
            concept=best.concept.id,
            suggestions=() if confidence >= SURE else tuple(m.concept.title for m, _ in usable[1:4]),
            candidates=tuple(dict.fromkeys(x for m, f in usable[:3] for x in f.metrics))[:10],
            notes=(*notes, *caveats)[:10],
        )

    # ------------------------------------------------------------ reading

    @staticmethod
    def _read(question: Question, last_deploy: LastDeploy | None) -> tuple[_Read, list[str]]:
        phrase = time_phrases.find(question.text, question.asked_ms, question.zone)
        window, notes = phrase.window, []
        if phrase.since_deploy:
            deployed = last_deploy("") if last_deploy else None
            if deployed is not None and deployed < question.asked_ms:
                window = Window(start_ms=deployed, words="since the last deploy")
            else:
                notes.append("No deploy is known, so the last hour is shown.")
        rest = phrase.rest
        limit = slots.threshold_of(rest)
        used = slots.asks_used(rest)
        return (
            _Read(question.text, rest, window, phrase.horizon_s, slots.shape_of(question.text), limit,
                  slots.quantile_of(rest), used),
            notes,
        )  # fmt: skip

    @staticmethod
    def _service(text: str, catalogue: Catalogue, services: Iterable[str]) -> str:
        """A live service that the question names."""
        known = {name.lower(): name for name in services}
        for metric in ("http_server_request_duration_seconds_count", "http_requests_total", "up"):
            table = catalogue.labels(metric) or {}
            for label in skeletons.SERVICE_LABELS:
                for value in table.get(label, ()):
                    known.setdefault(value.lower(), value)
                    known.setdefault(value.rsplit("/", 1)[-1].lower(), value.rsplit("/", 1)[-1])
        return next((known[w] for w in raw_tokens(text) if w in known), "")

    # ------------------------------------------------------------ steps that are not metrics

    def _special(self, question: Question, read: _Read, intent: str, service: str) -> tuple[PlanStep, float] | None:
        """Steps over incidents, logs, traces, costs, changes; ``None`` where a metric is asked for."""
        window = read.window
        if intent == "cost":
            return self._cost(question, read)
        if intent == "action" and (action := _action(question.text, service)):
            return action, 0.8
        if intent == "change":
            return ChangeStep(title="changes", service=service, window=window or Window(last_s=86400.0)), 0.85
        if intent == "discover":
            low = question.text.lower()
            what = "services" if re.search(r"\bservices?\b|\bcall", low) and "metric" not in low else "metrics"
            return DiscoverStep(title=f"known {what}", what=what, words=" ".join(content(read.rest))[:200]), 0.7
        if intent == "logs":
            error = re.search(r"\berrors?|exceptions?|stack ?traces?|fail\w*", read.rest.lower())
            patterns = re.search(r"\bpatterns?|templates?|most (?:common|frequent)|top\b", read.rest.lower())
            return LogStep(
                title="log lines" + (f" of {service}" if service else ""), service=service,
                contains=_quoted(question.text), min_severity=17 if error else 0, patterns=bool(patterns),
                window=window or Window(),
            ), 0.8 if service or error else 0.62  # fmt: skip
        if intent == "traces":
            return TraceStep(title="slowest spans", service=service, window=window or Window()), 0.75
        low = question.text.lower()
        if _INCIDENTS.search(low) and not service:
            return IncidentStep(title="incidents", active_only="resolved" not in low and window is None,
                                window=window or Window(last_s=86400.0)), 0.85  # fmt: skip
        if service and intent == "investigate" and _EXPLAIN.search(low):
            return ExplainStep(title=f"what is wrong with {service}", service=service, window=window or Window()), 0.9
        return None

    @staticmethod
    def _cost(question: Question, read: _Read) -> tuple[PlanStep, float]:
        low = question.text.lower()
        month = Window(start_ms=time_phrases.find("this month", question.asked_ms, question.zone).window.start_ms,  # type: ignore[union-attr]
                       words="this month")  # fmt: skip
        if re.search(r"\b(forecast|month.?end|end of (?:the )?month|project\w*|expect\w*|will we (?:spend|pay|exceed)"
                     r"|on budget|budget)\b", low):  # fmt: skip
            return CostStep(title="expected cost of the month", what="forecast", window=month), 0.85
        if re.search(
            r"\b(anomal\w+|unusual|spike|unexpected|jump\w*|why .* (?:up|rise|rose|increas\w+|higher))\b", low
        ):
            return CostStep(
                title="unusual cost", what="anomalies", window=read.window or Window(last_s=14 * 86400.0)
            ), 0.8
        group = next((column for pattern, column in _COST_GROUPS if re.search(pattern, low)), "ServiceName")
        window = read.window or month
        return CostStep(title="cost by " + _COLUMN_WORDS[group], group_by=(group,), window=window), 0.9

    # ------------------------------------------------------------ metrics

    def _step(
        self, concept: Concept, form: Form, read: _Read, catalogue: Catalogue
    ) -> tuple[PlanStep, list[str], float]:
        """The step, what the answer has to state, and a factor on the confidence."""
        caveats: list[str] = []
        doubt = 1.0
        known = {m: catalogue.labels(m) for m in form.metrics}
        shape = _shape(concept, form, read)
        text, unit, bad = _skeleton(concept, form, shape)
        flipped = concept.used and shape not in ("forecast", "change") and _flip(read)
        if flipped:
            text, bad = f"1 - {text}", "high"
        text = skeletons.fill(text, known, read.window, read.horizon_s, read.quantile)
        if group := slots.group_of(read.rest, known):
            text = skeletons.regroup(text, group)
        labels = slots.labels_of(read.text, known, spoken={w for p in concept.say for w in raw_tokens(p)})
        for name, value in labels.equal:
            text = skeletons.select(text, form.metrics, name, value)
        if labels.unknown:
            doubt = 0.5
            near = f" Did you mean {', '.join(labels.near)}?" if labels.near else ""
            caveats.append(f"No series has the value '{labels.unknown[0]}', so it was not applied.{near}")
        window = read.window or Window()
        title = f"{concept.title} (share in use)" if flipped else concept.title
        if shape == "forecast":
            horizon = read.horizon_s or 4 * 3600.0
            return ForecastStep(title=title, promql=text, unit=unit, horizon_s=horizon, window=window), caveats, doubt
        threshold = _threshold(concept, read, shape, flipped, caveats)
        return (
            MetricStep(
                title=title,
                promql=text,
                shape=shape,
                unit=unit,
                bad=bad,
                threshold=threshold,
                window=window,
                limit=slots.top_of(read.rest) or 10,
            ),
            caveats,
            doubt,
        )

    def _topic(self, text: str, service: str) -> str:
        """The question without names of things, which are slots: the service, and words that look like host names."""
        kept = []
        for word in raw_tokens(_GROUPING.sub(" ", text)):
            name = _NAMED.match(word) is not None and not self._index.knows(word)
            if word != service.lower() and not name:
                kept.append(word)
        return " ".join(kept)

    def _support(self, topic: str, form: Form, metrics: Mapping[str, MetricMetadata]) -> float:
        """Whether names and help of the live metrics speak for the same metrics: a second, independent witness."""
        near = {fold_name(n) for n, _ in self._names(metrics).search(topic, SUPPORT_TOP)}
        hits = sum(fold_name(m) in near for m in form.metrics)
        return UNSUPPORTED + (1 - UNSUPPORTED) * hits / max(1, len(form.metrics))

    def _names(self, metrics: Mapping[str, MetricMetadata]) -> MetricIndex:
        held = self._metric_index
        if held is None or held[0] is not metrics:
            held = self._metric_index = (metrics, MetricIndex(metrics))
        return held[1]

    def _abstain(self, read: _Read, intent: str, found: list[Match], metrics: Mapping[str, MetricMetadata]) -> Plan:
        near = tuple(n for n, _ in self._names(metrics).search(read.rest, 5))
        missing = [m.concept for m in found[:1] if m.score > 0.5 and m.concept.step == "metric"]
        notes = tuple(
            f"{c.title}: none of the needed metrics exist here ({', '.join(c.metrics)})." for c in missing
        )  # fmt: skip
        clarify = ""
        if not content(read.rest) or intent == "clarify":
            clarify = "Which service, host or metric do you mean?"
        elif not metrics:
            clarify = "There are no metrics of the last hour to answer this from."
        return Plan(
            intent=intent, confidence=0.1, planner=NAME, clarify=clarify, candidates=near, notes=notes,
            suggestions=tuple(m.concept.title for m in found[:3] if _form(m.concept, metrics)),
        )  # fmt: skip


_INCIDENTS = re.compile(
    r"\b(incidents?|alerts?|outages?|on fire|firing|any(?:thing)? (?:wrong|problems?|issues?|broken)"
    r"|everything (?:ok|okay"
    r"|fine|healthy|alright)|what(?:'s| is) (?:broken|wrong)(?! with)|are we ok)\b"
)
_EXPLAIN = re.compile(
    r"\b(wrong|why|root cause|investigate|diagnose|troubleshoot|debug|explain|what happened|problem|issues?|broken"
    r"|going on|cause|failing|crash\w*|down|up with|healthy|ok|okay|matter)\b"
)
_COST_GROUPS = (
    (r"\bregions?\b", "RegionId"), (r"\b(?:accounts?|teams?|subscriptions?|projects?)\b", "SubAccountName"),
    (r"\bresources?\b", "ResourceId"), (r"\bcategor(?:y|ies)\b", "ServiceCategory"),
    (r"\bproviders?\b", "ServiceProviderName"),
)  # fmt: skip
_COLUMN_WORDS = {
    "ServiceName": "service", "RegionId": "region", "SubAccountName": "account", "ResourceId": "resource",
    "ServiceCategory": "category", "ServiceProviderName": "provider",
}  # fmt: skip


_GROUPING = re.compile(r"\b(?:per|by|for each)\s+(?:service|job|instance)s?\b")
_NAMED = re.compile(r"^[a-z][\w.:/-]*\d[\w.:/-]*$|^[a-z][\w]*-[\w.:/-]+$")


def _quoted(text: str) -> str:
    match = re.search(r"[\"“'‘`]([^\"”'’`]{2,100})[\"”'’`]", text)
    return match.group(1) if match else ""


def _action(text: str, service: str) -> ActionProposalStep | None:
    match = re.search(
        r"\b(restart|reboot|roll ?back|scale|silence|mute|drain|cordon|kill)\b\s*(.*)", text, re.IGNORECASE
    )
    if match is None:
        return None
    verb = match.group(1).lower().replace(" ", "")
    action = {"mute": "silence", "reboot": "restart", "kill": "restart"}.get(verb, verb)
    words = [
        w
        for w in raw_tokens(match.group(2))
        if w not in ("the", "service", "pod", "a", "for", "alert", "alerts", "on", "of")
    ]
    target = service or (words[0] if words else "")
    return (
        ActionProposalStep(title=f"{action} {target}", action=action, target=target, reason=text[:300])
        if target
        else None
    )


def _form(concept: Concept, metrics: Mapping[str, MetricMetadata]) -> Form | None:
    """The first way to measure a concept whose metrics all exist."""
    if concept.step != "metric":
        return None
    return next((f for f in concept.forms if all(resolve(metrics, m) for m in f.metrics)), None)


def _with_label(usable: list[tuple[Match, Form]], service: str, catalogue: Catalogue) -> list[tuple[Match, Form]]:
    """Concepts whose live series know the named service go before those whose series do not."""
    if not service:
        return usable
    out = []
    for match, form in usable[:6]:
        tables = [t for m in form.metrics if (t := catalogue.labels(m)) is not None]
        has = any(service in values for t in tables for values in t.values())
        out.append((match if has or not tables else replace(match, score=match.score * NO_SUCH_LABEL), form))
    return sorted(out, key=lambda pair: -pair[0].score)


def _same_answer(a: Concept, b: Concept) -> bool:
    return a.value == b.value and a.quantile == b.quantile


def _confidence(best: Match, margin: float) -> float:
    """From the score, how much of the question it covers, and the distance to the next different concept."""
    return min(0.95, best.score * (0.55 + 0.45 * best.recall) * (0.75 + min(margin, 0.25)))


def _shape(concept: Concept, form: Form, read: _Read) -> Shape:
    asked = read.shape
    if asked == "forecast" and (form.forecast or _bare(form.value)):
        return "forecast"
    if form.quantile and not form.value:
        return "quantile"
    if asked == "quantile" and form.quantile:
        return "quantile"
    if asked == "change" and form.change:
        return "change"
    if concept.shape == "age" or asked == "age":
        return "age" if "time()" in form.value else "value"
    if read.limit is not None or concept.shape == "threshold":
        return "threshold"
    if asked in ("series", "count", "top"):
        return asked
    if concept.limit is not None and re.match(r"\W*(which|any|who|whose|are|is|do|does)\b", read.text.lower()):
        return "threshold"
    return "value"


def _bare(value: str) -> bool:
    """A single gauge with at most a selector: a straight line through it means something."""
    return re.fullmatch(r"[a-zA-Z_:][\w:]*(\{[^}]*\})?", value) is not None and not value.split("{")[0].endswith(
        "_total"
    )


def _skeleton(concept: Concept, form: Form, shape: Shape) -> tuple[str, str, str]:
    bad = concept.bad
    if shape == "forecast":
        text = form.forecast or f"predict_linear({form.value}[$r], $h)"
        return text, "By" if "bytes" in text else concept.unit if _bare(form.value) else "1", bad
    if shape == "quantile" and form.quantile:
        return form.quantile, concept.unit, bad
    if shape == "change" and form.change:
        return form.change, concept.unit, bad
    return form.value or form.quantile, concept.unit, bad


def _flip(read: _Read) -> bool:
    if read.limit is not None:
        return read.limit.op in (">", ">=") and (read.used or read.limit.value > 0.5)
    return read.used and not re.search(r"\b(almost|nearly|near|low|out of|too|getting)\b", read.text.lower())


def _threshold(concept: Concept, read: _Read, shape: Shape, flipped: bool, caveats: list[str]) -> Threshold | None:
    if read.limit is not None:
        value = read.limit.value
        if concept.unit == "ratio" and read.limit.kind == "" and value > 1.5:
            value /= 100
        if not _fits(read.limit.kind, concept.unit):
            caveats.append("The threshold's unit does not fit the measure, so it was not applied.")
        else:
            return Threshold(op=read.limit.op, value=value)
    if concept.limit is None or shape not in ("threshold", "count"):
        return None
    if shape == "count" and concept.shape != "threshold":
        return None
    value, op = concept.limit, concept.condition
    if flipped:
        value, op = 1 - value, {"<": ">", "<=": ">="}.get(op, op)
    return Threshold(op=op, value=value, default=True, note=concept.note)


def _fits(kind: str, unit: str) -> bool:
    if kind == "ratio":
        return unit in ("ratio", "cores")
    if kind == "bytes":
        return unit.startswith("By")
    return kind != "seconds" or unit == "s"
