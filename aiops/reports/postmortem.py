"""A draft of a postmortem from an incident's own record; what only people know is left as questions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from aiops.core.incident import Incident
from aiops.incidents.precedents import Precedent
from aiops.incidents.wording import cause_line, cause_summary, headline
from aiops.reports.markdown import escape

NEWS = frozenset({"opened", "acknowledged", "resolved", "reopened", "merged", "split", "note", "assigned", "attributed",
                  "causes ranked", "told", "muted", "audible again", "signal joined", "signal ended"})  # fmt: skip


def markdown(incident: Incident, zone: str = "UTC", past: Sequence[Precedent] = ()) -> str:
    """Markdown with every outside text escaped."""
    where = ZoneInfo(zone)
    lines = [f"# Postmortem of {incident.id}: {_safe(incident.title)}", ""]
    if incident.simulated:
        lines += ["*Simulated.*", ""]
    lines += ["*A draft from the incident's record. Add what it cannot know; times are "
              f"{escape(where.key)}.*", "", "## Summary", ""]  # fmt: skip
    lines += [f"- {name}: {value}" for name, value in _facts(incident, where)]
    lines += ["", "## Impact", "", *_impact(incident), ""]
    lines += ["## Cause", "", _safe(cause_summary(incident)), ""]
    for candidate in incident.candidates[:3]:
        lines.append(f"- {_safe(candidate.service)} ({candidate.share:.0%}): {_safe(cause_line(candidate))}")
        lines += [f"  - {_safe(reason)}" for reason in candidate.reasons[:4]]
        if candidate.change:
            lines.append(f"  - change near the onset: {_safe(candidate.change)}")
        if candidate.query:
            lines.append(f"  - `{candidate.query.replace('`', chr(39))}`")
    lines += ["", "## Timeline", "", *_timeline(incident, where), "", "## What was done", ""]
    lines += [f"- {_safe(e.actor)}: {_safe(e.detail)}" for e in incident.timeline if e.event == "note"]
    lines += ["- Which step ended it, and how was that known?", ""]
    if past:
        lines += ["## Seen before", ""]
        for found in past:
            lines.append(f"- {found.incident.id} ({found.score:.0%} alike): {_safe(found.incident.title)}")
            lines += [f"  - {_safe(ending)}" for ending in found.ended_by]
        lines.append("")
    lines += ["## Questions", "", "- Why was it possible?", "- Why was it not seen earlier?",
              "- What would have made it end sooner?", "", "## Actions", "", "| action | owner | due |",
              "|---|---|---|", "| | | |"]  # fmt: skip
    return "\n".join(lines) + "\n"


def _facts(incident: Incident, zone: ZoneInfo) -> list[tuple[str, str]]:
    began = min((s.alert.starts_ms for s in incident.signals), default=incident.opened_ms)
    acknowledged = next((e.time_ms for e in incident.timeline if e.event == "acknowledged"), None)
    told = next((e.time_ms for e in incident.timeline if e.event == "told"), None)
    facts = [
        ("severity", incident.severity.value),
        ("service", _safe(incident.service) or "unknown"),
        ("first signal", _time(began, zone)),
        ("opened", f"{_time(incident.opened_ms, zone)} ({_minutes(began, incident.opened_ms)} after the first signal)"),
    ]
    if told is not None:
        facts.append(("first told", f"{_time(told, zone)} ({_minutes(began, told)})"))
    if acknowledged is not None:
        facts.append(("acknowledged", f"{_time(acknowledged, zone)} ({_minutes(began, acknowledged)})"))
    if incident.resolved_ms is not None:
        facts.append(("resolved", f"{_time(incident.resolved_ms, zone)} ({_minutes(began, incident.resolved_ms)})"))
    return facts


def _impact(incident: Incident) -> list[str]:
    lines = [f"- {_safe(headline(s.alert))}" for s in incident.signals[:10]]
    if len(incident.signals) > 10:
        lines.append(f"- and {len(incident.signals) - 10} more signals")
    if incident.affected:
        lines.append(f"- services that depend on the cause: {_safe(', '.join(incident.affected))}")
    return [*lines, "- How many users noticed, and what did they see?"]


def _timeline(incident: Incident, zone: ZoneInfo) -> list[str]:
    rows = ["| time | who | what |", "|---|---|---|"]
    for entry in incident.timeline:
        if entry.event in NEWS:
            what = f"{entry.event}: {entry.detail}" if entry.detail else entry.event
            rows.append(f"| {_time(entry.time_ms, zone)} | {_cell(entry.actor)} | {_cell(what)} |")
    return rows


def _safe(text: str) -> str:
    return escape(" ".join(text.split())[:500])


def _cell(text: str) -> str:
    return _safe(text)


def _time(ms: int, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(ms / 1000, zone).strftime("%Y-%m-%d %H:%M:%S")


def _minutes(start_ms: int, end_ms: int) -> str:
    seconds = max(0, end_ms - start_ms) / 1000
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
