"""An answer on the terminal: the text, then each piece of evidence with query, window, figures and chart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiops.cli.output import console, number, table, when
from aiops.core.untrusted import Untrusted

if TYPE_CHECKING:
    from rich.console import Console

    from aiops.core.evidence import Evidence
    from aiops.core.series import SampleBlock

MAX_FIGURES = 12
MAX_LINES = 8
MAX_CHARTS = 3
_STATES = {
    "no_match": "nothing matched",
    "does_not_exist": "no such metric",
    "source_down": "the source is down",
    "source_late": "the source is late",
}


def print_answer(answer: dict[str, Any], out: Console | None = None) -> None:
    """Print an answer as the API gives it."""
    from rich.markdown import Markdown
    from rich.text import Text

    out = out or console()
    zone = str(answer.get("zone") or "UTC")
    out.print(Markdown(str(answer.get("text", "")), hyperlinks=False))
    charts = 0
    for evidence in answer.get("evidence", ()):
        out.print()
        out.print(Text(f"{evidence.get('id', '')} {evidence.get('title', '')}".strip(), style="bold"))
        if evidence.get("query"):
            out.print(Text(f"  query   {evidence['query']}", style="cyan"), soft_wrap=True)
        out.print(Text(f"  window  {_window(evidence, zone)}", style="dim"), soft_wrap=True)
        state = str(evidence.get("state", "ok"))
        if state != "ok":
            out.print(Text(f"  {_STATES.get(state, state)}", style="yellow"))
        if evidence.get("note"):
            out.print(Text(f"  {Untrusted(str(evidence['note']))}", style="dim"))
        if figures := list(evidence.get("figures") or ()):
            _print_figures(figures, zone, out)
        lines = list(evidence.get("lines") or ())
        for line in lines[:MAX_LINES]:
            out.print(Text(f"  │ {Untrusted(str(line)).display(160)}"))
        if len(lines) > MAX_LINES:
            out.print(Text(f"  … {len(lines) - MAX_LINES} more lines", style="dim"))
        if charts < MAX_CHARTS and (chart := chart_of(evidence, out.width, zone)):
            out.print(Text(chart))
            charts += 1
    _footer(answer, out)


def print_plan(answer: dict[str, Any], out: Console | None = None) -> None:
    """Print what was understood: intent, concept, steps, and which metrics came into question."""
    from rich.text import Text

    out, plan = out or console(), answer.get("plan") or {}
    out.print()
    out.print(Text("Plan", style="bold"))
    for name in ("intent", "concept", "planner", "confidence"):
        if name in plan:
            out.print(Text(f"  {name:<11}{plan[name]}"))
    for place, step in enumerate(plan.get("steps") or (), 1):
        rest = {k: v for k, v in step.items() if k not in ("kind", "title")}
        out.print(Text(f"  step {place:<6}{step.get('kind', '')}: {step.get('title', '')}"))
        for key, value in rest.items():
            out.print(Text(f"             {key} = {value}", style="dim"), soft_wrap=True)
    for name, words in (("candidates", "considered"), ("notes", "assumed")):
        for item in plan.get(name) or ():
            out.print(Text(f"  {words:<11}{item}", style="dim"), soft_wrap=True)
    out.print(Text(f"  answer     {answer.get('id', '')}", style="dim"))


def _footer(answer: dict[str, Any], out: Console) -> None:
    from rich.text import Text

    out.print()
    for item in answer.get("hypotheses") or ():
        mark = "kept" if item.get("kept") else "dropped"
        out.print(Text(f"{mark}: {item.get('text', '')} ({float(item.get('share') or 0):.0%})", style="dim"))
    sure = "sure" if answer.get("sure") else "not sure"
    out.print(
        Text(
            f"confidence {float(answer.get('confidence') or 0):.0%} ({sure}), planned by {answer.get('planner', '?')}",
            style="dim",
        )
    )
    for limit in answer.get("limits") or ():
        out.print(Text(f"limit: {limit}", style="dim"))
    if suggestions := list(answer.get("suggestions") or ()):
        out.print(Text(f"did you mean: {'; '.join(map(str, suggestions))}", style="yellow"))
    for proposal in answer.get("proposals") or ():
        out.print(Text(f"proposed action {proposal}: see `aiops actions show {proposal}`", style="yellow"))


def _window(evidence: dict[str, Any], zone: str) -> str:
    start, end = when(evidence.get("start_ms"), zone), when(evidence.get("end_ms"), zone)
    text = f"{start} to {end}" if start and start != end else f"at {end}"
    newest, last = evidence.get("newest_ms"), evidence.get("end_ms")
    if newest and last:
        text += f"; newest data {max(0, (float(last) - float(newest)) / 1000):.0f} s before the end"
    source = evidence.get("source")
    return f"{text}; from {source}" if source else text


def _print_figures(figures: list[dict[str, Any]], zone: str, out: Console) -> None:
    """A table; what all labelled figures share stands above it, and an empty column is left out."""
    from rich.text import Text

    shown = figures[:MAX_FIGURES]
    labels = [label_pairs(f.get("labels")) for f in shown]
    told = [set(found) for found in labels if found]
    shared = set.intersection(*told) if len(told) > 1 else set()
    if shared:
        words = ", ".join(f"{k}={v}" for k, v in sorted(shared))
        out.print(Text(f"  all of  {Untrusted(words).display(300)}", style="dim"), soft_wrap=True)
    rows = [
        (
            str(f.get("name") or ""),
            ", ".join(f"{k}={v}" for k, v in found if (k, v) not in shared),
            _value(f, zone),
        )
        for f, found in zip(shown, labels, strict=True)
    ]
    filled = [i for i in range(3) if i == 2 or any(row[i] for row in rows)]
    title = f"  {len(figures)} figures, the first {MAX_FIGURES}" if len(figures) > MAX_FIGURES else ""
    columns = ("figure", "of", "value")
    out.print(table([columns[i] for i in filled], [[row[i] for i in filled] for row in rows], title))


def _value(figure: dict[str, Any], zone: str) -> str:
    value, unit = figure.get("value"), str(figure.get("unit") or "")
    if unit == "time" and value is not None:
        return when(float(value) * 1000, zone)
    return number(value, unit)


def label_pairs(labels: dict[str, str] | None) -> list[tuple[str, str]]:
    """Labels as pairs; the metric name is left out."""
    return [(str(k), str(v)) for k, v in (labels or {}).items() if k != "__name__"]


def chart_of(evidence: dict[str, Any], width: int, zone: str = "UTC") -> str:
    """The evidence as a terminal chart, or an empty string where there is nothing to draw."""
    from aiops.reports.charts import terminal_for

    return terminal_for(evidence_of(evidence), max(40, min(width - 2, 100)), zone)


def evidence_of(data: dict[str, Any]) -> Evidence:
    """Evidence as the API gives it, back as the core type."""
    from aiops.core.evidence import Evidence, EvidenceState, Figure
    from aiops.core.series import labels_of

    return Evidence(
        id=str(data.get("id", "")),
        kind=str(data.get("kind", "")),
        title=str(data.get("title", "")),
        source=str(data.get("source", "")),
        query=str(data.get("query", "")),
        start_ms=int(data.get("start_ms") or 0),
        end_ms=int(data.get("end_ms") or 0),
        state=EvidenceState(data.get("state", "ok")),
        figures=tuple(
            Figure(_number(f["value"]), str(f["unit"]), labels_of(f["labels"]), str(f["name"]))
            for f in data.get("figures") or ()
        ),
        series=series_block(data.get("series")),
        unit=str(data.get("unit", "")),
        newest_ms=data.get("newest_ms"),
    )


def series_block(series: Any) -> SampleBlock | None:
    """Chart series of the API (labels with (ms, value) points) as a block; ``None`` without any."""
    from aiops.core.series import SampleBlock, labels_of

    triples = [
        (
            labels_of(one.get("labels") or {}),
            [int(t) for t, _ in one.get("points") or ()],
            [_number(v) for _, v in one.get("points") or ()],
        )
        for one in series or ()
    ]
    return SampleBlock.build(triples) if triples else None


def _number(value: Any) -> float:
    """``null`` stands for a number that is not finite."""
    return float("nan") if value is None else float(value)
