"""Words for "what is wrong with X": the incident and its causes, or that there is none, with the figures behind it."""

from __future__ import annotations

from aiops.agent.found import Found, named
from aiops.agent.references import plain
from aiops.core.evidence import Evidence, EvidenceState, Hypothesis
from aiops.core.incident import Incident
from aiops.core.query import ExplainStep

KEPT_SHARE = 0.2
REASONS = 3
WORTH_A_LINE = 0.01
WORSE = 1.5


def explain(found: Found) -> str:
    step = found.step
    assert isinstance(step, ExplainStep)
    by_kind: dict[str, list[Evidence]] = {}
    for e in found.evidence:
        by_kind.setdefault(e.kind, []).append(e)
    parts: list[str] = []
    head = by_kind.get("incident", [None])[0]
    if head is not None and found.incident is not None:
        parts.append(_incident(found.incident, head, step.service))
    elif head is not None:
        who = plain(step.service) or "any service"
        text = f"**No open incident** concerns {who} or what it calls [{head.id}]."
        others = [i for i, f in enumerate(head.figures) if f.name == "elsewhere"]
        if others:
            listed = "; ".join(
                f"{{{head.id}.f{i}.label.incident}} on {{{head.id}.f{i}.label.service}} since {{{head.id}.f{i}}}"
                for i in others
            )
            text += f" Open elsewhere: {listed}."
        parts.append(text)
    if figures := _red(by_kind.get("compare", []), has_incident=found.incident is not None, service=step.service):
        parts.append(figures)
    if changed := _changes(by_kind.get("change", [])):
        parts.append(changed)
    if logs := _logs(by_kind.get("log", [])):
        parts.append(logs)
    return "\n\n".join(parts)


def _incident(incident: Incident, e: Evidence, service: str) -> str:
    opened = named(e, "opened")
    state = "is open" if incident.active else "was resolved"
    lines = []
    if service and incident.service == service:
        lines.append(f"**{plain(service)} has an incident that {state}** since {{{e.id}.f{opened}}} "
                     f"({{{e.id}.f{opened}.age}} ago): {plain(incident.title)} [{e.id}].")  # fmt: skip
    else:
        of = f" on {{{e.id}.f{opened}.label.service}}" if incident.service else ""
        lines.append(f"**An incident{of} {state}** since {{{e.id}.f{opened}}} ({{{e.id}.f{opened}.age}} ago)"
                     + (f" and touches {plain(service)}" if service else "")
                     + f": {plain(incident.title)} [{e.id}].")  # fmt: skip
    causes = [i for i, f in enumerate(e.figures) if f.name == "cause"]
    if causes and incident.clear_cause:
        lines.append("**Most likely cause:** " + _cause(e, causes[0], incident))
    elif causes:
        lines.append("**No clear cause.** The first suspect: " + _cause(e, causes[0], incident))
    else:
        lines.append("**No clear cause** has been found yet.")
    for i in (i for i in causes[1:3] if e.figures[i].value >= WORTH_A_LINE):
        lines.append(f"Less likely: {{{e.id}.f{i}.label.service}} ({{{e.id}.f{i}}}).")
    if incident.simulated:
        lines.append("This is a simulated fault.")
    return "\n".join(f"- {line}" if n else line for n, line in enumerate(lines))


def _cause(e: Evidence, i: int, incident: Incident) -> str:
    """One cause: its share, why (the ranking's reasons, or figures before and after), since when, its way here."""
    figure = e.figures[i]
    labels = dict(figure.labels)
    candidate = next((c for c in incident.candidates if c.service == labels.get("service")), None)
    text = f"**{{{e.id}.f{i}.label.service}}** ({{{e.id}.f{i}}} of the blame)"
    nearby = {f.name: n for n, f in enumerate(e.figures) if f.labels == figure.labels}
    reasons = candidate.reasons[:REASONS] if candidate else ()
    measured = any(c.isdigit() for r in reasons for c in r)
    if not measured and labels.get("metric") and "before" in nearby and "after" in nearby:
        text += (f", {{{e.id}.f{i}.label.metric}} went from {{{e.id}.f{nearby['before']}}} "
                 f"to {{{e.id}.f{nearby['after']}}}")  # fmt: skip
    if reasons:
        text += ": " + "; ".join(plain(r, 200) for r in reasons)
    if "first deviation" in nearby:
        text += f"; first at {{{e.id}.f{nearby['first deviation']}}}"
    if " → " in labels.get("path", ""):
        text += f"; it reaches the symptom by {{{e.id}.f{i}.label.path}}"
    if candidate and candidate.change and candidate.change not in reasons:
        text += f"; near it: {plain(candidate.change)}"
    return text + "."


def _red(compares: list[Evidence], *, has_incident: bool, service: str) -> str:
    rows, worse = [], []
    for e in compares:
        if len(e.figures) < 2:
            continue
        now, before = e.figures[0], e.figures[1]
        rows.append(f"- {plain(e.title)}: {{{e.id}.f0}} now, {{{e.id}.f1}} before [{e.id}]")
        if before.value > 0 and now.value / before.value > WORSE and "rate" not in e.title:
            worse.append(e.title)
    if not rows:
        return ""
    if has_incident:
        head = (
            f"**Requests to {plain(service)}, now and before the onset:**"
            if service
            else "**Requests, now and before:**"
        )
    elif worse:
        head = "But these got worse than before:"
    else:
        head = "Its requests look as they did before:"
    return head + "\n" + "\n".join(rows)


def _changes(changes: list[Evidence]) -> str:
    if not changes:
        return ""
    e = changes[0]
    if e.state is not EvidenceState.OK:
        return f"**What changed:** no deploy or configuration change is known since shortly before [{e.id}]."
    rows = [f"- {{{e.id}.f{i}}} {plain(line.raw, 160)}" for i, line in enumerate(e.lines[:5])]
    return f"**What changed** [{e.id}]:\n" + "\n".join(rows)


def _logs(logs: list[Evidence]) -> str:
    if not logs or logs[0].state is not EvidenceState.OK:
        return ""
    e = logs[0]
    rows = [f"- {{{e.id}.f{i}}} × {plain(line.raw, 160)}" for i, line in enumerate(e.lines[:3])]
    return f"**{plain(e.title[:1].upper() + e.title[1:])}** [{e.id}]:\n" + "\n".join(rows)


def hypotheses(found: Found) -> list[Hypothesis]:
    """Causes kept and dropped, with the reason."""
    if found.incident is None:
        return []
    ids = tuple(e.id for e in found.evidence if e.kind == "incident")
    out = []
    for n, c in enumerate(found.incident.candidates[:5]):
        kept = (n == 0 and found.incident.clear_cause) or (c.share >= KEPT_SHARE and found.incident.clear_cause)
        why = "; ".join(c.reasons[:2]) or ("the strongest deviation" if kept else "its share is too small")
        what = f" ({c.metric})" if c.metric else ""
        out.append(Hypothesis(plain(f"{c.service}{what}: {why}", 300), kept, c.share, ids))
    return out
