"""Writes the answer: sentences whose numbers, times and causes are references, filled in by code from evidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from aiops.agent import past, references
from aiops.agent.executor import Execution
from aiops.agent.explanation import explain, hypotheses
from aiops.agent.found import Found, named
from aiops.agent.references import code, plain
from aiops.agent.run_metrics import CONDITIONS
from aiops.agent.tool_answer import looked_up
from aiops.agent.units import moment
from aiops.core.evidence import Answer, Citation, Evidence, EvidenceState
from aiops.core.query import (
    ActionProposalStep,
    ChangeStep,
    CompareStep,
    CostStep,
    DiscoverStep,
    ExplainStep,
    ForecastStep,
    IncidentStep,
    LogStep,
    MetricStep,
    Plan,
    Question,
    ToolStep,
    TraceStep,
)

SHOWN = 10
DOUBT = 0.5
"""Factor on the confidence where what was read bears the answer badly, however well the question was understood."""


def write(
    question: Question,
    plan: Plan,
    execution: Execution,
    *,
    answer_id: str,
    now_ms: int,
    limits: Sequence[str] = (),
) -> Answer:
    """The answer to a plan that ran. Raises :class:`~aiops.agent.references.UnresolvedReference`."""
    parts = [part for found in execution.found if (part := _words(found))]
    evidence = execution.evidence
    if plan.clarify:
        parts.append(plain(plan.clarify, 300))
    if not plan.steps and not plan.clarify:
        parts.append(_abstained(plan))
    template = "\n\n".join([*parts, *_footer(evidence, question.zone)])
    text = references.fill(template, evidence, question.zone, now_ms)
    said = list(limits)
    said.extend(limit for found in execution.found for limit in found.limits)
    for note in plan.notes:
        if not references.unsupported(note, evidence, allowed=f"{question.text} {_queries(evidence)}"):
            said.append(note)
    if plan.steps and not plan.sure:
        said.append("I am not sure that this is what you asked for.")
    doubtful = any(found.doubtful for found in execution.found)
    said.extend(_threshold_notes(execution))
    cited = tuple(Citation(e.id, plain(e.title or e.kind)) for e in evidence)
    near = [f"metric {name}" for name in plan.candidates[:5]] if not plan.steps else []
    return Answer(
        id=answer_id,
        question=question.text,
        text=text,
        evidence=evidence,
        confidence=round(plan.confidence * (DOUBT if doubtful else 1), 3),
        sure=plan.sure and not doubtful,
        planner=plan.planner,
        answered_ms=now_ms,
        zone=question.zone,
        citations=cited,
        hypotheses=tuple(h for found in execution.found for h in hypotheses(found)),
        suggestions=tuple(dict.fromkeys([*plan.suggestions, *near])),
        limits=tuple(dict.fromkeys(said)),
        proposals=tuple(p for found in execution.found for p in found.proposals),
        plan=plan.brief(),
    )


def _queries(evidence: Sequence[Evidence]) -> str:
    return " ".join(e.query for e in evidence)


def _abstained(plan: Plan) -> str:
    text = "I don't know which measurement answers this, so I have not guessed."
    if plan.suggestions:
        text += " Did you mean " + ", or ".join(plain(s) for s in plan.suggestions[:3]) + "?"
    if plan.candidates:
        text += " Metrics that sound alike: " + ", ".join(code(c) for c in plan.candidates[:5]) + "."
    return text


def _footer(evidence: Sequence[Evidence], zone: str) -> list[str]:
    """One line on window, zone and age of the data; nothing where nothing was read."""
    states = (EvidenceState.OK, EvidenceState.NO_MATCH, EvidenceState.SOURCE_LATE)
    read = [e for e in evidence if e.state in states and e.kind != "tool"]
    if not read:
        return []
    first = min(read, key=lambda e: e.start_ms)
    last = max(read, key=lambda e: e.end_ms)
    span = f"{moment(first.start_ms, zone)} to {moment(last.end_ms, zone)}"
    line = f"_Window {span} {plain(zone)}"
    measured = [e for e in read if e.newest_ms is not None and e.kind in ("metric", "forecast", "compare")]
    if measured:
        line += f"; newest sample {{{max(measured, key=lambda e: e.newest_ms or 0).id}.age}} old"
    return [line + "._"]


def _threshold_notes(execution: Execution) -> list[str]:
    notes = []
    for found in execution.found:
        step = found.step
        if isinstance(step, MetricStep) and step.threshold is not None and step.threshold.default:
            why = f": {step.threshold.note}" if step.threshold.note else ""
            notes.append(f"You named no threshold, so mine was used{why}.")
        for e in found.evidence:
            if e.truncated:
                notes.append(f"Not everything is shown under {e.id}.")
    return notes


def _words(found: Found) -> str:
    step = found.step
    for kind, writer in _WRITERS:
        if isinstance(step, kind):
            return writer(found)
    return _lines(found, "Found")


# ---------------------------------------------------------------- states


def _trouble(e: Evidence) -> str:
    """The sentence for evidence that is not there; empty when there is some."""
    name = plain(e.title or e.kind)
    if e.state is EvidenceState.SOURCE_DOWN:
        return f"**The source did not answer:** {name} could not be read ({{{e.id}.note}}). [{e.id}]" if e.note else (
            f"**The source did not answer:** {name} could not be read. [{e.id}]")  # fmt: skip
    if e.state is EvidenceState.DOES_NOT_EXIST:
        return (
            f"**This is not measured here:** {{{e.id}.note}}. [{e.id}]"
            if e.note
            else f"**{name} is not measured here.** [{e.id}]"
        )
    if e.state is EvidenceState.SOURCE_LATE:
        when = f", the newest sample is of {{{e.id}.newest}} ({{{e.id}.age}} ago)" if e.newest_ms is not None else ""
        return f"**The data is late:** {name}{when}, so this says nothing of now. [{e.id}]"
    return ""


def _rows(e: Evidence, indices: Sequence[int]) -> str:
    return "\n".join(f"- {{{e.id}.f{i}.of}}: {{{e.id}.f{i}}}{_beside(e, i)}" for i in indices)


def _beside(e: Evidence, i: int) -> str:
    """What stands beside a figure of a whole window: its mean, or its extreme."""
    following = e.figures[i + 1].name if i + 1 < len(e.figures) else ""
    if following == past.MEAN:
        return f" at the extreme, {{{e.id}.f{i + 1}}} on average"
    if following in (past.HIGHEST, past.LOWEST):
        return f" on average, {{{e.id}.f{i + 1}}} at the {following}"
    return ""


# ---------------------------------------------------------------- metrics


def _metric(found: Found) -> str:
    step, e = found.step, found.evidence[0]
    assert isinstance(step, MetricStep | ForecastStep)
    trouble = _trouble(e)
    data = [i for i, f in enumerate(e.figures) if not f.name][:SHOWN]
    if not data:
        if trouble:
            return trouble
        why = f" ({{{e.id}.note}})" if e.note else ""
        return f"**No data matched** for {plain(step.title)}{why}. [{e.id}]"
    total, hits = named(e, "series looked at"), named(e, "matching series")
    limit = named(e, "threshold")
    threshold = step.threshold if isinstance(step, MetricStep) else None
    name = plain(step.title)
    if isinstance(step, ForecastStep):
        head = _forecast_head(found, e, name, total)
    elif threshold is None or limit is None:
        head = f"**{name[:1].upper()}{name[1:]}**, series looked at: {{{e.id}.f{total}}} [{e.id}]:"
    elif found.matched:
        words = CONDITIONS[threshold.op]
        head = (f"**{{{e.id}.f{hits}}} of {{{e.id}.f{total}}}** series ({name}) are {words} "
                f"{{{e.id}.f{limit}}} [{e.id}]:")  # fmt: skip
    else:
        words = CONDITIONS[threshold.op]
        side = (
            "lowest"
            if threshold.op in ("<", "<=") or (threshold.op in ("==", "!=") and step.bad == "low")
            else "highest"
        )
        head = (f"**None {words} {{{e.id}.f{limit}}}**: {name}, {{{e.id}.f{total}}} series looked at. "
                f"The {side} [{e.id}]:")  # fmt: skip
    body = head + "\n" + _rows(e, data)
    return f"{trouble}\n\n{body}" if trouble else body


def _forecast_head(found: Found, e: Evidence, name: str, total: int | None) -> str:
    ahead = f"in {{{e.id}.f{named(e, 'horizon')}}} from now"
    if found.matched is None:
        return f"**{name[:1].upper()}{name[1:]}** as a straight line has it {ahead} [{e.id}]:"
    if found.matched:
        hits = named(e, "matching series")
        counts = f"{{{e.id}.f{hits}}} of {{{e.id}.f{total}}}"
        return f"**{counts}** series ({name}) run out {ahead}, as a straight line has it [{e.id}]:"
    return f"**None runs out {ahead}**, as a straight line has it: {name}, the lowest expected values [{e.id}]:"


def _compare(found: Found) -> str:
    e = found.evidence[0]
    if not e.figures:
        why = f" ({{{e.id}.note}})" if e.note else ""
        return _trouble(e) or f"**No data matched** for {plain(e.title)}{why}. [{e.id}]"
    rows = [
        f"- {{{e.id}.f{i}.of}}: {{{e.id}.f{i}}} now, {{{e.id}.f{i + 1}}} before"
        for i, f in enumerate(e.figures)
        if f.name == "now"
    ]
    name = plain(e.title)
    return f"**{name[:1].upper()}{name[1:]}**, now and {{{e.id}.f{named(e, 'back')}}} earlier [{e.id}]:\n" + "\n".join(
        rows
    )


# ---------------------------------------------------------------- cost


def _cost(found: Found) -> str:
    step, e = found.step, found.evidence[0]
    assert isinstance(step, CostStep)
    if e.state is not EvidenceState.OK:
        none = {"anomalies": "**No unusual cost** in this window."}.get(
            step.what, "**No costs** are known for this window."
        )
        why = f" ({{{e.id}.note}})" if e.note else ""
        return _trouble(e) or f"{none}{why} [{e.id}]"
    if step.what == "forecast":
        i = {f.name: n for n, f in enumerate(e.figures)}
        of = f" for {', '.join(plain(value) for value in step.where.values())}" if step.where else ""
        head = (f"**{{{e.id}.f{i['expected']}}}** is expected for this month{of} (90 % between "
                f"{{{e.id}.f{i['lower']}}} and "
                f"{{{e.id}.f{i['upper']}}}); {{{e.id}.f{i['spent so far']}}} are spent so far. [{e.id}]")  # fmt: skip
        rows = [
            f"- budget {{{e.id}.f{n}.label.budget}}: {{{e.id}.f{n}}}, expected {{{e.id}.f{n + 1}}} "
            f"({{{e.id}.f{n}.label.state}})"
            for n, f in enumerate(e.figures)
            if f.name == "budget"
        ]
        return "\n".join([head, *rows])
    if step.what == "anomalies":
        rows = [
            f"- {{{e.id}.f{n + 3}}}: {{{e.id}.f{n}.of}} {{{e.id}.f{n}}} instead of {{{e.id}.f{n + 1}}} "
            f"({plain(f.name)})"
            for n, f in enumerate(e.figures)
            if f.name in ("spike", "step", "creep")
        ]
        return f"**Unusual cost** [{e.id}]:\n" + "\n".join(rows)
    return _cost_summary(step, e)


def _cost_summary(step: CostStep, e: Evidence) -> str:
    when = f" {plain(step.window.words)}" if step.window.words else ""
    days = named(e, "days")
    one = days is not None and e.figures[days].value == 1
    many = "" if one else "s"
    on = f" on {', '.join(plain(value) for value in step.where.values())}" if step.where else ""
    head = f"**{{{e.id}.f{named(e, 'total')}}}** was spent{on}{when}, over {{{e.id}.f{days}}} complete day{many}"
    before, change = named(e, "total before"), named(e, "change")
    if before is not None and change is not None:
        more = e.figures[change].value >= 0
        same = "the same day" if one else "the same days"
        head += f"; {same} {{{e.id}.f{named(e, 'days earlier')}}} days earlier: {{{e.id}.f{before}}}"
        head += f" (change {'+' if more else ''}{{{e.id}.f{change}}})"
    rows = []
    for i, f in enumerate(e.figures):
        if f.name != "cost":
            continue
        row = f"- {{{e.id}.f{i}.of}}: {{{e.id}.f{i}}}, {{{e.id}.f{i + 1}}} of all"
        if i + 2 < len(e.figures) and e.figures[i + 2].name == "before":
            row += f" (before: {{{e.id}.f{i + 2}}})"
        rows.append(row)
    return f"{head} [{e.id}].\n" + "\n".join(rows)


# ---------------------------------------------------------------- rows


def _lines(found: Found, head: str) -> str:
    e = found.evidence[0]
    if e.state is not EvidenceState.OK:
        why = f" ({{{e.id}.note}})" if e.note else ""
        return _trouble(e) or f"**Nothing matched**: {plain(e.query)}{why}. [{e.id}]"
    rows = "\n".join(f"- {plain(line.raw, 200)}" for line in e.lines[:SHOWN])
    return f"**{head}** [{e.id}]:\n{rows}" if rows else f"**{head}** [{e.id}]."


def _log(found: Found) -> str:
    e = found.evidence[0]
    if e.state is not EvidenceState.OK:
        return _lines(found, "")
    counts = [i for i, f in enumerate(e.figures) if f.name == "lines" and f.labels]
    if counts:
        rows = [f"- {{{e.id}.f{i}}} × {plain(e.lines[i].raw, 200)}" for i in counts[:SHOWN]]
        return f"**{plain(e.title or 'log patterns')}**, most frequent first [{e.id}]:\n" + "\n".join(rows)
    return _lines(found, f"{plain(e.query[:1].upper() + e.query[1:])}: {{{e.id}.f0}}, newest first")


def _trace(found: Found) -> str:
    e = found.evidence[0]
    if e.state is not EvidenceState.OK:
        return _lines(found, "")
    rows = [f"- {{{e.id}.f{i}}} {plain(line.raw, 160)}" for i, line in enumerate(e.lines[:SHOWN])]
    head = f"Spans: {{{e.id}.f{named(e, 'spans')}}}, failed: {{{e.id}.f{named(e, 'failed spans')}}}; the slowest"
    return f"**{head}** [{e.id}]:\n" + "\n".join(rows)


def _change(found: Found) -> str:
    e = found.evidence[0]
    if e.state is not EvidenceState.OK:
        return (
            f"**No changes** are known in this window. [{e.id}]" if e.state is EvidenceState.NO_MATCH else _trouble(e)
        )
    rows = [f"- {{{e.id}.f{i}}} {plain(line.raw, 160)}" for i, line in enumerate(e.lines[:SHOWN])]
    return f"**Changes: {{{e.id}.f{named(e, 'changes')}}}**, newest first [{e.id}]:\n" + "\n".join(rows)


def _incident(found: Found) -> str:
    step, e = found.step, found.evidence[0]
    assert isinstance(step, IncidentStep)
    if e.state is not EvidenceState.OK:
        active = " open" if step.active_only else " resolved" if step.resolved_only else ""
        of = f" of {plain(step.service)}" if step.service else ""
        return _trouble(e) or f"**No{active} incidents**{of}. [{e.id}]"
    rows = [
        f"- {{{e.id}.f{i}.label.incident}} ({{{e.id}.f{i}.label.status}}, {{{e.id}.f{i}.label.severity}}) "
        f"since {{{e.id}.f{i}}}: "
        f"{plain(line.raw, 160)}"
        for i, line in enumerate(e.lines[:SHOWN])
    ]
    head = "Open incidents" if step.active_only else "Resolved incidents" if step.resolved_only else "Incidents"
    return f"**{head}: {{{e.id}.f{named(e, 'incidents')}}}** [{e.id}]:\n" + "\n".join(rows)


def _discover(found: Found) -> str:
    step, e = found.step, found.evidence[0]
    assert isinstance(step, DiscoverStep)
    if e.state is not EvidenceState.OK:
        return _lines(found, "")
    if step.what == "services":
        names = [i for i, f in enumerate(e.figures) if f.name == "service"]
        text = ", ".join(f"{{{e.id}.f{i}.label.service}}" for i in names[:30])
        calls = "\n".join(f"- {plain(line.raw)}" for line in e.lines[:20])
        return f"**Services: {{{e.id}.f0}}** [{e.id}]: {text}\n{calls}".rstrip()
    rows = "\n".join(f"- {plain(line.raw, 160)}" for line in e.lines[:SHOWN])
    return f"**Metrics known: {{{e.id}.f0}}**; these fit best [{e.id}]:\n{rows}"


def _action(found: Found) -> str:
    e = found.evidence[0]
    if e.state is not EvidenceState.OK:
        return (
            f"**Nothing was proposed:** {{{e.id}.note}} [{e.id}]" if e.note else f"**Nothing was proposed.** [{e.id}]"
        )
    rows = [
        f"- {{{e.id}.f{i}.label.action}}: proposal {{{e.id}.f{i}.label.proposal}} of incident "
        f"{{{e.id}.f{i}.label.incident}}, until {{{e.id}.f{i}}}"
        for i in range(len(e.figures))
    ]
    return f"**Proposed, waiting for a person's approval** [{e.id}]:\n" + "\n".join(rows)


_WRITERS: tuple[tuple[Any, Callable[[Found], str]], ...] = (
    (MetricStep, _metric), (ForecastStep, _metric), (CompareStep, _compare), (CostStep, _cost), (LogStep, _log),
    (TraceStep, _trace), (ChangeStep, _change), (IncidentStep, _incident), (DiscoverStep, _discover),
    (ActionProposalStep, _action), (ExplainStep, explain), (ToolStep, looked_up),
)  # fmt: skip
