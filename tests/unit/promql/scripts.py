"""Reads promqltest scripts (``load``, ``clear``, ``eval``) and runs their cases through an engine."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from aiops.core.errors import QueryError
from aiops.core.principal import LOCAL
from aiops.core.series import STALE_NAN, Labels, QueryResult, ResultType, SampleBlock, labels_of
from aiops.promql.engine import PromqlEngine
from aiops.promql.lexer import duration_ms
from aiops.promql.parse import parse, parse_selector
from aiops.promql.plan import String

Data = dict[Labels, dict[int, float]]
_NUMBER = r"[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+|[iI]nf|NaN)"
_VALUE = re.compile(rf"({_NUMBER})(?:([+-])({_NUMBER.removeprefix('[+-]?')}))?(?:x(\d+))?\Z")
_PLACE = re.compile(r" \(\d+:\d+\)\Z")
_DESCRIPTION = re.compile(r"([^\s{]*(?:\{(?:[^\"'}]|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*')*\})?)\s*(.*)\Z")


@dataclass
class Case:
    line: int
    query: str
    start: int
    end: int
    step: int
    data: Data
    expected: list[tuple[Labels, list[float | None]]] = field(default_factory=list)
    scalar: float | None = None
    string: str | None = None
    fails: bool = False
    message: str = ""
    ordered: bool = False
    notes: list[tuple[str, str]] = field(default_factory=list)
    unsupported: bool = False


def ms(text: str) -> int:
    sign = -1 if text.startswith("-") else 1
    text = text.lstrip("-")
    return sign * (round(float(text) * 1000) if re.fullmatch(r"[\d.]+", text) else duration_ms(text))


def number(text: str) -> float:
    return float(int(text, 16)) if text.lower().startswith("0x") else float(text)


def series(line: str) -> tuple[Labels, list[float | None]]:
    match = _DESCRIPTION.match(line)
    assert match, line
    name, rest = match.groups()
    labels = () if name in ("{}", "") else labels_of((m.name, m.value) for m in parse_selector(name))
    out: list[float | None] = []
    for token in rest.split():
        if token.startswith("_"):
            out += [None] * int(token[2:] or 1)
        elif token.startswith("stale"):
            out += [STALE_NAN] * (int(token[6:]) + 1 if len(token) > 5 else 1)
        else:
            found = _VALUE.match(token)
            assert found, token
            first, sign, more, times = found.groups()
            value, delta = number(first), number(more) * (-1 if sign == "-" else 1) if more else 0.0
            for _ in range(int(times or 0) + 1):
                out.append(value)
                value += delta
    return labels, out


def read(text: str) -> Iterator[Case]:
    """The cases of a script; one that needs native histograms is marked as unsupported."""
    lines = ["" if line.strip().startswith("#") else line.strip() for line in text.split("\n")]
    data: Data = {}
    histograms = False
    at = 0
    while at < len(lines):
        head = lines[at]
        at += 1
        begin = at
        if head.split(" ")[0] == "clear":
            data, histograms = {}, False
        if not head or head == "clear":
            continue
        while at < len(lines) and lines[at]:
            at += 1
        body = lines[begin:at]
        if head.startswith("load"):
            data, step = {k: dict(v) for k, v in data.items()}, ms(head.split()[1])
            histograms |= head.startswith("load_with_nhcb") or any("{{" in row for row in body)
            for row in body:
                if "{{" in row or "@st" in row:
                    continue
                labels, values = series(row)
                held = data.setdefault(labels, {})
                held.update({i * step: v for i, v in enumerate(values) if v is not None})
        else:
            yield case_of(head, body, begin, data, histograms)


def case_of(head: str, body: list[str], line: int, data: Data, histograms: bool) -> Case:
    instant = re.match(r"eval(?:_(\w+))? instant (?:at (\S+)\s+)?(.+)$", head)
    over = re.match(r"eval(?:_(\w+))? range from (\S+) to (\S+) step (\S+)\s+(.+)$", head)
    if instant:
        mode, time, query = instant.groups()
        case = Case(line, query, ms(time or "0"), ms(time or "0"), 0, data)
    else:
        assert over, head
        mode, first, last, step, query = over.groups()
        case = Case(line, query, ms(first), ms(last), ms(step), data)
    case.fails, case.ordered = mode == "fail", mode == "ordered"
    case.unsupported = histograms or any("{{" in row for row in body)
    for row in body:
        if row.startswith(("expected_fail", "expect fail")):
            case.fails = True
            case.message = row.split("msg:", 1)[1].strip() if "msg:" in row else ""
        elif row == "expect ordered":
            case.ordered = True
        elif row.startswith("expect string"):
            literal = parse(row.removeprefix("expect string").strip())
            assert isinstance(literal, String)
            case.string = literal.value
        elif row.startswith("expect range vector"):
            case.unsupported = True
        elif row.startswith("expect "):
            kind, _, text = row.removeprefix("expect ").partition(" ")
            case.notes.append((kind, text))
        elif re.fullmatch(rf"{_NUMBER}|0x[0-9a-fA-F]+", row):
            case.scalar = number(row)
        elif "{{" not in row:
            case.expected.append(series(row))
    return case


def block_of(data: Data) -> SampleBlock:
    rows = sorted(data.items())
    return SampleBlock.build((labels, sorted(v), [v[t] for t in sorted(v)]) for labels, v in rows)


def same(a: float, b: float) -> bool:
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) and math.isnan(b)
    return a == b or abs(a - b) <= 1e-6 * min(abs(a) + abs(b), 1.7e308)


def run(case: Case, engine: PromqlEngine) -> str:
    """Empty where the case holds, else what is wrong."""
    try:
        result = (
            engine.range(case.query, case.start, case.end, case.step, LOCAL)
            if case.step
            else engine.instant(case.query, case.start, LOCAL)
        )
    except QueryError as error:
        if not case.fails:
            return f"error: {error.message}"
        return "" if case.message in error.message else f"other message: {error.message}"
    if case.fails:
        return "no error"
    wrong = notes(case, result) or compare(case, result)
    if wrong or case.step or case.ordered or result.type not in (ResultType.VECTOR, ResultType.SCALAR):
        return wrong
    around = engine.range(case.query, case.start - 60_000, case.start + 60_000, 60_000, LOCAL)
    middle: list[tuple[Labels, float]] = []
    for i, labels in enumerate(around.block.labels):
        ts, values = around.block.series(i)
        middle += [(labels, v) for t, v in zip(ts.tolist(), values.tolist(), strict=True) if t == case.start]
    at = SampleBlock.at(case.start, middle)
    if result.type is ResultType.SCALAR:
        return compare(case, QueryResult(ResultType.SCALAR, at))
    wrong = compare(case, QueryResult(ResultType.VECTOR, at))
    return f"as a range: {wrong}" if wrong else ""


def notes(case: Case, result: QueryResult) -> str:
    for kind, text in case.notes:
        pool = result.warnings if kind.endswith("warn") else result.infos
        if kind.startswith("no_") == bool(pool):
            return f"{kind}: {pool}"
        if text.startswith("msg:") and text[4:].strip() not in (*pool, *(_PLACE.sub("", note) for note in pool)):
            return f"{kind} differs: {pool}"
    return ""


def compare(case: Case, result: QueryResult) -> str:
    if case.string is not None:
        return "" if result.text == case.string else f"{result.text!r}"
    block = result.block
    if case.scalar is not None:
        return "" if same(case.scalar, float(block.values[0])) else f"{block.values[0]}"
    got = {labels: block.series(i) for i, labels in enumerate(block.labels)}
    if case.step == 0 and result.type is not ResultType.MATRIX:
        if case.ordered and list(block.labels) != [labels for labels, _ in case.expected]:
            return f"order: {block.labels}"
        wanted = {labels: {case.start: values[0]} for labels, values in case.expected}
    else:
        wanted = {
            labels: {case.start + i * case.step: v for i, v in enumerate(values) if v is not None}
            for labels, values in case.expected
        }
        wanted = {labels: points for labels, points in wanted.items() if points}
    if set(got) != set(wanted):
        return f"series: {sorted(set(got) ^ set(wanted))}"
    for labels, points in wanted.items():
        ts, values = got[labels]
        if ts.tolist() != sorted(points):
            return f"{labels}: times {ts.tolist()} instead of {sorted(points)}"
        for t, value in zip(ts.tolist(), values.tolist(), strict=True):
            expected = points[t]
            assert expected is not None
            if not same(expected, value):
                return f"{labels} at {t}: {value} instead of {expected}"
    return ""


def failures(text: str, engine_of: Callable[[SampleBlock], PromqlEngine]) -> tuple[int, list[str]]:
    """(cases run, what went wrong)."""
    count, wrong = 0, []
    held: Data | None = None
    engine: PromqlEngine | None = None
    for case in read(text):
        if case.unsupported:
            continue
        if engine is None or case.data is not held:
            held, engine = case.data, engine_of(block_of(case.data))
        count += 1
        if why := run(case, engine):
            wrong.append(f"line {case.line}: {case.query}\n    {why}")
    return count, wrong
