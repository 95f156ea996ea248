"""A version's card: what it is for, what it was made of, how well it does, where it must not be trusted.

Everything is taken from the record; nothing is written by hand. Names and texts in it come from telemetry and from
people, and are escaped in both forms.
"""

from __future__ import annotations

import html
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from aiops.core.model import Dataset, Deployment, DriftReport, ModelUse, ModelVersion
from aiops.models.compare import Interval
from aiops.models.fairness import Fairness

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|<>~&])")
_LIMITS = (
    "It sees deviations from its training window: a fault that lasted through all of that is usual to it.",
    "A score says how unusual a value is for its series, not whether anybody is harmed, and not why.",
    "Series that it was not trained on are not scored, and the first steps after a gap are scored with less context.",
    "Recall is known only of misses that people told of.",
)
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222;background:#fff}"
    "table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.2em .6em;text-align:left;"
    "overflow-wrap:anywhere}h2{margin-top:1.6em}"
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a card is made of. ``signature`` is empty where it is valid, else the reason of its refusal."""

    version: ModelVersion
    dataset: Dataset | None
    precision: Interval
    recall: Interval
    marks: int
    fairness: Sequence[Fairness]
    drift: Sequence[DriftReport]
    deployments: Sequence[Deployment]
    uses: Sequence[ModelUse]
    signature: str
    days: float
    made_ms: int


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, sentences, and a table whose first row names the columns."""

    heading: str
    text: tuple[str, ...] = ()
    table: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Card:
    title: str
    sections: tuple[Section, ...]

    @property
    def markdown(self) -> str:
        """As Markdown, safe to render."""
        out = [f"# {_md(self.title)}", ""]
        for section in self.sections:
            out += [f"## {_md(section.heading)}", ""]
            for sentence in section.text:
                out += [_md(sentence), ""]
            if section.table:
                head, *rows = section.table
                out += [_row(head), _row(["---"] * len(head), raw=True), *map(_row, rows), ""]
        return "\n".join(out)

    @property
    def html(self) -> str:
        """As a page of its own that fetches nothing and runs nothing."""
        body = [f"<h1>{html.escape(self.title)}</h1>"]
        for section in self.sections:
            body.append(f"<h2>{html.escape(section.heading)}</h2>")
            body += [f"<p>{html.escape(sentence)}</p>" for sentence in section.text]
            if section.table:
                head, *rows = section.table
                cells = [_cells(head, "th"), *(_cells(row, "td") for row in rows)]
                body.append(f"<table>{''.join(cells)}</table>")
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            f"<title>{html.escape(self.title)}</title><style>{_STYLE}</style></head><body>{''.join(body)}</body></html>"
        )


def card_of(facts: Facts) -> Card:
    """The card of a version."""
    version = facts.version
    told = dict(version.parameters)
    return Card(
        f"Model card: {version.reference}",
        (
            _purpose(version, told),
            _data(facts.dataset, told),
            _quality(facts),
            Section("Limits", _LIMITS),
            *_fairness(facts),
            _drift(facts.drift),
            _deployments(facts.deployments),
            _cost(facts),
            _integrity(facts, told),
            Section(
                "Explanations",
                (
                    "Each decision is explained by itself: aiops detect show ID shows the expected course, the terms"
                    " of the score and similar earlier windows of an anomaly, aiops models lineage ID the version,"
                    " data and code that made it.",
                ),
            ),
        ),
    )


def _purpose(version: ModelVersion, told: dict[str, str]) -> Section:
    served = ", ".join(version.aliases) or "neither champion nor challenger"
    if version.family == "llm":
        text = (
            f"A language model with a version of a prompt ({told.get('prompt', '')}); it phrases and plans answers.",
        )
    else:
        step = int(told.get("step_ms", "0")) / 1000
        text = (
            f"Finds unusual values of watched metrics, one step of {step:g} s after the other, so that incidents are"
            f" opened from them. Family {version.family}; it is {served}.",
        )
    rows = [("parameter", "value"), *((k, v) for k, v in told.items() if k not in ("query", "dataset"))]
    return Section("Purpose", text, tuple(rows))


def _data(dataset: Dataset | None, told: dict[str, str]) -> Section:
    if dataset is None:
        kept = told.get("dataset", "")
        return Section(
            "Data", (f"Trained on {kept}; the snapshot is not kept any more." if kept else "None recorded.",)
        )
    rows = (
        ("", ""),
        ("snapshot", dataset.id),
        ("from", when(dataset.start_ms)),
        ("to", when(dataset.end_ms)),
        ("step", f"{dataset.step_ms / 1000:g} s"),
        ("series", str(dataset.series)),
        ("values", str(dataset.points)),
        ("queries", dataset.query[:1000]),
    )
    return Section("Data", (), rows)


