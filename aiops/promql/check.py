"""Types of a parsed query, checked in the order and with the words of Prometheus."""

from __future__ import annotations

from aiops.core.errors import QueryError
from aiops.core.series import METRIC_NAME, Matcher, MatchOp
from aiops.promql.matching import compile_regex
from aiops.promql.places import error_at
from aiops.promql.plan import Aggregation, Binary, Call, Kind, Paren, Plan, Selector, Subquery, Unary, quote
from aiops.promql.signatures import FUNCTIONS

COMPARISONS = frozenset({"==", "!=", "<", ">", "<=", ">="})
SETS = frozenset({"and", "or", "unless"})
TYPES = {
    Kind.SCALAR: "scalar", Kind.STRING: "string", Kind.VECTOR: "instant vector", Kind.MATRIX: "range vector",
}  # fmt: skip
_OPERANDS = "binary expression must contain only scalar and instant vector types"


def check(plan: Plan, text: str) -> None:
    """Raises ``QueryError`` for the first thing that is wrong."""
    _Checker(text).node(plan)


class _Checker:
    def __init__(self, text: str) -> None:
        self.text = text

    def error(self, start: int, message: str) -> QueryError:
        return error_at(self.text, start, message)

    def node(self, plan: Plan) -> None:
        match plan:
            case Aggregation():
                self.aggregation(plan)
            case Binary():
                self.binary(plan)
            case Call():
                self.call(plan)
            case Paren():
                self.node(plan.expr)
            case Unary():
                self.node(plan.expr)
                if plan.kind not in (Kind.SCALAR, Kind.VECTOR):
                    raise self.error(
                        plan.start,
                        "unary expression only allowed on expressions of type scalar or instant vector, "
                        f"got {quote(TYPES[plan.kind])}",
                    )
            case Subquery():
                self.node(plan.expr)
                if plan.expr.kind is not Kind.VECTOR:
                    word = plan.expr.kind.value
                    raise self.error(plan.start, f"subquery is only allowed on instant vector, got {word} instead")
            case Selector():
                self.selector(plan)
            case _:
                pass

    def expect(self, plan: Plan, kind: Kind, where: str) -> None:
        self.node(plan)
        if plan.kind is not kind:
            raise self.error(plan.start, f"expected type {TYPES[kind]} in {where}, got {TYPES[plan.kind]}")

    def aggregation(self, plan: Aggregation) -> None:
        self.expect(plan.expr, Kind.VECTOR, "aggregation expression")
        if plan.param is not None:
            kind = Kind.STRING if plan.op == "count_values" else Kind.SCALAR
            self.expect(plan.param, kind, "aggregation parameter")

    def binary(self, plan: Binary) -> None:
        self.node(plan.left)
        self.node(plan.right)
        left, right, matching = plan.left.kind, plan.right.kind, plan.matching
        compares = plan.op in COMPARISONS
        if plan.returns_bool and not compares:
            raise self.error(plan.op_start, "bool modifier can only be used on comparison operators")
        if compares and not plan.returns_bool and left is right is Kind.SCALAR:
            raise self.error(plan.op_start, "comparisons between scalars must use BOOL modifier")
        if matching.on and (both := set(matching.labels) & set(matching.include)):
            name = next(label for label in matching.labels if label in both)
            raise self.error(plan.op_start, f"label {quote(name)} must not occur in ON and GROUP clause at once")
        for side in (plan.left, plan.right):
            if side.kind not in (Kind.SCALAR, Kind.VECTOR):
                raise self.error(side.start, _OPERANDS)
        filled = matching.fill_left is not None or matching.fill_right is not None
        if left is not Kind.VECTOR or right is not Kind.VECTOR:
            if matching.labels:
                raise self.error(plan.start, "vector matching only allowed between instant vectors")
            if filled:
                raise self.error(plan.start, "filling in missing series only allowed between instant vectors")
            if plan.op in SETS:
                raise self.error(plan.start, f"set operator {quote(plan.op)} not allowed in binary scalar expression")
        elif plan.op in SETS:
            if matching.card != "many-to-many":
                raise self.error(plan.start, f"no grouping allowed for {quote(plan.op)} operation")
            if filled:
                raise self.error(plan.start, "filling in missing series not allowed for set operators")

    def call(self, plan: Call) -> None:
        known = FUNCTIONS[plan.function]
        name, got = quote(plan.function), len(plan.args)
        least = len(known.args) - known.optional
        if not known.optional and got != least:
            raise self.error(plan.start, f"expected {least} argument(s) in call to {name}, got {got}")
        if got < least:
            raise self.error(plan.start, f"expected at least {least} argument(s) in call to {name}, got {got}")
        if known.repeats > 0 and got > least + known.repeats:
            most = least + known.repeats
            raise self.error(plan.start, f"expected at most {most} argument(s) in call to {name}, got {got}")
        if plan.function == "info" and got > 1:
            self.info(plan.args[1])
        for position, arg in enumerate(plan.args):
            kind = known.kind_of(position)
            if kind is not None and not (plan.function == "info" and position == 1):
                self.expect(arg, kind, f"call to function {name}")

    def info(self, labels: Plan) -> None:
        if not isinstance(labels, Selector) or labels.range_ms is not None:
            raise self.error(labels.start, "expected label selectors only")
        if self.outside(labels):
            raise self.error(labels.start, "expected label selectors only, got vector selector instead")

    def outside(self, plan: Selector) -> bool:
        """Whether the metric name stands before the braces."""
        return self.text[plan.start : plan.start + 1] != "{"

    def selector(self, plan: Selector) -> None:
        if self.outside(plan):
            for matcher in plan.matchers[1:]:
                if matcher.name == METRIC_NAME:
                    twice = f"{quote(plan.matchers[0].value)} or {quote(matcher.value)}"
                    raise self.error(plan.start, f"metric name must not be set twice: {twice}")
        elif all(matches_empty(matcher) for matcher in plan.matchers):
            raise self.error(plan.start, "vector selector must contain at least one non-empty matcher")


def matches_empty(matcher: Matcher) -> bool:
    match matcher.op:
        case MatchOp.EQUAL:
            return matcher.value == ""
        case MatchOp.NOT_EQUAL:
            return matcher.value != ""
        case MatchOp.REGEX:
            return compile_regex(matcher.value).fullmatch("") is not None
        case _:
            return compile_regex(matcher.value).fullmatch("") is None
