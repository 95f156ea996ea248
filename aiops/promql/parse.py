"""PromQL text to our plan: the grammar of Prometheus 3, its messages and their places.

A parser of our own, since the library there is gives no positions, panics on some input and takes ``@ -1`` wrongly.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from functools import lru_cache

from aiops.core.errors import QueryError
from aiops.core.series import METRIC_NAME, Matcher, MatchOp
from aiops.promql.check import check
from aiops.promql.label_syntax import LabelSyntax
from aiops.promql.lexer import AGGREGATORS, PREPROCESSORS, Token, TokenKind, lex, number_of, unquote
from aiops.promql.plan import (
    Aggregation,
    Anchor,
    At,
    Binary,
    Call,
    Matching,
    Number,
    Paren,
    Plan,
    Selector,
    String,
    Subquery,
    Unary,
    add_matchers,
    number_text,
    quote,
    walk,
    with_modifiers,
)
from aiops.promql.signatures import EXPERIMENTAL_AGGREGATORS, FUNCTIONS, RENAMED

MAX_DEPTH = 100
MAX_OPERATORS = 300
MAX_AT_S = 9.2e15
TOO_DEEP = "The query is nested too deeply."
SET_OPERATORS = frozenset({"and", "or", "unless"})
WITH_PARAMETER = frozenset({"topk", "bottomk", "quantile", "count_values", "limitk", "limit_ratio"})
ENABLE = "Set promql.experimental_functions to allow it."
_POWER = 6
_LEVELS = {
    "or": 1, "and": 2, "unless": 2, "==": 3, "!=": 3, "<": 3, ">": 3, "<=": 3, ">=": 3, "+": 4, "-": 4,
    "*": 5, "/": 5, "%": 5, "atan2": 5, "^": _POWER,
}  # fmt: skip
_METRIC_WORDS = frozenset({"by", "offset", "without", "and", "or", "unless"}) | AGGREGATORS | PREPROCESSORS
_SELECTS = "must be preceded by an instant vector selector or range vector selector or a subquery"


@lru_cache(maxsize=1024)
def parse(text: str, *, experimental: bool = True, step_ms: int | None = None, range_ms: int | None = None) -> Plan:
    """The plan of a query.

    Args:
        experimental: whether functions behind Prometheus' experimental flag are allowed.
        step_ms, range_ms: what ``step()`` and ``range()`` in a duration mean; without them they are refused.

    Raises:
        QueryError: what is wrong and where, as ``line:column: parse error: …``.
    """
    tokens = lex(text)
    if _nesting(tokens) > MAX_DEPTH:
        raise QueryError(f"The query is nested deeper than {MAX_DEPTH} levels.")
    # A chain of binary operators nests to one side.
    if sum(token.kind is TokenKind.OPERATOR for token in tokens) > MAX_OPERATORS:
        raise QueryError(f"The query has more than {MAX_OPERATORS} operators.")
    try:
        plan = _Parser(text, tokens, experimental, step_ms, range_ms).whole()
        check(plan, text)
    except RecursionError:
        raise QueryError(TOO_DEEP) from None
    return plan


def inject_matchers(text: str, matchers: Sequence[Matcher]) -> str:
    """The query with ``matchers`` ANDed to every selector, printed anew. Raises ``QueryError``."""
    plan = parse(text)
    try:
        return str(add_matchers(plan, tuple(matchers)))
    except RecursionError:
        raise QueryError(TOO_DEEP) from None


def selectors_of(text: str) -> list[Selector]:
    """All selectors of a query, left to right."""
    return [node for node in walk(parse(text)) if isinstance(node, Selector)]


def parse_selector(text: str) -> tuple[Matcher, ...]:
    """Matchers of a series selector such as ``up{job="api"}`` (``match[]``). Raises ``QueryError``."""
    plan = parse(text)
    if not isinstance(plan, Selector) or plan.range_ms is not None or plan.offset_ms or plan.at is not None:
        raise QueryError("1:1: parse error: expected a series selector")
    return plan.matchers


def _nesting(tokens: Sequence[Token]) -> int:
    deepest = depth = run = 0
    for token in tokens:
        if token.kind is TokenKind.SYMBOL:
            depth += (token.text in "([{") - (token.text in ")]}")
        run = run + 1 if token.text in ("-", "+", "^") else 0
        deepest = max(deepest, depth + run)
    return deepest


class _Parser(LabelSyntax):
    """Recursive descent, with the contexts that Prometheus' grammar names in its messages."""

    def __init__(
        self, text: str, tokens: Sequence[Token], experimental: bool, step_ms: int | None, range_ms: int | None
    ) -> None:
        super().__init__(text, tokens, experimental, step_ms, range_ms)
        self.contexts: list[str] = []

    def whole(self) -> Plan:
        if self.peek().kind is TokenKind.END:
            raise self.error(0, "no expression found in input")
        plan = self.expression(0)
        if self.peek().kind is not TokenKind.END:
            raise self.misfit()
        return plan

    def misfit(self) -> QueryError:
        """What stands here fits nothing that could follow."""
        return self.unexpected(self.contexts[-1] if self.contexts else "")

    # ------------------------------------------------------------ operators

    def expression(self, level: int) -> Plan:
        """An expression of operators that bind at least as tightly as ``level``."""
        left = self.operand()
        while self.peek().kind is TokenKind.OPERATOR and _LEVELS.get(self.peek().word, 0) > max(level - 1, 0):
            token = self.take()
            returns_bool, matching = self.modifiers(token.word)
            own = _LEVELS[token.word]
            right = self.expression(own if own == _POWER else own + 1)
            left = Binary(token.word, left, right, matching, returns_bool, token.start)
        return left

    def operand(self) -> Plan:
        token = self.peek()
        if token.kind is not TokenKind.OPERATOR or token.text not in "+-":
            return self.selected(self.primary())
        self.take()
        inner = self.expression(_POWER)
        if isinstance(inner, Number):
            return Number(-inner.value if token.text == "-" else inner.value, token.start)
        return Unary(token.text, inner, token.start)

    def modifiers(self, op: str) -> tuple[bool, Matching]:
        """``bool``, ``on``, ``group_left``, ``fill`` of a binary operator."""
        returns_bool = self.keyword("bool") is not None
        card = "many-to-many" if op in SET_OPERATORS else "one-to-one"
        labels: tuple[str, ...] = ()
        include: tuple[str, ...] = ()
        word = self.keyword("on", "ignoring")
        if word is not None:
            labels = self.labels()
            if (side := self.keyword("group_left", "group_right")) is not None:
                card = "many-to-one" if side.word == "group_left" else "one-to-many"
                include = self.labels() if self.peek().text == "(" else ()
        left = right = None
        while (fill := self.keyword("fill", "fill_left", "fill_right")) is not None:
            if not self.experimental:
                raise self.error(fill.start, "binop fill modifiers are experimental and not enabled", ENABLE)
            value = self.filler()
            left = value if fill.word != "fill_right" else left
            right = value if fill.word != "fill_left" else right
        on = word is not None and word.word == "on"
        return returns_bool, Matching(card, on, labels, include, left, right)

    def filler(self) -> float:
        self.expect("(")
        token = self.take() if self.peek().text in ("-", "+") else None
        if self.peek().kind is not TokenKind.NUMBER:
            raise self.misfit()
        value = number_of(self.take().text)
        self.expect(")")
        return -value if token is not None and token.text == "-" else value

    # ------------------------------------------------------------ operands

    def primary(self) -> Plan:
        token = self.peek()
        match token.kind:
            case TokenKind.NUMBER:
                self.take()
                return Number(number_of(token.text), token.start)
            case TokenKind.DURATION:
                return Number(self.literal_ms() / 1000, token.start)
            case TokenKind.STRING:
                self.take()
                return String(unquote(token.text), token.start)
            case TokenKind.AGGREGATOR if self.after.text == "(" or self.after.word in ("by", "without"):
                return self.aggregation()
            case TokenKind.IDENTIFIER | TokenKind.PREPROCESSOR if self.after.text == "(":
                return self.call()
            case TokenKind.SYMBOL if token.text == "(":
                self.take()
                inner = self.expression(0)
                self.expect(")")
                return Paren(inner, token.start)
            case TokenKind.SYMBOL if token.text == "{":
                return Selector(self.matchers(), start=token.start)
            case TokenKind.IDENTIFIER | TokenKind.METRIC:
                return self.named()
            case TokenKind.KEYWORD | TokenKind.OPERATOR | TokenKind.AGGREGATOR | TokenKind.PREPROCESSOR if (
                token.word in _METRIC_WORDS
            ):
                return self.named()
            case _:
                raise self.misfit()

    def named(self) -> Selector:
        token = self.take()
        name = Matcher(METRIC_NAME, MatchOp.EQUAL, token.text)
        rest = self.matchers() if self.peek().text == "{" else ()
        return Selector((name, *rest), start=token.start)

    def arguments(self) -> tuple[Plan, ...]:
        self.expect("(")
        if self.symbol(")"):
            return ()
        found = [self.expression(0)]
        while (comma := self.symbol(",")) is not None:
            if not self.begins_operand():
                raise self.error(comma.start, "trailing commas not allowed in function call args")
            found.append(self.expression(0))
        self.expect(")")
        return tuple(found)

    def begins_operand(self) -> bool:
        token = self.peek()
        match token.kind:
            case TokenKind.SYMBOL:
                return token.text in "({"
            case TokenKind.OPERATOR:
                return token.text in "+-" or token.word in _METRIC_WORDS
            case TokenKind.KEYWORD:
                return token.word in _METRIC_WORDS
            case kind:
                return kind is not TokenKind.END

    def call(self) -> Call:
        token = self.take()
        name = token.text
        args = self.arguments()
        known = FUNCTIONS.get(name)
        if known is None:
            near = difflib.get_close_matches(name, [*FUNCTIONS, *AGGREGATORS], n=1)
            other = RENAMED.get(name) or (near[0] if near else "")
            hint = f"Did you mean '{other}'?" if other else ""
            raise self.error(token.start, f"unknown function with name {quote(name)}", hint)
        if known.experimental and not self.experimental:
            raise self.error(token.start, f"function {quote(name)} is not enabled", ENABLE)
        return Call(name, args, known.result, token.start)

    def aggregation(self) -> Aggregation:
        token = self.take()
        op, start = token.word, token.start
        self.contexts.append("aggregation")
        word = self.keyword("by", "without")
        labels = self.labels() if word is not None else ()
        args = self.arguments()
        if word is None and (word := self.keyword("by", "without")) is not None:
            labels = self.labels()
        self.contexts.pop()
        if not args:
            raise self.error(start, "no arguments for aggregate expression provided")
        if op in EXPERIMENTAL_AGGREGATORS and not self.experimental:
            flag = "--enable-feature=promql-experimental-functions"
            raise self.error(start, f"{op}() is experimental and must be enabled with {flag}", ENABLE)
        wanted = 2 if op in WITH_PARAMETER else 1
        if len(args) != wanted:
            raise self.error(
                start,
                f"wrong number of arguments for aggregate expression provided, expected {wanted}, got {len(args)}",
            )
        without = word is not None and word.word == "without"
        return Aggregation(op, args[-1], args[0] if wanted == 2 else None, labels, without, start)

    # ------------------------------------------------------------ what follows a selector

    def selected(self, plan: Plan) -> Plan:
        """Ranges, subqueries, ``offset`` and ``@`` after an operand."""
        while True:
            token = self.peek()
            if token.kind is TokenKind.SYMBOL and token.text == "[":
                plan = self.ranged(plan)
            elif token.kind is TokenKind.KEYWORD and token.word == "offset":
                self.take()
                offset = self.offset_ms()
                if not isinstance(plan, Selector | Subquery):
                    raise self.error(plan.start, f"offset modifier {_SELECTS}")
                if plan.offset_ms:
                    raise self.error(plan.start, "offset may not be set multiple times")
                plan = with_modifiers(plan, offset_ms=offset)
            elif token.kind is TokenKind.OPERATOR and token.text == "@":
                self.take()
                at = self.anchor(plan)
                if not isinstance(plan, Selector | Subquery):
                    raise self.error(plan.start, f"@ modifier {_SELECTS}")
                if plan.at is not None:
                    raise self.error(plan.start, "@ <timestamp> may not be set multiple times")
                plan = with_modifiers(plan, at=at)
            elif token.kind is TokenKind.IDENTIFIER and token.word in ("anchored", "smoothed"):
                raise self.error(token.start, f"the modifier {token.word} is not supported")
            else:
                return plan

    def anchor(self, plan: Plan) -> At:
        if self.peek().kind is TokenKind.PREPROCESSOR and self.peek().word in ("start", "end"):
            word = self.take().word
            if not (self.symbol("(") and self.symbol(")")):
                raise self.unexpected("@", "timestamp")
            return Anchor.START if word == "start" else Anchor.END
        sign = -1.0 if self.peek().text == "-" else 1.0
        if self.peek().text in ("-", "+"):
            self.take()
        if self.peek().kind is TokenKind.DURATION:
            seconds = sign * self.literal_ms() / 1000
        elif self.peek().kind is TokenKind.NUMBER:
            seconds = sign * number_of(self.take().text)
        else:
            raise self.unexpected("@", "timestamp")
        if not abs(seconds) < MAX_AT_S:
            raise self.error(plan.start, f"timestamp out of bounds for @ modifier: {number_text(seconds)}")
        return round(seconds * 1000)

    def ranged(self, plan: Plan) -> Plan:
        bracket = self.take()
        length = self.length_ms()
        if self.symbol("]"):
            if not isinstance(plan, Selector) or plan.range_ms is not None:
                raise self.error(bracket.start, "ranges only allowed for vector selectors")
            if plan.offset_ms:
                raise self.error(bracket.start, "no offset modifiers allowed before range")
            if plan.at is not None:
                raise self.error(bracket.start, "no @ modifiers allowed before range")
            return with_modifiers(plan, range_ms=length)
        if not self.symbol(":"):
            raise self.unexpected("subquery or range", '":" or "]"')
        step = None if self.peek().text == "]" else self.length_ms('number or duration or "]"')
        if not self.symbol("]"):
            raise self.unexpected("subquery selector", '"]"')
        return Subquery(plan, length, step)
