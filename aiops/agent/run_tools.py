"""Runs a tool step: arguments checked, the window passed on, rows as lines with their times."""

from __future__ import annotations

from typing import Any

from aiops.agent.found import Asking, Found
from aiops.agent.run_signals import evidence
from aiops.core.errors import InvalidPlan, NotFound, TransientError
from aiops.core.evidence import Evidence, EvidenceState, Figure
from aiops.core.ports import Collected, Tool
from aiops.core.query import ToolStep
from aiops.core.signals import label
from aiops.core.untrusted import Untrusted

MOST_LINES = 50
AT, UNDATED = "at", "no time"
"""Names of the figures that hold the lines' times, in their order."""


def run(tool: Tool[Any], step: ToolStep, asking: Asking) -> Found:
    """Raises ``InvalidPlan`` for wrong arguments, and what the tool raises for good."""
    window = step.window.resolve(asking.now_ms)
    given: dict[str, Any] = dict(step.args)
    if "window" in step.model_fields_set and {"start_ms", "end_ms"} <= tool.Arguments.model_fields.keys():
        given = {"start_ms": window[0], "end_ms": window[1], **given}
    try:
        arguments = tool.Arguments.model_validate(given)
    except ValueError as error:
        raise InvalidPlan(f"The arguments of the tool '{step.name}' are wrong: {error}") from error
    said = f"{step.name} " + " ".join(f"{k}={v}" for k, v in step.args.items())
    state, note = EvidenceState.DOES_NOT_EXIST, ""
    try:
        return Found(step, (_read(tool.run(arguments, asking.principal), step, said, window),))
    except NotFound as error:
        note = str(error)
    except TransientError as error:
        state, note = EvidenceState.SOURCE_DOWN, str(error)
    return Found(step, (Evidence("", "tool", step.title or step.name, step.name, said, *window, state, note=note),))


def arguments_of(tool: Tool[Any]) -> str:
    """Names of the arguments and what they take, in a line; times are left out, as the step's window gives them."""
    fields = tool.Arguments.model_json_schema().get("properties", {})
    return "; ".join(
        f"{name} {'|'.join(str(v) for v in form['enum'] if v) if 'enum' in form else form.get('type', 'string')}"
        for name, form in fields.items()
        if name not in ("start_ms", "end_ms")
    )


def _read(got: Collected, step: ToolStep, said: str, window: tuple[int, int]) -> Evidence:
    rows = [
        (r.time_unix_nano // 1_000_000, _line(f"{r.service} {r.severity_text}", r.body.raw)) for r in got.logs
    ] + [(c.time_ms, _line(f"{c.service} {c.kind}", c.title.raw)) for c in got.changes]  # fmt: skip
    shown = rows[:MOST_LINES]
    figures = [Figure(ms / 1000, "time", name=AT if ms else UNDATED) for ms, _ in shown]
    if "window" not in step.model_fields_set:  # nobody asked for a time, so it is that of what there is
        window = min((ms for ms, _ in shown if ms), default=window[0]), window[1]
    measured = 0
    for i, labels in enumerate(got.samples.labels[:MOST_LINES]):
        values = got.samples.series(i)[1]
        if len(values):
            rest = tuple(p for p in labels if p[0] != "__name__")
            figures.append(Figure(float(values[-1]), "1", rest, label(labels, "__name__")))
            measured += bool(rest)
    return evidence(
        "tool", step, step.name, said, window, figures, [line for _, line in shown],
        found=bool(shown or measured), newest_ms=max((ms for ms, _ in shown), default=0) or None,
        truncated=got.done < 1 or len(rows) > len(shown),
    )  # fmt: skip


def _line(head: str, body: str) -> Untrusted:
    whose = " ".join(head.split())
    return Untrusted(f"{whose}: {body}" if whose else body)
