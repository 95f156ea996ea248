"""Checks a plan before it runs: it parses, functions fit metric types, names and label values exist, it is affordable.

What it raises (:class:`InvalidPlan`) is written so that a planner can repair the plan from it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from aiops.agent.catalogue import Catalogue, resolve
from aiops.core.errors import InvalidPlan
from aiops.core.query import CompareStep, ForecastStep, MetricStep, Plan, PlanStep, ToolStep

OF_COUNTERS = frozenset({"rate", "increase", "irate", "resets"})
NOT_OF_COUNTERS = frozenset({"delta", "idelta", "deriv", "predict_linear"})
COUNTING = frozenset({"count", "group", "absent", "present_over_time", "count_over_time", "absent_over_time",
                      "timestamp", "changes"})  # fmt: skip
GAUGES = frozenset({"gauge", "info", "stateset"})


@dataclass(frozen=True, slots=True)
class Budget:
    """What one plan may cost: steps, window, points per series, series of one metric."""

    steps: int = 8
    window_s: float = 62 * 86400.0
    range_s: float = 31 * 86400.0
    series: int = 20_000


@dataclass(frozen=True, slots=True)
class Selector:
    """A selector with the functions around it, innermost first."""

    metric: str
    matchers: tuple[tuple[str, str, str], ...] = ()
    range_s: float = 0.0
    around: tuple[str, ...] = field(default=())


class Validator:
    """Checks plans against a live catalogue."""

    def __init__(self, budget: Budget | None = None, tools: tuple[str, ...] = ()) -> None:
        self._budget = budget or Budget()
        self._tools = tools

    def check(self, plan: Plan, catalogue: Catalogue, now_ms: int) -> None:
        """Raises ``InvalidPlan`` for the first thing that is wrong."""
        if len(plan.steps) > self._budget.steps:
            raise InvalidPlan(f"The plan has {len(plan.steps)} steps; at most {self._budget.steps} are run.")
        for number, step in enumerate(plan.steps, 1):
            try:
                self._check_step(step, catalogue, now_ms)
            except InvalidPlan as error:
                raise InvalidPlan(f"Step {number} ({step.kind}): {error.message}", hint=error.hint) from error

    def _check_step(self, step: PlanStep, catalogue: Catalogue, now_ms: int) -> None:
        start, end = step.window.resolve(now_ms)
        if end - start > self._budget.window_s * 1000 and isinstance(step, MetricStep | ForecastStep | CompareStep):
            raise InvalidPlan(f"The window is {(end - start) / 86_400_000:.0f} days; at most "
                              f"{self._budget.window_s / 86400:.0f} are read.")  # fmt: skip
        if start > now_ms:
            raise InvalidPlan("The window lies in the future.", hint="Use forecast for what is to come.")
        if isinstance(step, ToolStep) and step.name not in self._tools:
            known = ", ".join(self._tools) or "none"
            raise InvalidPlan(f"There is no tool named '{step.name}'.", hint=f"Known: {known}.")
        if isinstance(step, MetricStep | ForecastStep | CompareStep):
            zero = isinstance(step, MetricStep) and step.threshold is not None and step.threshold.value == 0
            self.check_promql(step.promql, catalogue, compares_to_zero=zero)
        if isinstance(step, ForecastStep) and "predict_linear" not in step.promql and "deriv" not in step.promql:
            raise InvalidPlan("A forecast needs predict_linear(gauge[range], seconds).")

    def check_promql(self, text: str, catalogue: Catalogue, *, compares_to_zero: bool = False) -> None:
        """Raises ``InvalidPlan`` for one expression."""
        tree = parse(text)
        _check_histograms(tree)
        found = list(selectors(tree))
        metrics = catalogue.metrics()
        for selector in found:
            if not selector.metric:
                raise InvalidPlan(
                    "A selector has no metric name.",
                    hint="Write the metric's name before the braces; see find_metrics.",
                )
            known = resolve(metrics, selector.metric)
            if known is None:
                near = difflib.get_close_matches(selector.metric, metrics, n=3, cutoff=0.6)
                hint = f"Did you mean {', '.join(near)}?" if near else "Search with find_metrics."
                raise InvalidPlan(f"The metric '{selector.metric}' does not exist.", hint=hint)
            self._check_type(selector, known.type, compares_to_zero or _compared_to_zero(tree))
            self._check_labels(selector, catalogue)
            if selector.range_s > self._budget.range_s:
                raise InvalidPlan(f"The range [{selector.range_s:.0f}s] of {selector.metric} is longer than 31 days.")

    @staticmethod
    def _check_type(selector: Selector, kind: str, zero: bool) -> None:
        used = set(selector.around)
        if kind in GAUGES and not selector.metric.endswith(("_total", "_bucket", "_count", "_sum")):
            wrong = sorted(used & OF_COUNTERS)
            if wrong:
                raise InvalidPlan(
                    f"{selector.metric} is a gauge, and {wrong[0]}() is for counters.",
                    hint="Use the gauge itself, delta() or deriv().",
                )
        if kind == "counter" or (kind in ("unknown", "histogram") and selector.metric.endswith(("_total", "_bucket"))):
            wrong = sorted(used & NOT_OF_COUNTERS)
            if wrong:
                raise InvalidPlan(f"{selector.metric} is a counter; {wrong[0]}() does not handle its resets.",
                                  hint="Use rate() or increase().")  # fmt: skip
            if not used & (OF_COUNTERS | COUNTING) and not zero:
                raise InvalidPlan(f"{selector.metric} is a counter, so its raw value says little.",
                                  hint=f"Use rate({selector.metric}[5m]) or increase().")  # fmt: skip

    def _check_labels(self, selector: Selector, catalogue: Catalogue) -> None:
        known = catalogue.labels(selector.metric)
        if known is None:
            return
        for name, op, value in selector.matchers:
            if name == "__name__" or op != "=" or value == "":
                continue
            if name not in known:
                have = ", ".join(sorted(known)) or "no labels"
                raise InvalidPlan(f"{selector.metric} has no label '{name}'.", hint=f"It has: {have}.")
            if value not in known[name]:
                near = difflib.get_close_matches(value, known[name], n=3, cutoff=0.5) or sorted(known[name])[:5]
                if _enumerates(name):
                    continue
                raise InvalidPlan(f"No series of {selector.metric} has {name}=\"{value}\".",
                                  hint=f"Near: {', '.join(near)}.")  # fmt: skip


def _enumerates(name: str) -> bool:
    """Labels whose series appear only once the state does: their absence is an answer, not a mistake."""
    return name in ("reason", "phase", "state", "status", "condition", "code", "http_response_status_code", "mode",
                    "role", "quantile", "le")  # fmt: skip


def parse(text: str) -> Any:
    """The syntax tree. Raises ``InvalidPlan``."""
    import promql_parser

    try:
        return promql_parser.parse(text)
    except (ValueError, TypeError) as error:
        raise InvalidPlan(f"The PromQL does not parse: {error}") from error
    except BaseException as error:
        # The Rust parser panics with a BaseException on some inputs; anything else is not ours to hold.
        if type(error).__name__ != "PanicException":
            raise
        raise InvalidPlan("The PromQL does not parse.") from error


def _children(node: Any) -> list[tuple[Any, str]]:
    """Sub-expressions with the function or operator that they are an argument of."""
    kind = type(node).__name__
    if kind == "BinaryExpr":
        return [(node.lhs, ""), (node.rhs, "")]
    if kind == "AggregateExpr":
        return [(node.expr, str(node.op).rsplit(".", 1)[-1].lower())]
    if kind == "Call":
        return [(a, node.func.name) for a in node.args]
    if kind in ("ParenExpr", "UnaryExpr", "SubqueryExpr"):
        return [(node.expr, "")]
    return []


def selectors(node: Any, around: tuple[str, ...] = ()) -> Iterator[Selector]:
    """Every selector of a tree with the functions around it, innermost first."""
    kind = type(node).__name__
    if kind == "MatrixSelector":
        yield _selector(node.vector_selector, around, node.range.total_seconds())
    elif kind == "VectorSelector":
        yield _selector(node, around, 0.0)
    for child, name in _children(node):
        yield from selectors(child, (name, *around) if name else around)


def _selector(node: Any, around: tuple[str, ...], range_s: float) -> Selector:
    matchers = tuple((m.name, _OPS.get(str(m.op).rsplit(".", 1)[-1], "="), m.value) for m in node.matchers.matchers)
    name = node.name or next((v for n, op, v in matchers if n == "__name__" and op == "="), "")
    return Selector(name, matchers, range_s, around)


_OPS = {"Equal": "=", "NotEqual": "!=", "Re": "=~", "NotRe": "!~"}


def _compared_to_zero(node: Any) -> bool:
    if type(node).__name__ == "BinaryExpr":
        right = node.rhs
        if type(right).__name__ == "NumberLiteral" and right.val == 0:
            return True
    return any(_compared_to_zero(child) for child, _ in _children(node))


def _check_histograms(node: Any) -> None:
    if type(node).__name__ == "Call" and node.func.name == "histogram_quantile":
        inner = node.args[1]
        for part in _walk(inner):
            if type(part).__name__ == "AggregateExpr" and part.modifier is not None:
                kept = list(part.modifier.labels)
                without = "without" in str(part.modifier.type).lower()
                if ("le" in kept) is without:
                    raise InvalidPlan("histogram_quantile needs the label 'le', which the aggregation inside drops.",
                                      hint="Write sum by (le, …) (rate(x_bucket[5m])).")  # fmt: skip
            elif type(part).__name__ == "AggregateExpr":
                raise InvalidPlan("histogram_quantile needs the label 'le', which the aggregation inside drops.",
                                  hint="Write sum by (le, …) (rate(x_bucket[5m])).")  # fmt: skip
        names = [s.metric for s in selectors(inner)]
        if names and not any(n.endswith("_bucket") for n in names):
            raise InvalidPlan(f"histogram_quantile needs buckets; {names[0]} is not a _bucket series.",
                              hint=f"Use {names[0]}_bucket.")  # fmt: skip
    for child, _ in _children(node):
        _check_histograms(child)


def _walk(node: Any) -> Iterator[Any]:
    yield node
    for child, _ in _children(node):
        yield from _walk(child)
