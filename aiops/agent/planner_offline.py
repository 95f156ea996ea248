"""The offline planner: concept table, live catalogue, slots. No key, no model, never wrong and sure.

normalise -> intent -> concepts by words -> shape and slots -> PromQL from a skeleton -> confidence, or asking back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from aiops.agent import (
    compound,
    intents,
    money,
    other_steps,
    scope,
    shapes,
    skeletons,
    slots,
    time_phrases,
    tool_questions,
)
from aiops.agent.catalogue import Catalogue, KnownCatalogue, fold_name, resolve
from aiops.agent.concepts import Concept, Form, load_concepts
from aiops.agent.retrieval import ConceptIndex, Match, MetricIndex
from aiops.agent.words import STOP, content, group, raw_tokens
from aiops.core.errors import TransientError
from aiops.core.query import (
    CompareStep,
    ForecastStep,
    MetricStep,
    Plan,
    PlanStep,
    Question,
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
WHEN_HORIZON_S = 7 * 86400.0
"""How far ahead is looked for a question that asks when, and not whether by some time."""
CLEAR = 0.85
CLEAR_MARGIN = 0.1

LastDeploy = Callable[[str], int | None]
"""Time in ms UTC of a service's latest deploy ("" means any), ``None`` when there is none."""


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
        tools: Mapping[str, Sequence[str]] | None = None,
    ) -> Plan:
        """A plan, or one without steps that asks back or abstains. Raises what the catalogue raises.

        Args:
            services: names known from traces and logs beside those of the metrics.
            bill: what the stored bills hold, by column, read only for a question about money.
            tools: names of read-only tools by what they look into.
        """
        known = tuple(services)
        whole = self._one(question, catalogue, last_deploy, known, bill, tools or {})
        asked = compound.parts(question.text)
        if not asked or whole.intent == "cost" or whole.concept == tool_questions.KUBERNETES:
            return whole
        plans = [self._one(replace(question, text=text), catalogue, last_deploy, known, bill, {}) for text in asked]
        return compound.joined(whole, plans, quantiles=compound.of_quantiles(question.text))

    def _one(
        self,
        question: Question,
        catalogue: Catalogue,
        last_deploy: LastDeploy | None,
        services: Iterable[str],
        bill: Callable[[], money.Bill] | None,
        tools: Mapping[str, Sequence[str]],
    ) -> Plan:
        if said := scope.refusal(question.text):
            return _foreign(said)
        if scope.asks_for_help(question.text):
            return Plan(intent="discover", confidence=0.9, planner=NAME, clarify=scope.HELP, suggestions=scope.EXAMPLES)
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
        service = next((known[w] for w in raw_tokens(read.text) if w in known), "") or self._blamed(read, catalogue)
        topic, spelling = self._topic(read.rest, known)
        notes += spelling
        found = self._index.search(topic, 12)
        usable = [(m, form) for m in found if (form := _form(m.concept, metrics)) is not None]
        named = _values_named(topic, usable, catalogue, self._index.knows, intents.may_only_name(read.text))
        if named:
            topic = " ".join(w for w in raw_tokens(topic) if w not in named)
            found = self._index.search(topic, 12)
            usable = [(m, form) for m in found if (form := _form(m.concept, metrics)) is not None]
        usable = _with_label(usable, named | {service.lower()} - {""}, catalogue)
        looked = tool_questions.read(question, read.rest, read.window, intent, known, tools)
        if looked is not None and looked.only:
            return _looked(looked, intent, notes)
        if intent == "cost":
            paid = money.read(question, read.rest, read.window, read.back_s, bill() if bill else {})
            special: tuple[tuple[PlanStep, ...], float] | None = None
            if paid.step is not None:
                special = (paid.step,), paid.confidence
            elif not (intents.may_only_name(question.text) and usable and usable[0][0].score > METRIC_WINS):
                return Plan(intent=intent, confidence=0.1, planner=NAME, clarify=paid.clarify)
        else:
            special = other_steps.read(question, read.rest, read.window, intent, service, topic)
        if special is not None and not (
            special[1] < ACCOUNTED and intent in _DOUBTFUL and usable and usable[0][0].score > METRIC_WINS
        ):
            steps, confidence = special
            return Plan(
                steps=steps, intent=intent, confidence=confidence, sure=confidence >= SURE, planner=NAME,
                concept=steps[0].kind, notes=tuple(notes),
            )  # fmt: skip
        if looked is not None and not (usable and usable[0][0].score > METRIC_WINS):
            return _looked(looked, intent, notes)
        if down is not None:
            raise down
        words = content(topic)
        if not usable or scope.is_vague(words):
            return self._abstain(read, intent, found, metrics)
        best, form = usable[0]
        if scope.is_thin(words, self._index.words_of(best.concept)):
            return (
                self._abstain(read, intent, found, metrics) if _unmeasured(found, metrics) else _foreign(scope.FOREIGN)
            )
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
        if clear and not shapes.honoured(read.shape, step):
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
    def _read(question: Question, last_deploy: LastDeploy | None) -> tuple[shapes.Read, list[str]]:
        phrase = time_phrases.find(question.text, question.asked_ms, question.zone)
        window, notes = phrase.window, [phrase.note] if phrase.note else []
        if phrase.since_deploy:
            deployed = last_deploy("") if last_deploy else None
            if deployed is not None and deployed < question.asked_ms:
                window = Window(start_ms=deployed, words="since the last deploy")
            else:
                notes.append("No deploy is known, so the last hour is shown.")
        rest, back = phrase.rest, phrase.back_s
        if back is None and window is None and _WORSENING.search(rest):
            back = 86400.0
            notes.append("What it was a day ago is taken to compare with.")
            rest = _WORSENING.sub(lambda m: next((g for g in m.groups() if g), ""), rest)
        limit = slots.threshold_of(rest)
        used = slots.asks_used(rest)
        return (
            shapes.Read(question.text, question.asked_ms, rest, window, phrase.horizon_s, back,
                  slots.shape_of(rest if back else question.text), limit,
                  slots.quantile_of(rest), used),
            notes,
        )  # fmt: skip

    @staticmethod
    def _services(catalogue: Catalogue, services: Iterable[str]) -> dict[str, str]:
        """Live services by their lower-case name."""
        known = {name.lower(): name for name in services}
        for metric in (*_REQUESTS, "up"):
            table = catalogue.labels(metric) or {}
            for label in skeletons.SERVICE_LABELS:
                for value in table.get(label, ()):
                    known.setdefault(value.lower(), value)
                    known.setdefault(value.rsplit("/", 1)[-1].lower(), value.rsplit("/", 1)[-1])
        return {word: name for word, name in known.items() if word not in _NOT_SERVICES and word not in STOP}

    @staticmethod
    def _blamed(read: shapes.Read, catalogue: Catalogue) -> str:
        """A live service that the question asks the reason of, also where its name is a word for a kind of thing."""
        said = _BLAMED.search(read.text.lower())
        name = next((g for g in said.groups() if g), "") if said else ""
        for metric in _REQUESTS if name else ():
            table = catalogue.labels(metric) or {}
            for label in skeletons.SERVICE_LABELS:
                if found := next((v for v in table.get(label, ()) if v.lower() == name), ""):
                    return found
        return ""

    # ------------------------------------------------------------ metrics

    def _step(
        self, concept: Concept, form: Form, read: shapes.Read, catalogue: Catalogue
    ) -> tuple[PlanStep, list[str], float]:
        """The step, what the answer has to state, and a factor on the confidence."""
        caveats: list[str] = []
        doubt = 1.0
        known = {m: catalogue.labels(m) for m in form.metrics}
        shape = shapes.shape_for(concept, form, read)
        text, unit, bad = shapes.skeleton_of(concept, form, shape)
        flipped = concept.used and shape not in ("forecast", "change") and shapes.turned(read)
        if flipped:
            text, bad = f"1 - {text}", "high"
        number = False
        if (counted := shapes.counted(text, read)) is not None:
            text, unit, bad, number = counted, "1", "", True
        horizon = read.horizon_s
        if shape == "forecast" and horizon is None and re.search(r"\b(?:when|how (?:long|soon))\b", read.text.lower()):
            horizon = WHEN_HORIZON_S
        text = skeletons.fill(text, known, read.window, horizon, read.quantile)
        if group := slots.group_of(read.rest, known):
            text = skeletons.regroup(text, group)
        labels = slots.labels_of(read.text, known, spoken={w for p in concept.say for w in raw_tokens(p)})
        for name, values in labels.several:
            text = skeletons.select(text, form.metrics, name, "|".join(re.escape(v) for v in values), "=~")
        for name, value in labels.equal:
            text = skeletons.select(text, form.metrics, name, value)
        if labels.unknown:
            doubt = 0.5
            near = f" Did you mean {', '.join(labels.near)}?" if labels.near else ""
            caveats.append(f"No series has the value '{labels.unknown[0]}', so it was not applied.{near}")
        window = read.window or Window()
        title = concept.title + (" (share in use)" if flipped else ", as a number over the window" if number else "")
        if shape == "forecast":
            ahead = horizon or 4 * 3600.0
            return ForecastStep(title=title, promql=text, unit=unit, horizon_s=ahead, window=window), caveats, doubt
        if read.back_s is not None and not flipped:
            back = CompareStep(title=title, promql=text, unit=unit, bad=bad, back_s=read.back_s, window=window)
            return back, caveats, doubt
        if read.limit is None and _LEAST.search(read.text.lower()):
            step = MetricStep(title=title, promql=text, shape="top", unit=unit, bad="low", window=window,
                              limit=slots.top_of(read.rest) or 10)  # fmt: skip
            return step, caveats, doubt
        threshold = shapes.threshold_for(concept, read, shape, flipped, caveats)
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
        text = _SUBJECT.sub(" ", _GROUPING.sub(" ", text))
        if re.search(r"\b(?:network|traffic|bandwidth|bytes|throughput)\b", text):
            text = re.sub(r"\b(network|traffic|bandwidth|bytes|throughput) out\b", r"\1 outbound", text)
            text = re.sub(r"\b(network|traffic|bandwidth|bytes|throughput) in\b", r"\1 inbound", text)
        named = any(word in services for word in raw_tokens(text))
        for word in raw_tokens(text):
            if word in services or (named and word in ("service", "services")) or word in _METHODS:
                continue
            if self._index.knows(word) or not content(word):
                kept.append(word)
            elif slots.quantile_of(word) is not None:
                kept.append("p95")
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

    def _abstain(
        self, read: shapes.Read, intent: str, found: list[Match], metrics: Mapping[str, MetricMetadata]
    ) -> Plan:
        near = tuple(n for n, _ in self._names(metrics).search(read.rest, 5))
        missing = _unmeasured(found, metrics)
        clarify = ""
        knows = any(self._index.knows(w) for w in raw_tokens(read.rest))
        if missing is not None:
            needs = ", ".join(missing.metrics)
            clarify = f"I don't know: nothing here measures {missing.title}. It needs {needs}."
        elif intent == "clarify":
            clarify = ASK_BACK
        elif (found and not knows) or (not found and content(read.rest) and not near):
            return _foreign(scope.FOREIGN)
        elif not content(read.rest):
            clarify = ASK_BACK
        elif not metrics:
            clarify = "There are no metrics of the last hour to answer this from."
        return Plan(
            intent=intent, confidence=0.1, planner=NAME, clarify=clarify[:300], candidates=near,
            suggestions=tuple(m.concept.title for m in found[:3] if _form(m.concept, metrics)),
        )  # fmt: skip


