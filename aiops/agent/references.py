"""References in an answer's template, such as ``{E1.f0}``, and the check that a text holds no other figure.

``{E1.f0}`` is the first figure of E1 with its unit, ``{E1.f0.of}`` its labels, ``{E1.f0.label.NAME}`` one label,
``{E1.start}``, ``{E1.end}`` and ``{E1.newest}`` times, ``{E1.age}`` the age of the newest sample,
``{E1.note}`` its note.
A reference that cannot be filled refuses the answer (:class:`UnresolvedReference`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from aiops.agent.units import digits, humanise, moment
from aiops.core.errors import PermanentError
from aiops.core.evidence import Evidence, Figure
from aiops.core.signals import label
from aiops.core.untrusted import Untrusted

_REFERENCE = re.compile(r"\{(E\d+)\.([a-z]+\d*)((?:\.[A-Za-z0-9_.:-]+)?)\}")
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?(?!\w*\d)", re.IGNORECASE)
NOISE = ("__name__", "simulated", "job", "fstype", "device_error", "endpoint", "prometheus")
"""Labels left out of a name when others tell the series apart."""


class UnresolvedReference(PermanentError):
    """An answer's template names evidence that is not there."""


def plain(text: str, cap: int = 160) -> str:
    """Text of ours or of telemetry made safe inside a Markdown template: no braces, no markup, one line."""
    safe = Untrusted(text).display(cap).replace("{", "(").replace("}", ")")
    return re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", safe)


def code(text: str, cap: int = 400) -> str:
    """Text as inline code; braces stay, backticks go."""
    return "`" + Untrusted(text).display(cap).replace("`", "'") + "`"


def fill(template: str, evidence: Sequence[Evidence], zone: str, now_ms: int) -> str:
    """The template with every reference replaced. Raises :class:`UnresolvedReference`."""
    by_id = {e.id: e for e in evidence}

    def put(match: re.Match[str]) -> str:
        return _resolve(match.group(1), match.group(2), match.group(3)[1:], by_id, zone, now_ms)

    text = _REFERENCE.sub(put, template)
    return text.replace("{{", "{").replace("}}", "}")


def _resolve(name: str, what: str, more: str, by_id: Mapping[str, Evidence], zone: str, now_ms: int) -> str:
    if name not in by_id:
        raise UnresolvedReference(f"The answer refers to {name}, which is not among its evidence.")
    e = by_id[name]
    if what in ("start", "end"):
        return moment(e.start_ms if what == "start" else e.end_ms, zone, now_ms)
    if what == "newest" and e.newest_ms is not None:
        return moment(e.newest_ms, zone, now_ms)
    if what == "age" and e.newest_ms is not None:
        return humanise(max(0.0, round((now_ms - e.newest_ms) / 1000)), "s")
    if what == "note" and e.note:
        return plain(e.note, 300)
    if what == "query":
        return code(e.query)
    if what.startswith("f") and what[1:].isdigit() and int(what[1:]) < len(e.figures):
        return _figure(e.figures[int(what[1:])], more, zone, now_ms, name)
    raise UnresolvedReference(f"The answer refers to {name}.{what}, which the evidence does not hold.")


def _figure(figure: Figure, more: str, zone: str, now_ms: int, name: str) -> str:
    if not more:
        return (
            moment(int(figure.value * 1000), zone, now_ms)
            if figure.unit == "time"
            else humanise(figure.value, figure.unit)
        )
    if more == "of":
        return describe(figure)
    if more == "age":
        return humanise(max(0.0, round(now_ms / 1000 - figure.value)), "s")
    key, _, wanted = more.partition(".")
    found = label(figure.labels, wanted)
    if key == "label" and found:
        return plain(found)
    raise UnresolvedReference(f"The answer refers to the label {wanted or more} of a figure of {name}, which has none.")


def describe(figure: Figure) -> str:
    """The series of a figure in words: its telling labels, and whether it is simulated."""
    labels = [p for p in figure.labels if p[0] != "__name__"]
    shown = [p for p in labels if p[0] not in NOISE] or [p for p in labels if p[0] != "simulated"]
    rest = ["simulated"] if ("simulated", "true") in labels else []
    if not shown:
        return "all together" + (f" ({rest[0]})" if rest else "")
    order = {"instance": 0, "service_name": 0, "service": 0, "namespace": 1}
    shown.sort(key=lambda p: (order.get(p[0], 5), p[0]))
    told = [f"{plain(k)} {plain(v)}" for k, v in shown[1:]] + rest
    return f"**{plain(shown[0][1])}**" + (f" ({', '.join(told)})" if told else "")


def unsupported(text: str, evidence: Sequence[Evidence], *, allowed: str = "") -> list[str]:
    """Figures in a text that no evidence holds, in the order of the text.

    Args:
        allowed: text whose figures are fine too: the question, the queries.
    """
    known: set[str] = set(_numbers(allowed))
    for e in evidence:
        known.update(_numbers(e.query), _numbers(e.id), _numbers(e.note), _numbers(e.title))
        for line in e.lines:
            known.update(_numbers(line.raw))
        for f in e.figures:
            known.update(_renderings(f))
            known.update(n for _, value in f.labels for n in _numbers(value))
    return [n for n in _numbers(text) if n not in known]


def _numbers(text: str) -> list[str]:
    return [n.replace(",", "").lstrip("+").rstrip(".") for n in _NUMBER.findall(re.sub(r"\bE\d+\b", " ", text))]


def _renderings(figure: Figure) -> set[str]:
    """The ways in which a figure may rightly be written."""
    # The digits of a date would vouch for any small number.
    out: set[str] = set() if figure.unit == "time" else set(_numbers(humanise(figure.value, figure.unit)))
    for value in (figure.value, figure.value * 100 if figure.unit == "ratio" else figure.value):
        out.update((digits(value).replace(",", ""), f"{value:g}"))
        out.update(f"{value:.{p}f}" for p in range(4))
    return out
