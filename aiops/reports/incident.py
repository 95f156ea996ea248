"""An incident for people: plain text, Markdown or HTML with causes, evidence, signals and timeline.

Text from telemetry appears in its display form, and escaped for the format it goes into.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from aiops.core.incident import CauseCandidate, Incident
from aiops.core.untrusted import Untrusted
from aiops.incidents.wording import cause_line, cause_summary, headline
from aiops.reports import render
from aiops.reports.cost import Picture
from aiops.reports.markdown import escape

SIGNALS = 12
TIMELINE = 30
CAUSES = 5


@dataclass(frozen=True, slots=True)
class _Cause:
    service: str
    share: float
    lines: tuple[str, ...]
    query: str


@dataclass(frozen=True, slots=True)
class _Line:
    time: str
    text: str
    reason: str = ""
    actor: str = ""


def text(incident: Incident, zone: str = "UTC") -> str:
    """Plain text without markup."""
    where = ZoneInfo(zone)
    mark = "  (SIMULATED)" if incident.simulated else ""
    lines = [f"{incident.id}  {_plain(incident.title)}{mark}", f"{_state(incident)}, {_span(incident, where)}"]
    lines += ["", _plain(cause_summary(incident), 400)]
    for cause in _causes(incident, where):
        lines.append(f"  {cause.share:>4.0%}  {cause.service}")
        lines += [f"        {line}" for line in cause.lines]
        if cause.query:
            lines.append(f"        query: {cause.query}")
    lines += ["", "Signals:", *(f"  {s.time}  {s.text}  ({s.reason})" for s in _signals(incident, where))]
    lines += ["", "Timeline:", *(f"  {t.time}  {t.text}  by {t.actor}" for t in _timeline(incident, where))]
    return "\n".join(lines) + "\n"


def markdown(incident: Incident, zone: str = "UTC") -> str:
    """Markdown with every outside text escaped."""
    where = ZoneInfo(zone)
    mark = " (**simulated**)" if incident.simulated else ""
    lines = [f"**{escape(incident.id)}: {escape(_plain(incident.title))}**{mark}", ""]
    lines += [f"{_state(incident)}, {escape(_span(incident, where))}", "", escape(_plain(cause_summary(incident), 400))]
    if incident.candidates:
        lines.append("")
    for cause in _causes(incident, where):
        lines.append(f"- **{escape(cause.service)}** {cause.share:.0%}")
        lines += [f"  - {escape(line)}" for line in cause.lines]
        if cause.query:
            lines.append(f"  - `{cause.query.replace('`', chr(39))}`")
    lines += ["", "**Signals**", "", *_items(_signals(incident, where), lambda x: x.reason)]
    lines += ["", "**Timeline**", "", *_items(_timeline(incident, where), lambda x: x.actor)]
    return "\n".join(lines) + "\n"


def html(incident: Incident, zone: str = "UTC", pictures: Sequence[Picture] = ()) -> str:
    """A page that stands alone."""
    where = ZoneInfo(zone)
    return render.html(
        "incident.html.j2",
        title=f"{incident.id}: {_plain(incident.title)}",
        incident=incident,
        facts=_span(incident, where),
        cause=_plain(cause_summary(incident), 400),
        candidates=_causes(incident, where),
        signals=_signals(incident, where),
        timeline=_timeline(incident, where),
        pictures=pictures,
    )


def _items(lines: Sequence[_Line], aside: Callable[[_Line], str]) -> list[str]:
    return [f"- {escape(x.time)} {escape(x.text)}" + (f" ({escape(aside(x))})" if aside(x) else "") for x in lines]


def _state(incident: Incident) -> str:
    taken = f" by {_plain(incident.assignee)}" if incident.assignee else ""
    return f"{incident.severity.value}, {incident.status.value}{taken}"


def _span(incident: Incident, zone: ZoneInfo) -> str:
    since = f"since {_time(incident.opened_ms, zone)}"
    if incident.resolved_ms is None:
        return f"{since} {zone.key}"
    minutes = (incident.resolved_ms - incident.opened_ms) / 60_000
    return f"{since}, resolved {_time(incident.resolved_ms, zone)} {zone.key} after {minutes:,.0f} min"


def _causes(incident: Incident, zone: ZoneInfo) -> list[_Cause]:
    return [
        _Cause(_plain(c.service), c.share, tuple(_plain(x, 300) for x in _reasons(c, zone)), _plain(c.query, 400))
        for c in incident.candidates[:CAUSES]
    ]


def _reasons(candidate: CauseCandidate, zone: ZoneInfo) -> list[str]:
    lines = [cause_line(candidate).partition(": ")[2]] if candidate.metric else []
    lines += list(candidate.reasons[:4])
    if candidate.first_deviation_ms is not None:
        lines.append(f"first deviation at {_time(candidate.first_deviation_ms, zone)}")
    if len(candidate.path) > 1:
        lines.append("path " + " → ".join(candidate.path))
    if candidate.change:
        lines.append(f"near: {candidate.change}")
    return [x for x in dict.fromkeys(lines) if x]


def _signals(incident: Incident, zone: ZoneInfo) -> list[_Line]:
    shown = incident.signals[:SIGNALS]
    lines = [
        _Line(_time(s.alert.starts_ms, zone), _plain(headline(s.alert), 240), reason=_plain(s.reason, 160))
        for s in shown
    ]
    more = len(incident.signals) - len(shown)
    return [*lines, _Line("", f"… and {more} more")] if more else lines


def _timeline(incident: Incident, zone: ZoneInfo) -> list[_Line]:
    return [
        _Line(
            _time(e.time_ms, zone),
            _plain(f"{e.event}: {e.detail}" if e.detail else e.event, 240),
            actor=_plain(e.actor),
        )
        for e in incident.timeline[-TIMELINE:]
    ]


def _time(ms: int, zone: ZoneInfo) -> str:
    moment = datetime.fromtimestamp(ms / 1000, zone)
    return f"{moment.day} {moment:%b %H:%M:%S}"


def _plain(value: str, cap: int = 200) -> str:
    return Untrusted(value).display(cap)