_REQUESTS = ("http_server_request_duration_seconds_count", "http_requests_total")
_BLAMED = re.compile(
    r"\b(?:wrong|happening|happened|going on|up|problems?|issues?|trouble) (?:with|in|on) (?:the |our )?([\w.-]+)"
    r"|\bwhy (?:is|are|does|did|was) (?:the |our )?([\w.-]+)"
)
_SUBJECT = re.compile(
    r"^\W*(?:(?:which|what|any|is any|are any|does any|do any)\s+services?|services)\s+"
    r"(?=(?:has|have|with|is|are|gets?|that|slower|faster|over|above|below)\b.*\b(?:errors?|latency|slow\w*|rate|traffic"
    r"|requests?|5xx|4xx)\b)"
)
"""A question about services by a measure of theirs: the word itself says only whose it is."""
ASK_BACK = "I don't know what you mean: which service, host or metric?"
_NOT_SERVICES = group("kinds")
"""Names of scrape jobs and the like that are words for kinds of things."""
_METHODS = frozenset(["post", "put", "patch", "delete", "head", "options"])
_GROUPING = re.compile(
    r"\b(?:per|by|for each|for every)\s+(?:http\s+)?(?:services?|jobs?|instances?|routes?|endpoints?|paths?|urls?"
    r"|methods?"
    r"|status(?:\s+codes?)?|codes?|queues?)\b"
)
_WORSENING = re.compile(
    r"\bgetting\s+(?:(slow)er|(hot)ter|(busi)er|worse|better|bigger|higher|lower|faster)\b"
    r"|\b(?:(slow)ing down|degrading)\b"
)
_LEAST = re.compile(r"\b(?:least|lowest|fewest|smallest|quietest|idlest)\b")
_NAMED = re.compile(r"^[a-z][\w.:/-]*\d[\w.:/-]*$|^[a-z][\w]*[-/][\w.:/-]+$")


