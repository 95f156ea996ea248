"""The offline planner: concept table, live catalogue, slots. No key, no model, never wrong and sure.

normalise -> intent -> concepts by words -> shape and slots -> PromQL from a skeleton -> confidence, or asking back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from aiops.agent import intents, money, scope, skeletons, slots, time_phrases
from aiops.agent.catalogue import Catalogue, KnownCatalogue, fold_name, resolve
from aiops.agent.concepts import Concept, Form, load_concepts
from aiops.agent.retrieval import ConceptIndex, Match, MetricIndex
from aiops.agent.words import STOP, content, group, raw_tokens
from aiops.core.errors import TransientError
from aiops.core.query import (
    ActionProposalStep,
    ChangeStep,
    CompareStep,
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
ACCOUNTED = 0.85
"""A step this certain has every word of the question on its side, so no concept wins over it."""
CLEAR = 0.85
CLEAR_MARGIN = 0.1

LastDeploy = Callable[[str], int | None]
"""Time in ms UTC of a service's latest deploy ("" means any), ``None`` when there is none."""


@dataclass(frozen=True, slots=True)
class _Read:
    """A question, taken apart once."""

    text: str
    rest: str
    window: Window | None
    horizon_s: float | None
    back_s: float | None
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
        bill: Callable[[], money.Bill] | None = None,
    ) -> Plan:
        """A plan, or one without steps that asks back or abstains. Raises what the catalogue raises.

        Args:
            services: names known from traces and logs beside those of the metrics.
            bill: what the stored bills hold, by column, read only for a question about money.
        """
        if said := scope.refusal(question.text):
            return _foreign(said)
        read, notes = self._read(question, last_deploy)
        intent = intents.classify(question.text)
        down: TransientError | None = None
        metrics: Mapping[str, MetricMetadata] = {}
        try:
            metrics = catalogue.metrics()
        except TransientError as error:
            # Costs, incidents and logs can be asked while the metric source is away.
            down, catalogue = error, KnownCatalogue(())
        known = self._services(catalogue, services)
        service = next((known[w] for w in raw_tokens(read.text) if w in known), "")
        topic, spelling = self._topic(read.rest, known)
        notes += spelling
        found = self._index.search(topic, 12)
        usable = [(m, form) for m in found if (form := _form(m.concept, metrics)) is not None]
        usable = _with_label(usable, service, catalogue)
        if intent == "cost":
            paid = money.read(question, read.rest, read.window, read.back_s, bill() if bill else {})
            if paid.step is None:
                return Plan(intent=intent, confidence=0.1, planner=NAME, clarify=paid.clarify)
            special: tuple[tuple[PlanStep, ...], float] | None = ((paid.step,), paid.confidence)
        else:
            special = self._special(question, read, intent, service, topic)
        if special is not None and not (
            special[1] < ACCOUNTED and intent in _DOUBTFUL and usable and usable[0][0].score > METRIC_WINS
        ):
            steps, confidence = special
            return Plan(
                steps=steps, intent=intent, confidence=confidence, sure=confidence >= SURE, planner=NAME,
                concept=steps[0].kind, notes=tuple(notes),
            )  # fmt: skip
        if down is not None:
            raise down
        words = content(topic)
        if not usable or scope.is_vague(words):
            return self._abstain(read, intent, found, metrics)
        best, form = usable[0]
        if scope.is_thin(words, self._index.words_of(best.concept)):
            return _foreign(scope.FOREIGN)
        rivals = [m for m, _ in usable[1:] if not _same_answer(m.concept, best.concept)]
        margin = best.score - (rivals[0].score if rivals else 0.0)
        confidence = _confidence(best, margin)
        if confidence < ANSWER:
            return self._abstain(read, intent, found, metrics)
        clear = best.exact and margin >= CLEAR_MARGIN and not _BENT.search(read.text.lower())
        if clear:
            confidence = max(confidence, CLEAR)
        elif not self._index.curated(read.rest, best.concept):
            confidence *= self._support(topic, form, metrics)
        step, caveats, doubt = self._step(best.concept, form, read, catalogue)
        confidence *= doubt
        if clear and not _honoured(read.shape, step):
            confidence *= UNSUPPORTED
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
            _Read(question.text, rest, window, phrase.horizon_s, phrase.back_s,
                  slots.shape_of(rest if phrase.back_s else question.text), limit,
                  slots.quantile_of(rest), used),
            notes,
        )  # fmt: skip

    @staticmethod
    def _services(catalogue: Catalogue, services: Iterable[str]) -> dict[str, str]:
        """Live services by their lower-case name."""
        known = {name.lower(): name for name in services}
        for metric in ("http_server_request_duration_seconds_count", "http_requests_total", "up"):
            table = catalogue.labels(metric) or {}
            for label in skeletons.SERVICE_LABELS:
                for value in table.get(label, ()):
                    known.setdefault(value.lower(), value)
                    known.setdefault(value.rsplit("/", 1)[-1].lower(), value.rsplit("/", 1)[-1])
        return {word: name for word, name in known.items() if word not in _NOT_SERVICES and word not in STOP}

    # ------------------------------------------------------------ steps that are not metrics

    def _special(
        self, question: Question, read: _Read, intent: str, service: str, topic: str
    ) -> tuple[tuple[PlanStep, ...], float] | None:
        """Steps over incidents, logs, traces, changes; ``None`` where a metric is asked for."""
        window, low, words = read.window, question.text.lower(), set(content(topic))
        if intent == "action" and (action := _action(question.text, service)):
            return (action,), 0.8
        if (words & CHANGED and words <= CHANGED | AROUND_CHANGE) or intent == "change":
            span = window or Window(last_s=7 * 86400.0 if re.search(r"\b(?:last|latest|when)\b", low) else 86400.0)
            return (ChangeStep(title="changes", service=service, window=span),), 0.85
        if intent == "discover":
            what = (
                "services"
                if re.search(
                    r"\bservices?\b|\bcall"
                    r"|\bdepend",
                    low,
                )
                and "metric" not in low
                else "metrics"
            )
            return (DiscoverStep(title=f"known {what}", what=what, words=" ".join(content(read.rest))[:200]),), 0.7
        if intent == "logs":
            return (_logs(question, read, service),), _logs_confidence(words, service, read.rest)
        if intent == "traces" or re.search(r"\bslow\w*\s+(?:operations?|transactions?|spans?)\b", low):
            return (TraceStep(title="slowest spans", service=service, window=window or Window()),), 0.75
        asks_why = intent == "investigate" and _EXPLAIN.search(low) is not None
        if (
            service
            and asks_why
            and not re.search(r"^\W*(?:any|are|is|were|list|show|which|how many)\b.*\b(?:incident|alert)", low)
        ):
            return (
                ExplainStep(title=f"what is wrong with {service}", service=service, window=window or Window()),
            ), 0.9
        if _INCIDENTS.search(low):
            over = re.search(r"\b(?:resolved|closed|past|history|were|was|happened|had)\b", low)
            shown = IncidentStep(
                title="incidents", service=service, active_only=not over and window is None,
                window=window or Window(last_s=86400.0),
            )  # fmt: skip
            if not _HAPPENED.search(low):
                return (shown,), 0.85
            return (shown, ChangeStep(title="changes", service=service, window=shown.window)), 0.8
        return None

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
        if read.back_s is not None and not flipped:
            back = CompareStep(title=title, promql=text, unit=unit, bad=bad, back_s=read.back_s, window=window)
            return back, caveats, doubt
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

    def _topic(self, text: str, services: Mapping[str, str]) -> tuple[str, list[str]]:
        """The question without names of things, which are slots, misspelled words put right, and notes on those."""
        kept, notes = [], []
        text = _GROUPING.sub(" ", text)
        named = any(word in services for word in raw_tokens(text))
        for word in raw_tokens(text):
            if word in services or (named and word in ("service", "services")) or word in _METHODS:
                continue
            if self._index.knows(word) or not content(word):
                kept.append(word)
            elif _NAMED.match(word) is None:
                right = scope.spelled(word, self._index.vocabulary)
                kept.append(right or word)
                if right:
                    notes.append(f"I read '{word}' as '{right}'.")
        return " ".join(kept), notes

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
        if found and not any(self._index.knows(w) for w in raw_tokens(read.rest)):
            return _foreign(scope.FOREIGN)
        if not found and content(read.rest) and not near:
            return _foreign(scope.FOREIGN)
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
    r"|(?:everything|all|things|we) (?:is |are )?(?:ok|okay|fine|healthy|alright|good|up|running|working|green)\b"
    r"|what(?:'s|s| is) (?:broken|wrong|going on|happening)(?! with)|are we ok|what (?:all )?happened)\b"
    r"|^\W*status\W*$"
)
_HAPPENED = re.compile(r"\bwhat (?:all )?happened\b")
_NOT_SERVICES = group("kinds")
"""Names of scrape jobs and the like that are words for kinds of things."""
_METHODS = frozenset(["post", "put", "patch", "delete", "head", "options"])
CHANGED = group("change")
AROUND_CHANGE = group("around change")
"""What may stand beside a word of change in a question about deploys and configuration, and nothing else."""
_EXPLAIN = re.compile(
    r"\b(wrong|why|root cause|investigate|diagnose|troubleshoot|debug|explain|what happened|problem|issues?|broken"
    r"|going on|cause|failing|crash\w*|down|up with|healthy|ok|okay|matter)\b"
)
_GROUPING = re.compile(
    r"\b(?:per|by|for each|for every)\s+(?:http\s+)?(?:services?|jobs?|instances?|routes?|endpoints?|paths?|urls?"
    r"|methods?"
    r"|status(?:\s+codes?)?|codes?|queues?)\b"
)
_NAMED = re.compile(r"^[a-z][\w.:/-]*\d[\w.:/-]*$|^[a-z][\w]*[-/][\w.:/-]+$")


