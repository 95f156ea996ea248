"""What a tool brought back, in words: lines with their times, or why there are none."""

from __future__ import annotations

from aiops.agent.found import Found
from aiops.agent.references import plain
from aiops.agent.run_tools import AT, UNDATED
from aiops.core.evidence import Evidence, EvidenceState
from aiops.core.query import ToolStep

SHOWN = 15


def looked_up(found: Found) -> str:
    """A template for :func:`aiops.agent.references.fill`."""
    step, e = found.step, found.evidence[0]
    assert isinstance(step, ToolStep)
    title = plain(e.title or e.source)
    name = f"{title[:1].upper()}{title[1:]}"
    if e.state is EvidenceState.SOURCE_DOWN:
        return f"**{name} could not be read:** {{{e.id}.note}} [{e.id}]" if e.note else (
            f"**{name} could not be read.** [{e.id}]")  # fmt: skip
    if e.state is EvidenceState.DOES_NOT_EXIST:
        return f"**{name}:** {{{e.id}.note}} [{e.id}]" if e.note else f"**{name}:** there is no such thing. [{e.id}]"
    when = f", {{{e.id}.start}} to {{{e.id}.end}}" if "window" in step.model_fields_set else ""
    counted = _counts(e)
    if e.state is EvidenceState.NO_MATCH:
        return f"**{name}{when}: none**{counted}. [{e.id}]"
    rows = []
    for i, line in enumerate(e.lines[:SHOWN]):
        moment = f"{{{e.id}.f{i}}}: " if e.figures[i].name == AT else ""
        rows.append(f"- {moment}{plain(line.raw, 300)}")
    rows += [f"- {{{e.id}.f{i}.of}}: {{{e.id}.f{i}}}" for i, f in enumerate(e.figures) if f.labels]
    more = "\n- … and more, not shown here" if len(e.lines) > SHOWN or e.truncated else ""
    return f"**{name}**{when}{counted} [{e.id}]:\n" + "\n".join(rows) + more


def _counts(e: Evidence) -> str:
    named = [
        f"{plain(f.name)}: {{{e.id}.f{i}}}"
        for i, f in enumerate(e.figures)
        if f.name and f.name not in (AT, UNDATED) and not f.labels
    ]
    return f" ({', '.join(named)})" if named else ""
