"""Service-level objectives as rules: recorded error and total rates, and multi-window burn-rate alerts.

Method: Google's SRE Workbook, chapter 5, «Multiwindow, Multi-Burn-Rate Alerts»: a page where 2 % of the period's
budget goes in an hour or 5 % in six, a ticket where 10 % goes in a day or in three, each confirmed by a window a
twelfth as long, so that an alert ends soon after the errors do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from aiops.core.errors import ConfigError, QueryError
from aiops.promql.parse import parse
from aiops.rules.files import Group
from aiops.settings import SloSettings

ERRORS, TOTAL = "slo:errors:rate5m", "slo:total:rate5m"
ALERT = "SloBurn"
HOUR_S = 3600


@dataclass(frozen=True, slots=True)
class Burn:
    """An alert where ``share`` of the period's budget would go within ``long``, confirmed over ``short``."""

    severity: str
    share: float
    long_s: int
    short_s: int

    def factor(self, period_s: float) -> float:
        """How many times faster than evenly the budget goes: 14.4 for 2 % of 30 days in an hour."""
        return self.share * period_s / self.long_s


BURNS = (
    Burn("critical", 0.02, HOUR_S, 300),
    Burn("critical", 0.05, 6 * HOUR_S, 1800),
    Burn("warning", 0.10, 24 * HOUR_S, 2 * HOUR_S),
    Burn("warning", 0.10, 72 * HOUR_S, 6 * HOUR_S),
)


def ratio(name: str, window_s: int) -> str:
    """PromQL: the share of events in ``window_s`` that were bad, weighted by how many there were."""
    if window_s <= 300:
        return f'{ERRORS}{{slo="{name}"}} / ({TOTAL}{{slo="{name}"}} > 0)'
    over = f"[{window_s}s]"
    errors, total = (f'sum_over_time({m}{{slo="{name}"}}{over})' for m in (ERRORS, TOTAL))
    return f"{errors} / ({total} > 0)"


def groups_of(slos: Mapping[str, SloSettings]) -> tuple[Group, ...]:
    """A group of rules for each objective. Raises ``ConfigError`` for a query that cannot be read."""
    return tuple(_group(name, slo) for name, slo in sorted(slos.items()))


def _group(name: str, slo: SloSettings) -> Group:
    labels = {"slo": name, **({"service": slo.service} if slo.service else {})}
    rules = [
        {"record": ERRORS, "expr": _summed(name, "errors", slo.errors), "labels": labels},
        {"record": TOTAL, "expr": _summed(name, "total", slo.total), "labels": labels},
    ]
    for severity in ("critical", "warning"):
        rules.append(
            {
                "alert": ALERT,
                "expr": " or ".join(_burning(name, slo, b) for b in BURNS if b.severity == severity),
                "labels": {**labels, "severity": severity},
                "annotations": {
                    "summary": f'{name}: the error budget goes {{{{ $value | printf "%.1f" }}}} times too fast',
                    "description": f"Objective {slo.objective:.10g} over {slo.period_days:g} days.",
                },
            }
        )
    try:
        return Group.model_validate({"name": f"slo:{name}", "interval": "1m", "rules": rules})
    except ValidationError as error:
        said = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise ConfigError(f"slos.{name}: {said}.") from error


def _summed(name: str, part: str, query: str) -> str:
    text = query.replace("$window", "5m")
    try:
        parse(text)
    except QueryError as error:
        raise ConfigError(f"slos.{name}.{part}: {error.message}", hint="Write rates over [$window].") from error
    return f"sum({text}) or vector(0)" if part == "errors" else f"sum({text})"


def _burning(name: str, slo: SloSettings, burn: Burn) -> str:
    budget, factor = 1 - slo.objective, burn.factor(slo.period_days * 86_400)
    long, short = (f"({ratio(name, w)}) / {budget:.12g} > {factor:.6g}" for w in (burn.long_s, burn.short_s))
    return f"({long} and {short})"
