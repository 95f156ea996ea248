"""Measures that others know, made into entries of the watch list; and those that alerting rules compare."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from aiops.core.errors import QueryError
from aiops.core.watching import AlertCondition, Measure
from aiops.incidents.watch import WatchEntry, meaning
from aiops.promql.parse import parse
from aiops.promql.plan import Binary, Kind, Paren, Plan, Selector, walk

_UP = frozenset([">", ">="])
_COMPARED = frozenset([">", ">=", "<", "<="])
_PARTS = ("_bucket", "_sum", "_count", "_total")
_LEAST = {"errors": 0.02, "saturation": 0.1, "latency": 0.0}
_SHARE = {"errors": 0.5, "latency": 0.4, "traffic": 0.4}


def measure_entries(
    measures: Iterable[Measure], known: Collection[WatchEntry], step_ms: int, limit: int
) -> tuple[WatchEntry, ...]:
    """Entries for at most ``limit`` measures that no known entry watches already, in their order.

    A measure is watched already where one entry asks all of its metrics, where it asks both sides of an entry's ratio,
    or where it has an entry's name or query.
    """
    asked = [frozenset(map(_family, entry.needs)) for entry in known if entry.needs]
    names, queries = {entry.name for entry in known}, {entry.query for entry in known}
    out: list[WatchEntry] = []
    for one in measures:
        if len(out) >= limit:
            break
        mine = frozenset(map(_family, one.needs))
        if (
            one.name in names
            or one.query in queries
            or any(mine <= other or (len(other) > 1 and other <= mine) for other in asked)
        ):
            continue
        out.append(_entry(one, step_ms))
        names.add(one.name)
        queries.add(one.query)
    return tuple(out)


def _entry(one: Measure, step_ms: int) -> WatchEntry:
    kind = "errors" if "error" in one.name else meaning(f"{one.name} {one.query}")[0]
    kind = "saturation" if one.unit == "ratio" and kind in ("other", "traffic") else kind
    least = _LEAST.get(kind, 0.02) if one.unit == "ratio" else 0.0
    return WatchEntry(
        one.name,
        one.query,
        step_ms,
        kind,
        one.direction,
        one.unit,
        one.needs,
        least,
        _SHARE.get(kind, 0.2),
        found=True,
    )


def alert_measures(conditions: Iterable[AlertCondition]) -> list[Measure]:
    """What alerting rules compare with a number, by ``<`` or ``>``; rules of another form are left out.

    >>> rules = [AlertCondition("Slow", "p95_seconds > 0.5"), AlertCondition("Gone", "up == 0")]
    >>> [(m.name, m.query, m.direction) for m in alert_measures(rules)]
    [('Slow_condition', 'p95_seconds', 'up')]
    """
    out: dict[str, Measure] = {}
    for rule in conditions:
        try:
            found = _compared(parse(rule.query))
        except QueryError:
            continue
        if found is None:
            continue
        plan, operator = found
        if isinstance(plan, Selector) and plan.name.endswith("_total"):
            continue  # a counter as it is says nothing
        needs = sorted({name for node in walk(plan) if isinstance(node, Selector) and (name := node.name)})
        if needs:
            name = f"{re.sub(r'[^A-Za-z0-9]+', '_', rule.name).strip('_') or 'alert'}_condition"
            direction = "up" if operator in _UP else "down"
            out.setdefault(str(plan), Measure(name, str(plan), "", direction, tuple(needs)))
    return list(out.values())


def _compared(plan: Plan) -> tuple[Plan, str] | None:
    """The side of a comparison that is no number, and the operator as if it stood on the left."""
    if isinstance(plan, Paren):
        return _compared(plan.expr)
    if not isinstance(plan, Binary):
        return None
    if plan.op not in _COMPARED:
        return _compared(plan.left) if plan.op in ("and", "unless", "or") else None
    if plan.right.kind is Kind.SCALAR and plan.left.kind is Kind.VECTOR:
        return _bare(plan.left), plan.op
    if plan.left.kind is Kind.SCALAR and plan.right.kind is Kind.VECTOR:
        return _bare(plan.right), plan.op.translate(str.maketrans("<>", "><"))
    return None


def _bare(plan: Plan) -> Plan:
    return _bare(plan.expr) if isinstance(plan, Paren) else plan


def _family(name: str) -> str:
    return next((name.removesuffix(part) for part in _PARTS if name.endswith(part)), name)
