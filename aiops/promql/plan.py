"""The typed plan of a query: frozen nodes, each able to print itself as PromQL. Times and durations are ms.

``start`` is where a node begins in the text that it was parsed from, in characters; it does not count in comparisons.
Parentheses are nodes of their own, as written; a plan built by hand needs them where precedence asks for them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeAlias

from aiops.core.series import METRIC_NAME, Matcher, MatchOp

LEGACY_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")
LEGACY_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z")
_UNITS = ((604_800_000, "w"), (86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms"))


class Kind(StrEnum):
    """Type of an expression's value."""

    SCALAR = "scalar"
    STRING = "string"
    VECTOR = "vector"
    MATRIX = "matrix"


class Anchor(StrEnum):
    """What ``@`` names beside a number."""

    START = "start()"
    END = "end()"


At: TypeAlias = "int | Anchor | None"


@dataclass(frozen=True, slots=True)
class Number:
    value: float
    start: int = field(default=0, compare=False, repr=False)
    kind = Kind.SCALAR

    def __str__(self) -> str:
        return number_text(self.value)


@dataclass(frozen=True, slots=True)
class String:
    value: str
    start: int = field(default=0, compare=False, repr=False)
    kind = Kind.STRING

    def __str__(self) -> str:
        return quote(self.value)


@dataclass(frozen=True, slots=True)
class Selector:
    """An instant selector, or with ``range_ms`` a range selector."""

    matchers: tuple[Matcher, ...]
    offset_ms: int = 0
    at: At = None
    range_ms: int | None = None
    start: int = field(default=0, compare=False, repr=False)

    @property
    def kind(self) -> Kind:
        return Kind.VECTOR if self.range_ms is None else Kind.MATRIX

    @property
    def name(self) -> str:
        """The metric name, where one is given with ``=``."""
        return next((m.value for m in self.matchers if m.name == METRIC_NAME and m.op is MatchOp.EQUAL), "")

    def __str__(self) -> str:
        name, rest = "", list(self.matchers)
        alone = sum(matcher.name == METRIC_NAME for matcher in rest) == 1
        for matcher in self.matchers:
            if (
                alone
                and matcher.name == METRIC_NAME
                and matcher.op is MatchOp.EQUAL
                and LEGACY_METRIC.match(matcher.value)
            ):
                name = matcher.value
                rest.remove(matcher)
                break
        inner = ",".join(f"{label_text(m.name)}{m.op.value}{quote(m.value)}" for m in rest)
        text = name + (f"{{{inner}}}" if inner or not name else "")
        if self.range_ms is not None:
            text += f"[{duration_text(self.range_ms)}]"
        return text + _modifiers(self.at, self.offset_ms)


@dataclass(frozen=True, slots=True)
class Subquery:
    """``step_ms`` of ``None`` means the default interval."""

    expr: Plan
    range_ms: int
    step_ms: int | None = None
    offset_ms: int = 0
    at: At = None
    kind = Kind.MATRIX

    @property
    def start(self) -> int:
        return self.expr.start

    def __str__(self) -> str:
        step = duration_text(self.step_ms) if self.step_ms is not None else ""
        return f"{self.expr}[{duration_text(self.range_ms)}:{step}]{_modifiers(self.at, self.offset_ms)}"


@dataclass(frozen=True, slots=True)
class Unary:
    """``+`` or ``-``."""

    op: str
    expr: Plan
    start: int = field(default=0, compare=False, repr=False)

    @property
    def kind(self) -> Kind:
        return self.expr.kind

    def __str__(self) -> str:
        return f"{self.op}{self.expr}"


@dataclass(frozen=True, slots=True)
class Paren:
    expr: Plan
    start: int = field(default=0, compare=False, repr=False)

    @property
    def kind(self) -> Kind:
        return self.expr.kind

    def __str__(self) -> str:
        return f"({self.expr})"


@dataclass(frozen=True, slots=True)
class Matching:
    """``card`` is one-to-one, many-to-one (group_left), one-to-many (group_right) or many-to-many (sets)."""

    card: str = "one-to-one"
    on: bool = False
    labels: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    fill_left: float | None = None
    fill_right: float | None = None

    def __str__(self) -> str:
        text = ""
        if self.on or self.labels:
            text = f" {'on' if self.on else 'ignoring'} ({label_list(self.labels)})"
        group = {"many-to-one": " group_left", "one-to-many": " group_right"}.get(self.card, "")
        if group:
            text += f"{group} ({label_list(self.include)})"
        if self.fill_left is not None:
            text += f" fill_left ({number_text(self.fill_left)})"
        if self.fill_right is not None:
            text += f" fill_right ({number_text(self.fill_right)})"
        return text


@dataclass(frozen=True, slots=True)
class Binary:
    op: str
    left: Plan
    right: Plan
    matching: Matching
    returns_bool: bool = False
    op_start: int = field(default=0, compare=False, repr=False)

    @property
    def start(self) -> int:
        return self.left.start

    @property
    def kind(self) -> Kind:
        both = self.left.kind is Kind.SCALAR and self.right.kind is Kind.SCALAR
        return Kind.SCALAR if both else Kind.VECTOR

    def __str__(self) -> str:
        return f"{self.left} {self.op}{' bool' if self.returns_bool else ''}{self.matching} {self.right}"


