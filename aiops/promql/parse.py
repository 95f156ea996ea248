"""PromQL text to our plan, by ``promql-parser`` (Rust), wrapped so that nothing but ``QueryError`` comes out."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import promql_parser as rust

from aiops.core.errors import QueryError
from aiops.core.series import METRIC_NAME, Matcher, MatchOp
from aiops.promql.lexer import PLACEHOLDER, Lexed, error_at, is_operator, lex, locate
from aiops.promql.matching import compile_regex
from aiops.promql.plan import (
    Aggregation,
    Anchor,
    At,
    Binary,
    Call,
    Kind,
    Matching,
    Number,
    Paren,
    Plan,
    Selector,
    String,
    Subquery,
    Unary,
    add_matchers,
    walk,
)

MAX_DEPTH = 100
MAX_OPERATORS = 300
TOO_DEEP = "The query is nested too deeply."
SET_OPERATORS = frozenset({"and", "or", "unless"})
EXPERIMENTAL_AGGREGATORS = frozenset({"limitk", "limit_ratio"})
_EXPERIMENTAL = (
    "double_exponential_smoothing mad_over_time first_over_time ts_of_first_over_time ts_of_last_over_time "
    "ts_of_max_over_time ts_of_min_over_time sort_by_label sort_by_label_desc info histogram_quantiles "
    "start end step range max_of min_of"
)
EXPERIMENTAL_FUNCTIONS = frozenset(_EXPERIMENTAL.split())
_STABLE = (
    "abs absent absent_over_time acos acosh asin asinh atan atanh avg_over_time ceil changes clamp clamp_max clamp_min "
    "cos cosh count_over_time day_of_month day_of_week day_of_year days_in_month deg delta deriv exp floor "
    "histogram_avg histogram_count histogram_fraction histogram_quantile histogram_stddev histogram_stdvar "
    "histogram_sum hour idelta increase irate label_join label_replace last_over_time ln log10 log2 max_over_time "
    "min_over_time minute month pi predict_linear present_over_time quantile_over_time rad rate resets round scalar "
    "sgn sin sinh sort sort_desc sqrt stddev_over_time stdvar_over_time sum_over_time tan tanh time timestamp vector "
    "year avg bottomk count count_values group max min quantile stddev stdvar sum topk"
)
_FUNCTION_NAMES = tuple(_STABLE.split())
_CARDS = {
    "OneToOne": "one-to-one",
    "ManyToOne": "many-to-one",
    "OneToMany": "one-to-many",
    "ManyToMany": "many-to-many",
}


def parse(text: str, *, experimental: bool = True) -> Plan:
    """The plan of a query.

    Args:
        experimental: whether functions behind Prometheus' experimental flag are allowed.

    Raises:
        QueryError: what is wrong and where, as ``line:column: parse error: …``.
    """
    lexed = lex(text)
    if not lexed.tokens:
        raise error_at(text, 0, "no expression found in input")
    if _nesting(lexed) > MAX_DEPTH:
        raise QueryError(f"The query is nested deeper than {MAX_DEPTH} levels.")
    # A chain of binary operators nests to one side.
    if sum(map(is_operator, lexed.tokens)) > MAX_OPERATORS:
        raise QueryError(f"The query has more than {MAX_OPERATORS} operators.")
    # The library panics (a BaseException) on some input, so that Exception alone is not enough.
    try:
        node = rust.parse(lexed.safe_text)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001
        raise _explain(lexed, error) from None
    try:
        return _Translator(lexed, experimental).plan(node)
    except RecursionError:
        raise QueryError(TOO_DEEP) from None


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
        raise error_at(text, 0, "expected a series selector")
    return plan.matchers


def _nesting(lexed: Lexed) -> int:
    deepest = depth = run = 0
    for token in lexed.tokens:
        if token.text in ("(", "[", "{"):
            depth += 1
        elif token.text in (")", "]", "}"):
            depth -= 1
        run = run + 1 if token.text in ("-", "+") else 0
        deepest = max(deepest, depth + run)
    return deepest


def _explain(lexed: Lexed, error: BaseException) -> QueryError:
    message = str(error).strip() or "invalid promql query"
    hint = ""
    if message.startswith("unknown function with name"):
        name = message.split("'")[1] if "'" in message else ""
        near = difflib.get_close_matches(name, _FUNCTION_NAMES, n=1)
        hint = f"Did you mean '{near[0]}'?" if near else ""
        message = f'unknown function with name "{name}"'
    elif "illegal regex" in message:
        message = "invalid regular expression in a matcher"
    elif message == "invalid promql query" or "panic" in type(error).__name__.lower():
        start = locate(lexed, "")
        token = next((t for t in lexed.tokens if t.start == start), None)
        message = f"unexpected {_describe(token.kind)} {token.text!r}" if token else "unexpected end of input"
        return error_at(lexed.text, start, message)
    message = re.sub(r"\b(type|got) (matrix|vector)\b", lambda m: f"{m[1]} {_TYPES[m[2]]}", message)
    message = re.sub(f"{PLACEHOLDER}(\\d+)", lambda m: lexed.strings[int(m.group(1))], message)
    start = locate(lexed, str(error))
    if start == len(lexed.text) and "end of input" not in message:
        start = lexed.tokens[0].start
    return error_at(lexed.text, start, message, hint)


_TYPES = {"matrix": "range vector", "vector": "instant vector"}
"""The parser's words for types to those of Prometheus."""


