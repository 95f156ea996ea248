"""Checks a plan before it runs: it parses, functions fit metric types, names and label values exist, it is affordable.

What it raises (:class:`InvalidPlan`) is written so that a planner can repair the plan from it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass

from aiops.agent.catalogue import Catalogue, resolve
from aiops.core.errors import InvalidPlan, QueryError
from aiops.core.query import CompareStep, ForecastStep, MetricStep, Plan, PlanStep, ToolStep
from aiops.core.series import METRIC_NAME, MatchOp
from aiops.promql import parse as promql
from aiops.promql.plan import Aggregation, Binary, Call, Number, Selector, Subquery, children, unwrap, walk
from aiops.promql.plan import Plan as Expression

DAY_MS = 86_400_000

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
class Use:
    """A selector with the functions around it, innermost first."""

    selector: Selector
    around: tuple[str, ...] = ()

    @property
    def metric(self) -> str:
        return self.selector.name


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
            raise InvalidPlan(f"The window is {(end - start) / DAY_MS:.0f} days; at most "
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
        _check_histograms(tree, catalogue)
        longest = self._budget.range_s * 1000
        for node in walk(tree):
            if isinstance(node, Selector | Subquery) and (node.range_ms or 0) > longest:
                raise InvalidPlan(f"The range of {node} is longer than {longest / DAY_MS:.0f} days.")
        metrics = catalogue.metrics()
        for use in uses(tree):
            if not use.metric:
                raise InvalidPlan(
                    "A selector has no metric name.",
                    hint="Write the metric's name before the braces; see find_metrics.",
                )
            known = resolve(metrics, use.metric)
            if known is None:
                near = difflib.get_close_matches(use.metric, metrics, n=3, cutoff=0.6)
                hint = f"Did you mean {', '.join(near)}?" if near else "Search with find_metrics."
                raise InvalidPlan(f"The metric '{use.metric}' does not exist.", hint=hint)
            self._check_type(use, known.type, compares_to_zero or _compared_to_zero(tree))
            self._check_labels(use, catalogue)

    @staticmethod
    def _check_type(use: Use, kind: str, zero: bool) -> None:
        used = set(use.around)
        if kind in GAUGES and not use.metric.endswith(("_total", "_bucket", "_count", "_sum")):
            wrong = sorted(used & OF_COUNTERS)
            if wrong:
                raise InvalidPlan(
                    f"{use.metric} is a gauge, and {wrong[0]}() is for counters.",
                    hint="Use the gauge itself, delta() or deriv().",
                )
        if kind == "counter" or (kind in ("unknown", "histogram") and use.metric.endswith(("_total", "_bucket"))):
            wrong = sorted(used & NOT_OF_COUNTERS)
            if wrong:
                raise InvalidPlan(f"{use.metric} is a counter; {wrong[0]}() does not handle its resets.",
                                  hint="Use rate() or increase().")  # fmt: skip
            if not used & (OF_COUNTERS | COUNTING) and not zero:
                raise InvalidPlan(f"{use.metric} is a counter, so its raw value says little.",
                                  hint=f"Use rate({use.metric}[5m]) or increase().")  # fmt: skip

    def _check_labels(self, use: Use, catalogue: Catalogue) -> None:
        known = catalogue.labels(use.metric)
        if known is None:
            return
        for matcher in use.selector.matchers:
            name, value = matcher.name, matcher.value
            if name == METRIC_NAME or matcher.op is not MatchOp.EQUAL or value == "":
                continue
            if name not in known:
                have = ", ".join(sorted(known)) or "no labels"
                raise InvalidPlan(f"{use.metric} has no label '{name}'.", hint=f"It has: {have}.")
            if value not in known[name]:
                near = difflib.get_close_matches(value, known[name], n=3, cutoff=0.5) or sorted(known[name])[:5]
                if _enumerates(name):
                    continue
                raise InvalidPlan(f"No series of {use.metric} has {name}=\"{value}\".",
                                  hint=f"Near: {', '.join(near)}.")  # fmt: skip


def _enumerates(name: str) -> bool:
    """Labels whose series appear only once the state does: their absence is an answer, not a mistake."""
    return name in ("reason", "phase", "state", "status", "condition", "code", "http_response_status_code", "mode",
                    "role", "quantile", "le")  # fmt: skip


def parse(text: str) -> Expression:
    """The plan of an expression. Raises ``InvalidPlan``, with the place of the mistake."""
    try:
        return promql.parse(text)
    except QueryError as error:
        raise InvalidPlan(f"The PromQL does not parse: {error.message}") from error


def uses(node: Expression, around: tuple[str, ...] = ()) -> Iterator[Use]:
    """Every selector of an expression with the functions around it, innermost first."""
    match node:
        case Selector():
            yield Use(node, around)
        case Aggregation():
            around = (node.op, *around)
        case Call():
            around = (node.function, *around)
    for child in children(node):
        yield from uses(child, around)


def _compared_to_zero(tree: Expression) -> bool:
    return any(
        isinstance(node, Binary) and isinstance(right := unwrap(node.right), Number) and right.value == 0
        for node in walk(tree)
    )


def _native(name: str, catalogue: Catalogue) -> bool:
    """Whether a name is that of a native histogram: a histogram without series of buckets."""
    known = catalogue.metrics().get(name)
    if known is None or known.type not in ("histogram", "gaugehistogram"):
        return False
    return catalogue.labels(name) is not None and not catalogue.labels(f"{name}_bucket")


def _check_histograms(tree: Expression, catalogue: Catalogue) -> None:
    for node in walk(tree):
        if not isinstance(node, Call) or node.function != "histogram_quantile":
            continue
        inner = node.args[1]
        if all(_native(use.metric, catalogue) for use in uses(inner)):
            continue
        for part in walk(inner):
            if isinstance(part, Aggregation) and ("le" in part.labels) is part.without:
                raise InvalidPlan("histogram_quantile needs the label 'le', which the aggregation inside drops.",
                                  hint="Write sum by (le, …) (rate(x_bucket[5m])).")  # fmt: skip
        names = [use.metric for use in uses(inner)]
        if names and not any(n.endswith("_bucket") for n in names):
            raise InvalidPlan(f"histogram_quantile needs buckets; {names[0]} is not a _bucket series.",
                              hint=f"Use {names[0]}_bucket.")  # fmt: skip