_BENT = re.compile(r"\b(?:not|n't|never|without|except|besides|excluding|other than|neither|nor|both)\b|n't\b")
"""Words that turn a question into another one, though they are no part of what is measured."""


def _honoured(asked: Shape | None, step: PlanStep) -> bool:
    """Whether the step has the shape that was asked for, where another one would be another question."""
    if asked in ("change", "age", "forecast") and isinstance(step, MetricStep):
        return step.shape == asked
    return True


def _foreign(said: str) -> Plan:
    return Plan(intent="clarify", confidence=0.05, planner=NAME, clarify=said, suggestions=scope.EXAMPLES)


def _logs(question: Question, read: _Read, service: str) -> LogStep:
    low = read.rest.lower()
    error = re.search(r"\berrors?|exceptions?|stack ?traces?|fail\w*", low)
    warning = re.search(r"\bwarn\w*", low)
    patterns = re.search(r"\bpatterns?|templates?|most (?:common|frequent)|top\b", low)
    return LogStep(
        title="log lines" + (f" of {service}" if service else ""), service=service, contains=_quoted(question.text),
        min_severity=17 if error else 13 if warning else 0, patterns=bool(patterns), window=read.window or Window(),
    )  # fmt: skip


_LOG_WORDS = group("log")


def _logs_confidence(words: set[str], service: str, rest: str) -> float:
    if words <= _LOG_WORDS or _quoted(rest):
        return 0.9
    return 0.8 if service else 0.62


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