@dataclass(frozen=True, slots=True)
class Aggregation:
    op: str
    expr: Plan
    param: Plan | None = None
    labels: tuple[str, ...] = ()
    without: bool = False
    start: int = field(default=0, compare=False, repr=False)
    kind = Kind.VECTOR

    def __str__(self) -> str:
        group = f" {'without' if self.without else 'by'} ({label_list(self.labels)}) " if self.grouped else ""
        inner = f"{self.param}, {self.expr}" if self.param is not None else str(self.expr)
        return f"{self.op}{group}({inner})"

    @property
    def grouped(self) -> bool:
        return self.without or bool(self.labels)


@dataclass(frozen=True, slots=True)
class Call:
    function: str
    args: tuple[Plan, ...]
    kind: Kind
    start: int = field(default=0, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.function}({', '.join(map(str, self.args))})"


Plan: TypeAlias = Number | String | Selector | Subquery | Unary | Paren | Binary | Aggregation | Call


def children(plan: Plan) -> tuple[Plan, ...]:
    match plan:
        case Subquery() | Unary() | Paren():
            return (plan.expr,)
        case Binary():
            return (plan.left, plan.right)
        case Aggregation():
            return (plan.expr,) if plan.param is None else (plan.param, plan.expr)
        case Call():
            return plan.args
        case _:
            return ()


def walk(plan: Plan) -> Iterator[Plan]:
    """The plan and all below it, parents first."""
    yield plan
    for child in children(plan):
        yield from walk(child)


def add_matchers(plan: Plan, matchers: tuple[Matcher, ...]) -> Plan:
    """The same plan with ``matchers`` ANDed to every selector."""

    def deep(node: Plan) -> Plan:
        match node:
            case Selector():
                return replace(node, matchers=node.matchers + tuple(m for m in matchers if m not in node.matchers))
            case Subquery() | Unary() | Paren():
                return replace(node, expr=deep(node.expr))
            case Binary():
                return replace(node, left=deep(node.left), right=deep(node.right))
            case Aggregation():
                return replace(node, expr=deep(node.expr), param=None if node.param is None else deep(node.param))
            case Call():
                return replace(node, args=tuple(deep(a) for a in node.args))
            case _:
                return node

    return deep(plan)


def with_modifiers(plan: Selector | Subquery, **changes: int | Anchor | None) -> Selector | Subquery:
    """The same selector or subquery with another range, offset or ``@``."""
    return replace(plan, **changes)  # type: ignore[arg-type]


def unwrap(plan: Plan) -> Plan:
    while isinstance(plan, Paren):
        plan = plan.expr
    return plan


# ------------------------------------------------------------------ text


def duration_text(ms: int) -> str:
    """``90000`` as ``1m30s``.

    >>> duration_text(5400000), duration_text(0)
    ('1h30m', '0s')
    """
    if ms == 0:
        return "0s"
    out, rest = "", abs(ms)
    for size, unit in _UNITS:
        if rest >= size:
            out += f"{rest // size}{unit}"
            rest %= size
    return f"-{out}" if ms < 0 else out


def number_text(value: float) -> str:
    """A number as Go prints it with ``'f', -1``: shortest digits that read back the same, no exponent."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value == int(value) and abs(value) < 1e15:
        return "-0" if value == 0 and math.copysign(1, value) < 0 else str(int(value))
    text = repr(value)
    if "e" not in text:
        return text.removesuffix(".0")
    mantissa, exponent = text.split("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    point = len(whole) + int(exponent)
    digits = whole + (fraction if fraction != "0" else "")
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    if point >= len(digits):
        return f"{sign}{digits}{'0' * (point - len(digits))}"
    return f"{sign}{digits[:point]}.{digits[point:]}"


def quote(value: str) -> str:
    """A double-quoted PromQL string."""
    out = ['"']
    for char in value:
        code = ord(char)
        if char in '"\\':
            out.append("\\" + char)
        elif char == "\n":
            out.append("\\n")
        elif 0xDC80 <= code <= 0xDCFF:
            out.append(f"\\x{code - 0xDC00:02x}")
        elif code < 0x20 or code == 0x7F:
            out.append(f"\\x{code:02x}")
        else:
            out.append(char)
    return "".join(out) + '"'


def label_text(name: str) -> str:
    return name if LEGACY_LABEL.match(name) else quote(name)


def label_list(names: tuple[str, ...]) -> str:
    return ", ".join(label_text(n) for n in names)


def _modifiers(at: At, offset_ms: int) -> str:
    text = ""
    if isinstance(at, Anchor):
        text += f" @ {at.value}"
    elif at is not None:
        text += f" @ {'-' if at < 0 else ''}{abs(at) // 1000}.{abs(at) % 1000:03d}"
    if offset_ms:
        text += f" offset {duration_text(offset_ms)}"
    return text