def _describe(kind: str) -> str:
    return {"name": "identifier", "op": "character"}.get(kind, kind)


class _Translator:
    def __init__(self, lexed: Lexed, experimental: bool) -> None:
        self.lexed = lexed
        self.experimental = experimental

    def fail(self, message: str, word: str = "") -> QueryError:
        start = next((t.start for t in self.lexed.tokens if t.text == word), 0) if word else 0
        return error_at(self.lexed.text, start, message)

    def plan(self, node: Any) -> Plan:
        match type(node).__name__:
            case "NumberLiteral":
                return Number(float(node.val))
            case "StringLiteral":
                return String(self.lexed.string(node.val))
            case "ParenExpr":
                return Paren(self.plan(node.expr))
            case "UnaryExpr":
                return Unary("-", self.plan(node.expr))
            case "VectorSelector":
                return self.selector(node, None)
            case "MatrixSelector":
                length = _ms(node.range)
                if length <= 0:
                    raise self.fail("duration must be greater than 0")
                return self.selector(node.vector_selector, length)
            case "SubqueryExpr":
                step = _ms(node.step) if node.step is not None else None
                return Subquery(self.plan(node.expr), _ms(node.range), step, _offset(node.offset), self.at(node.at))
            case "BinaryExpr":
                return self.binary(node)
            case "AggregateExpr":
                return self.aggregation(node)
            case "Call":
                return self.call(node)
            case other:
                raise self.fail(f"{other} is not supported")

    def at(self, modifier: Any) -> At:
        if modifier is None:
            return None
        kind = str(modifier.type).rsplit(".", 1)[-1]
        if kind == "Start":
            return Anchor.START
        if kind == "End":
            return Anchor.END
        return int(self.lexed.times_ms[round(modifier.at.timestamp())])

    def selector(self, node: Any, range_ms: int | None, *, may_match_all: bool = False) -> Selector:
        if node.matchers.or_matchers:
            raise self.fail("'or' between matchers is not PromQL")
        matchers = [Matcher(METRIC_NAME, MatchOp.EQUAL, self.lexed.string(node.name))] if node.name else []
        for item in node.matchers.matchers:
            op = {"Equal": MatchOp.EQUAL, "NotEqual": MatchOp.NOT_EQUAL, "Re": MatchOp.REGEX}.get(
                str(item.op).rsplit(".", 1)[-1], MatchOp.NOT_REGEX
            )
            matcher = Matcher(self.lexed.string(item.name), op, self.lexed.string(item.value))
            if op in (MatchOp.REGEX, MatchOp.NOT_REGEX):
                self.check_regex(matcher.value)
            if node.name and matcher.name == METRIC_NAME and op is MatchOp.EQUAL and matcher != matchers[0]:
                raise self.fail(f'metric name must not be set twice: "{matchers[0].value}" or "{matcher.value}"')
            if matcher not in matchers:
                matchers.append(matcher)
        if not may_match_all and all(_matches_empty(m) for m in matchers):
            raise self.fail("vector selector must contain at least one non-empty matcher", "{")
        return Selector(tuple(matchers), _offset(node.offset), self.at(node.at), range_ms)

    def check_regex(self, pattern: str) -> None:
        try:
            compile_regex(pattern)
        except ValueError as error:
            token = next((t for t in self.lexed.tokens if t.kind == "string" and t.text[1:-1] == pattern), None)
            raise error_at(
                self.lexed.text, token.start if token else 0, f"invalid regular expression {pattern!r}: {error}"
            ) from None

    def binary(self, node: Any) -> Binary:
        modifier = node.modifier
        op = str(node.op).strip().lower()
        left, right = self.plan(node.lhs), self.plan(node.rhs)
        if modifier is None:
            matching = Matching("many-to-many" if op in SET_OPERATORS else "one-to-one")
            return Binary(op, left, right, matching)
        card = _CARDS[str(modifier.card).rsplit(".", 1)[-1]]
        on = False
        labels: tuple[str, ...] = ()
        if modifier.matching is not None:
            on = str(modifier.matching.type).endswith("Include")
            labels = self.names(modifier.matching.labels)
        include = self.names(modifier.group_labels or ())
        if on and set(labels) & set(include):
            name = min(set(labels) & set(include))
            raise self.fail(f'label "{name}" must not occur in ON and GROUP clause at once')
        fill = modifier.fill_values
        if op in SET_OPERATORS:
            card = "many-to-many"
        matching = Matching(card, on, labels, include, fill.lhs if fill else None, fill.rhs if fill else None)
        return Binary(op, left, right, matching, bool(modifier.return_bool))

    def aggregation(self, node: Any) -> Aggregation:
        op = str(node.op).strip().lower()
        if op in EXPERIMENTAL_AGGREGATORS and not self.experimental:
            raise self.fail(f"{op}() is experimental and must be enabled by promql.experimental_functions", op)
        labels: tuple[str, ...] = ()
        without = False
        if node.modifier is not None:
            without = str(node.modifier.type).endswith("Without")
            labels = self.names(node.modifier.labels)
        param = self.plan(node.param) if node.param is not None else None
        expr = self.plan(node.expr)
        if expr.kind is not Kind.VECTOR:
            raise self.fail(f"expected type instant vector in aggregation expression, got {expr.kind}", op)
        if op == "count_values" and (param is None or param.kind is not Kind.STRING):
            raise self.fail("expected type string in aggregation parameter", op)
        if op in ("topk", "bottomk", "quantile", "limitk", "limit_ratio") and (
            param is None or param.kind is not Kind.SCALAR
        ):
            raise self.fail("expected type scalar in aggregation parameter", op)
        return Aggregation(op, expr, param, labels, without)

    def call(self, node: Any) -> Call:
        name = node.func.name
        if (name in EXPERIMENTAL_FUNCTIONS or node.func.experimental) and not self.experimental:
            raise self.fail(f'function "{name}" is not enabled; set promql.experimental_functions', name)
        kind = {"Vector": Kind.VECTOR, "Scalar": Kind.SCALAR, "Matrix": Kind.MATRIX}.get(
            str(node.func.return_type).rsplit(".", 1)[-1], Kind.STRING
        )
        if name == "info" and len(node.args) == 2 and type(node.args[1]).__name__ == "VectorSelector":
            data = self.selector(node.args[1], None, may_match_all=True)
            return Call(name, (self.plan(node.args[0]), data), kind)
        return Call(name, tuple(self.plan(a) for a in node.args), kind)

    def names(self, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.lexed.string(n) for n in names))


def _matches_empty(matcher: Matcher) -> bool:
    match matcher.op:
        case MatchOp.EQUAL:
            return matcher.value == ""
        case MatchOp.NOT_EQUAL:
            return matcher.value != ""
        case MatchOp.REGEX:
            return compile_regex(matcher.value).fullmatch("") is not None
        case _:
            return compile_regex(matcher.value).fullmatch("") is None


def _ms(delta: timedelta) -> int:
    return round(delta / timedelta(milliseconds=1))


def _offset(delta: timedelta | None) -> int:
    return 0 if delta is None else _ms(delta)
