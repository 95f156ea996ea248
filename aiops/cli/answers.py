"""An answer on the terminal: the text, then each piece of evidence with query, window, figures and chart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiops.cli.output import console, number, table, when
from aiops.core.untrusted import Untrusted

if TYPE_CHECKING:
    from rich.console import Console

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
            out.print(Text(f"  query   {evidence['query']}", style="cyan"))
        out.print(Text(f"  window  {_window(evidence, zone)}", style="dim"))
        state = str(evidence.get("state", "ok"))
        if state != "ok":
            out.print(Text(f"  {_STATES.get(state, state)}", style="yellow"))
        if evidence.get("note"):
            out.print(Text(f"  {Untrusted(str(evidence['note']))}", style="dim"))
        if figures := list(evidence.get("figures") or ()):
            out.print(_figures(figures))
        lines = list(evidence.get("lines") or ())
        for line in lines[:MAX_LINES]:
            out.print(Text(f"  │ {Untrusted(_raw(line)).display(160)}"))
        if len(lines) > MAX_LINES:
            out.print(Text(f"  … {len(lines) - MAX_LINES} more lines", style="dim"))
        if charts < MAX_CHARTS and (chart := chart_of(evidence, out.width)):
            out.print(Text.from_ansi(chart))
            charts += 1
    _footer(answer, out)


def _footer(answer: dict[str, Any], out: Console) -> None:
    from rich.text import Text

    out.print()
    for item in answer.get("hypotheses") or ():
        mark = "kept" if item.get("kept") else "dropped"
        out.print(Text(f"{mark}: {item.get('text', '')} ({float(item.get('share', 0)):.0%})", style="dim"))
    sure = "sure" if answer.get("sure") else "not sure"
    out.print(
        Text(
            f"confidence {float(answer.get('confidence', 0)):.0%} ({sure}), planned by {answer.get('planner', '?')}",
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


def _figures(figures: list[dict[str, Any]]) -> Any:
    rows = [
        (
            str(f.get("name") or ""),
            ", ".join(f"{k}={v}" for k, v in label_pairs(f.get("labels"))),
            number(f.get("value"), str(f.get("unit") or "")),
        )
        for f in figures[:MAX_FIGURES]
    ]
    title = f"  {len(figures)} figures, the first {MAX_FIGURES}" if len(figures) > MAX_FIGURES else ""
    return table(("figure", "of", "value"), rows, title)


def label_pairs(labels: Any) -> list[tuple[str, str]]:
    """Labels as pairs, from a mapping or a list of pairs; the metric name is left out."""
    pairs = labels.items() if isinstance(labels, dict) else (labels or ())
    return [(str(k), str(v)) for k, v in pairs if k != "__name__"]


def _raw(line: Any) -> str:
    return str(line.get("text") or line.get("raw") or "") if isinstance(line, dict) else str(line)


def chart_of(evidence: dict[str, Any], width: int) -> str:
    """The evidence's series as a terminal chart, or an empty string where it has none."""
    block = series_block(evidence.get("series"))
    if block is None:
        return ""
    from aiops.reports import charts

    return charts.terminal(block, unit=str(evidence.get("unit") or ""), width=max(40, min(width - 2, 100)))


def series_block(series: Any) -> SampleBlock | None:
    """Chart series of the API (labels with [ms, value] points) as a block; ``None`` for fewer than two points."""
    from aiops.core.series import SampleBlock, labels_of

    if isinstance(series, dict):
        series = series.get("series")
    triples = []
    for one in series or ():
        points = [(int(t), float(v)) for t, v in one.get("points") or one.get("values") or () if v is not None]
        if len(points) > 1:
            labels = one.get("labels") or {}
            pairs = labels.items() if isinstance(labels, dict) else labels
            triples.append(
                (labels_of((str(k), str(v)) for k, v in pairs), [t for t, _ in points], [v for _, v in points])
            )
    return SampleBlock.build(triples) if triples else None