_BENT = re.compile(r"\b(?:not|n't|never|without|except|besides|excluding|other than|neither|nor|both)\b|n't\b")
"""Words that turn a question into another one, though they are no part of what is measured."""


def _foreign(said: str) -> Plan:
    return Plan(intent="clarify", confidence=0.05, planner=NAME, clarify=said, suggestions=scope.EXAMPLES)


def _looked(looked: tool_questions.Looked, intent: str, notes: Sequence[str]) -> Plan:
    return Plan(
        steps=looked.steps, intent=intent, confidence=looked.confidence, sure=looked.confidence >= SURE, planner=NAME,
        concept=tool_questions.KUBERNETES, notes=tuple(notes),
    )  # fmt: skip


def _form(concept: Concept, metrics: Mapping[str, MetricMetadata]) -> Form | None:
    """The first way to measure a concept whose metrics all exist."""
    if concept.step != "metric":
        return None
    return next((f for f in concept.forms if all(resolve(metrics, m) for m in f.metrics)), None)


def _unmeasured(found: Sequence[Match], metrics: Mapping[str, MetricMetadata]) -> Concept | None:
    """The concept that the question is about, where none of its metrics exists."""
    top = next(iter(found), None)
    if top is None or top.score <= 0.5 or top.recall <= 0.6 or top.concept.step != "metric":
        return None
    return top.concept if _form(top.concept, metrics) is None else None


