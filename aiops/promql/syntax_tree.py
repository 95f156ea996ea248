"""A plan as the JSON tree that Prometheus' ``/api/v1/parse_query`` gives. Durations are milliseconds."""

from __future__ import annotations

from typing import Any

from aiops.core.series import METRIC_NAME, Matcher
from aiops.promql.plan import (
    Aggregation,
    Anchor,
    At,
    Binary,
    Call,
    Kind,
    Number,
    Paren,
    Plan,
    Selector,
    String,
    Subquery,
    Unary,
    number_text,
)
from aiops.promql.signatures import FUNCTIONS


def tree(plan: Plan) -> dict[str, Any]:
    match plan:
        case Number():
            return {"type": "numberLiteral", "val": number_text(plan.value)}
        case String():
            return {"type": "stringLiteral", "val": plan.value}
        case Paren():
            return {"type": "parenExpr", "expr": tree(plan.expr)}
        case Unary():
            return {"type": "unaryExpr", "op": plan.op, "expr": tree(plan.expr)}
        case Selector():
            return _selector(plan)
        case Subquery():
            span = {"range": plan.range_ms, "offset": plan.offset_ms, "step": plan.step_ms or 0}
            return {"type": "subquery", "expr": tree(plan.expr), **span, **_at(plan.at)}
        case Binary():
            return _binary(plan)
        case Aggregation():
            return {
                "type": "aggregation",
                "op": plan.op,
                "expr": tree(plan.expr),
                "param": None if plan.param is None else tree(plan.param),
                "grouping": list(plan.labels),
                "without": plan.without,
            }
        case Call():
            return {"type": "call", "func": _function(plan.function), "args": [tree(arg) for arg in plan.args]}


def _function(name: str) -> dict[str, Any]:
    known = FUNCTIONS[name]
    kinds = [kind.value for kind in known.args]
    return {"name": name, "argTypes": kinds, "variadic": known.repeats, "returnType": known.result.value}


def _selector(plan: Selector) -> dict[str, Any]:
    matchers = [_matcher(m) for m in plan.matchers if m.name != METRIC_NAME]
    matchers += [_matcher(m) for m in plan.matchers if m.name == METRIC_NAME]
    kind = "vectorSelector" if plan.range_ms is None else "matrixSelector"
    span = {} if plan.range_ms is None else {"range": plan.range_ms}
    own = {"type": kind, "name": plan.name, **span, "offset": plan.offset_ms, "matchers": matchers}
    return {**own, **_at(plan.at)}


def _matcher(matcher: Matcher) -> dict[str, str]:
    return {"name": matcher.name, "value": matcher.value, "type": matcher.op.value}


def _at(at: At) -> dict[str, Any]:
    if isinstance(at, Anchor):
        return {"timestamp": None, "startOrEnd": at.value.removesuffix("()")}
    return {"timestamp": at, "startOrEnd": None}


def _binary(plan: Binary) -> dict[str, Any]:
    vectors = plan.left.kind is Kind.VECTOR and plan.right.kind is Kind.VECTOR
    matching = plan.matching
    matched = {
        "card": matching.card,
        "labels": list(matching.labels),
        "on": matching.on,
        "include": list(matching.include),
        "fillValues": {"lhs": matching.fill_left, "rhs": matching.fill_right},
    }
    return {
        "type": "binaryExpr",
        "op": plan.op,
        "lhs": tree(plan.left),
        "rhs": tree(plan.right),
        "matching": matched if vectors else None,
        "bool": plan.returns_bool,
    }