def _quality(facts: Facts) -> Section:
    rows = [
        ("figure", "value", "95 % interval"),
        ("precision by marks", *_share(facts.precision)),
        ("recall by marks", *_share(facts.recall)),
        *((name, f"{value:.6g}", "") for name, value in facts.version.metrics),
    ]
    about = (
        f"{facts.marks} of its anomalies were judged by people." if facts.marks else "Nobody has judged its anomalies."
    )
    return Section("Figures", (about,), tuple(rows))


def _fairness(facts: Facts) -> list[Section]:
    if not facts.fairness:
        none = "No groups are named; set models.oversight.groups to labels such as team."
        return [Section("Fairness", (none,))]
    sections = []
    for found in facts.fairness:
        verdict = "no group differs by more than chance" if not found.unequal else "the groups are not alike"
        text = (
            f"Alarms of the last {facts.days:g} days by {found.label}: {verdict} (equal rates of false alarms:"
            f" p = {_number(found.p)}; of all alarms: p = {_number(found.alarms_p)}).",
        )
        rows = [
            (
                "group",
                "series",
                "alarms",
                "marked",
                "false",
                "false a series-month",
                "share of the marked that is false",
            )
        ]
        for group in found.groups:
            rate = f"{group.rate[0]:.3g} ({group.rate[1]:.3g} to {group.rate[2]:.3g})"
            counts = (str(group.series), str(group.alarms), str(group.marked), str(group.false))
            rows.append((group.group, *counts, rate, " ".join(_share(group.share))))
        sections.append(Section(f"Fairness by {found.label}", text, tuple(rows)))
    return sections


def _drift(reports: Sequence[DriftReport]) -> Section:
    if not reports:
        return Section("Drift", ("It was not checked yet.",))
    rows = [("checked", "verdict", "what", "action")]
    for one in reports[:20]:
        found = "; ".join(f"{s.name}: {s.detail}" for s in one.signals if s.drifted) or "nothing"
        rows.append((when(one.time_ms), "drifted" if one.drifted else "stable", found, one.action))
    return Section("Drift", (), tuple(rows))


def _deployments(deployments: Sequence[Deployment]) -> Section:
    if not deployments:
        return Section("Deployments", ("It was not tried beside another version.",))
    rows = [("started", "strategy", "candidate", "against", "state", "reason", "incident")]
    rows += [
        (when(d.started_ms), d.strategy.value, d.candidate, d.stable, d.state.value, d.reason, d.incident)
        for d in deployments[:20]
    ]
    return Section("Deployments", (), tuple(rows))


def _cost(facts: Facts) -> Section:
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    units: dict[str, str] = {}
    for use in facts.uses:
        sums[use.kind.value][0] += use.cost
        sums[use.kind.value][1] += use.quantity
        units[use.kind.value] = use.unit
    if not sums:
        return Section("Cost", (f"Nothing was booked in the last {facts.days:g} days.",))
    rows = [("use", "quantity", "USD")]
    rows += [(kind, f"{count:.6g} {units[kind]}", f"{cost:.4g}") for kind, (cost, count) in sorted(sums.items())]
    return Section("Cost", (f"Of this version in the last {facts.days:g} days.",), tuple(rows))


def _integrity(facts: Facts, told: dict[str, str]) -> Section:
    state = "The signature of its artifact is valid." if not facts.signature else f"Refused: {facts.signature}"
    rows = (("", ""), ("run", facts.version.run_id), ("code", told.get("code", "")), ("parent", told.get("parent", "")))
    return Section("Integrity", (state, f"This card was made at {when(facts.made_ms)}."), rows)


def when(time_ms: int) -> str:
    """UTC, to the minute."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _share(found: Interval) -> tuple[str, str]:
    value, low, high = found
    return ("unknown", "") if math.isnan(value) else (f"{value:.0%}", f"({low:.0%} to {high:.0%})")


def _number(value: float) -> str:
    return "unknown" if math.isnan(value) else f"{value:.3g}"


def _md(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def _row(cells: Iterable[str], *, raw: bool = False) -> str:
    return "| " + " | ".join(cell if raw else _md(cell) for cell in cells) + " |"


def _cells(row: Iterable[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row) + "</tr>"