def _with_label(
    usable: list[tuple[Match, Form]], named: frozenset[str], catalogue: Catalogue
) -> list[tuple[Match, Form]]:
    """Concepts whose live series know one of the named values go before those whose series do not."""
    if not named:
        return usable
    out = []
    for match, form in usable[:6]:
        tables = [t for m in form.metrics if (t := catalogue.labels(m)) is not None]
        has = any(v.lower() in named for t in tables for values in t.values() for v in values)
        out.append((match if has or not tables else replace(match, score=match.score * NO_SUCH_LABEL), form))
    return sorted(out, key=lambda pair: -pair[0].score)


def _values_named(
    topic: str, usable: list[tuple[Match, Form]], catalogue: Catalogue, knows: Callable[[str], bool], money_too: bool
) -> frozenset[str]:
    """Words that are live label values of what the question seems to be about: they choose series, not a concept.

    Words that concepts are spoken of with stay, except names that look like money where no money is asked for.
    """
    open_words = {w for w in raw_tokens(topic) if not knows(w) or (money_too and intents.may_be_name(w))}
    if not open_words:
        return frozenset()
    metrics = {m for _, form in usable[:3] for m in form.metrics}
    tables = [t for m in sorted(metrics) if (t := catalogue.labels(m)) is not None]
    return frozenset(open_words & {v.lower() for t in tables for values in t.values() for v in values})


def _same_answer(a: Concept, b: Concept) -> bool:
    return a.value == b.value and a.quantile == b.quantile


def _confidence(best: Match, margin: float) -> float:
    """From the score, how much of the question it covers, and the distance to the next different concept."""
    return min(0.95, best.score * (0.55 + 0.45 * best.recall) * (0.75 + min(margin, 0.25)))
