"""The cost report: totals, services and accounts against the period before, forecast, budgets, unusual days."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np

from aiops.core.cost import BudgetState, CostComparison, CostForecast, CostSeries
from aiops.core.ports import Clock, system_clock
from aiops.core.principal import Principal
from aiops.cost.budgets import NO_COSTS, describe
from aiops.cost.service import CostService
from aiops.reports import render, terminal
from aiops.reports.axes import window_text
from aiops.reports.bars import stacked_png
from aiops.reports.units import humanise

DAY_MS = 86_400_000
WINDOW_DAYS = 30
ROWS = 15
_COLUMNS = (("ServiceName", "By service", "Service"), ("SubAccountName", "By sub-account", "Sub-account"))


@dataclass(frozen=True, slots=True)
class Picture:
    name: str
    alt: str
    png: bytes


@dataclass(frozen=True, slots=True)
class Report:
    """A finished report. ``html`` stands alone: its pictures are data URIs of ``pictures``."""

    kind: str
    title: str
    html: str
    text: str
    pictures: tuple[Picture, ...]
    created_ms: int
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class Card:
    name: str
    figure: str
    note: str


@dataclass(frozen=True, slots=True)
class Row:
    """``part`` is the share of the whole; ``change`` relative, ``None`` where nothing was spent before."""

    name: str
    amount: float
    part: float
    before: float
    change: float | None


@dataclass(frozen=True, slots=True)
class Table:
    name: str
    column: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """What there is to say in one currency."""

    currency: str
    total: float
    cards: tuple[Card, ...]
    pictures: tuple[Picture, ...]
    tables: tuple[Table, ...]
    anomalies: tuple[str, ...]
    before_name: str
    chart: str


class CostReport:
    """Builds reports from a :class:`CostService`; every figure is within the principal's scope."""

    def __init__(self, cost: CostService, clock: Clock = system_clock) -> None:
        self._cost = cost
        self._clock = clock

    def build(
        self,
        principal: Principal,
        *,
        start_ms: int | None = None,
        end_ms: int | None = None,
        zone: str = "UTC",
        title: str = "Cost report",
    ) -> Report:
        """Without a window, the 30 days up to the end of the day that is newest in the bills.

        ``zone`` is for the times shown; days of cost are UTC, as bills have them.
        """
        now = self._clock()
        end = (now // DAY_MS + 1) * DAY_MS if end_ms is None else end_ms
        start = end - (WINDOW_DAYS + 1) * DAY_MS if start_ms is None else start_ms
        where = ZoneInfo(zone)
        notes: list[str] = []
        parts = [
            part
            for currency in self._cost.currencies(principal) or ("",)
            if (part := self._part(principal, start, end, currency, notes)) is not None
        ]
        simulated = bool(parts) and self._simulated(principal, start, end, parts[0].currency)
        if simulated:
            notes.insert(0, "These costs are simulated.")
        budgets = self._cost.budgets(principal, now)
        for state in budgets:
            if state.state == "unknown":
                notes.append(f"Budget '{state.budget.name}': no costs in {state.budget.currency} match it.")
        window = window_text(start, end, ZoneInfo("UTC"))
        moment = datetime.fromtimestamp(now / 1000, where)
        written = f"{moment.day} {moment:%b %Y %H:%M} {zone}"
        values = {"title": title, "window": window, "written": written, "parts": parts, "budgets": budgets}
        html = render.html("cost.html.j2", **values, notes=notes, simulated=simulated)
        text = _text(title, window, written, parts, budgets, notes, simulated=simulated)
        return Report("cost", title, html, text, tuple(p for x in parts for p in x.pictures), now, simulated)

    def _part(self, principal: Principal, start: int, end: int, currency: str, notes: list[str]) -> Part | None:
        where = (("BillingCurrency", currency),) if currency else ()
        daily = self._cost.summary(start, end, ("ServiceName",), principal, where)
        if not daily.groups:
            return None
        currency = daily.currency
        compared = [(self._cost.compare(start, end, (c,), principal, where), n, w) for c, n, w in _COLUMNS]
        by_service = compared[0][0]
        week = self._cost.compare(max(start, by_service.end_ms - 7 * DAY_MS), by_service.end_ms, (), principal, where)
        forecast = self._cost.forecast(principal, where=where)
        simulated = self._simulated(principal, start, end, currency)
        title = f"Cost by service and day, {currency}"
        subtitle = f"{window_text(start, end, ZoneInfo('UTC'))}, EffectiveCost"
        png = stacked_png(daily, title=title, subtitle=subtitle, simulated=simulated)
        tables = tuple(Table(n, w, _rows(c)) for c, n, w in compared if any(any(m.group) for m in c.movers))
        notes.extend(_completeness(daily, by_service, forecast, currency))
        return Part(
            currency,
            float(daily.amounts.sum()),
            (_spent(by_service), _spent(week), *_expected(forecast)),
            (Picture(f"cost-{currency.lower() or 'all'}.png", f"{title}; {subtitle}", png),),
            tables,
            tuple(describe(a) for a in self._cost.anomalies(start, end, principal, where=where)),
            f"{_days(by_service)} before",
            terminal.cost(daily, title=title),
        )

    def _simulated(self, principal: Principal, start: int, end: int, currency: str) -> bool:
        """Some of the costs carry our ``x_simulated`` mark."""
        where = (("BillingCurrency", currency), ("x_simulated", "true"))
        return bool(self._cost.summary(start, end, (), principal, where).groups)


def _spent(compared: CostComparison) -> Card:
    change = compared.change_share
    against = "nothing before to compare with" if change is None else f"{render.share(change)} on the days before"
    return Card(f"Last {_days(compared)}", humanise(compared.amount, compared.currency), against)


def _expected(forecast: CostForecast) -> tuple[Card, ...]:
    if forecast.method == NO_COSTS:
        return ()
    money = forecast.currency
    span = f"{humanise(forecast.lower, money)} to {humanise(forecast.upper, money)}"
    return (
        Card("Month so far", humanise(forecast.spent, money), f"since {render.day(forecast.month_start_ms)}"),
        Card("Expected at month end", humanise(forecast.expected, money), f"90 % interval {span}"),
    )


def _days(compared: CostComparison) -> str:
    count = (compared.end_ms - compared.start_ms) // DAY_MS
    return _count(count, "complete day")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _rows(compared: CostComparison) -> tuple[Row, ...]:
    movers = sorted(compared.movers, key=lambda m: -m.amount)
    shown, rest = movers[:ROWS], movers[ROWS:]
    rows = [("  /  ".join(g for g in m.group if g) or "(not given)", m.amount, m.before) for m in shown]
    if rest:
        rows.append((f"{len(rest)} others", sum(m.amount for m in rest), sum(m.before for m in rest)))
    total = compared.amount or 1.0
    return tuple(Row(n, a, a / total, b, a / b - 1 if b > 0 else None) for n, a, b in rows)


def _completeness(
    daily: CostSeries, compared: CostComparison, forecast: CostForecast, currency: str
) -> list[str]:  # fmt: skip
    notes = []
    newest = datetime.fromtimestamp(daily.newest_ms / 1000, ZoneInfo("UTC"))
    late = int(((daily.days + DAY_MS) > daily.newest_ms).sum())
    known = f"Bills in {currency} reach to {newest.day} {newest:%b %Y %H:%M} UTC"
    notes.append(
        f"{known}; {_count(late, 'day')} of the window not complete yet." if late else f"{known}; all complete."
    )
    total = daily.amounts.sum(axis=0)
    empty = [int(d) for d, v in zip(daily.days, total, strict=True) if v == 0 and d + DAY_MS <= daily.newest_ms]
    if empty:
        first = ", ".join(render.day(d) for d in empty[:3])
        notes.append(
            f"No costs at all on {_count(len(empty), 'complete day')} ({first}{', …' if len(empty) > 3 else ''})."
        )
    if not compared.before:
        notes.append("Nothing is stored for the period before, so changes say nothing.")
    if forecast.method != NO_COSTS:
        basis = "daily scatter" if forecast.method.startswith("run rate (") else "what this method erred by in the past"
        notes.append(f"Forecast in {currency}: {forecast.method}; the interval comes from {basis}.")
    if np.any(daily.amounts < 0):
        notes.append("Credits and refunds are included as negative costs; the chart shows them as zero.")
    return notes


def _text(
    title: str,
    window: str,
    written: str,
    parts: list[Part],
    budgets: list[BudgetState],
    notes: list[str],
    *,
    simulated: bool,
) -> str:
    lines = [title + ("  (SIMULATED)" if simulated else ""), f"{window}; EffectiveCost, UTC days; written {written}"]
    if not parts:
        lines += ["", "No costs are stored for this window. Import FOCUS files, or widen the window."]
    for part in parts:
        lines += ["", *(f"{c.name}: {c.figure} ({c.note})" for c in part.cards), "", part.chart]
        for table in part.tables:
            lines += ["", f"{table.name} (against the {part.before_name}):"]
            lines += [f"  {terminal.plain(r.name, 40):<40} {humanise(r.amount, part.currency):>16}"
                      f"  {r.part:>5.1%}  {render.share(r.change):>9}" for r in table.rows]  # fmt: skip
        lines += ["", "Unusual costs:", *(f"  - {terminal.plain(a, 400)}" for a in part.anomalies or ("none",))]
    if budgets:
        lines += ["", "Budgets this month:"]
        for b in budgets:
            money, f = b.budget.currency, b.forecast
            if b.state == "unknown":
                lines.append(f"  - {terminal.plain(b.budget.name)}: unknown, no costs in {money} match it")
                continue
            lines.append(
                f"  - {terminal.plain(b.budget.name)}: {b.state.replace('_', ' ')}; {humanise(f.spent, money)} of "
                f"{humanise(b.budget.amount, money)} spent, {humanise(f.expected, money)} expected "
                f"({humanise(f.lower, money)} to {humanise(f.upper, money)})"
            )
    if notes:
        lines += ["", "About these figures:", *(f"  - {terminal.plain(n, 400)}" for n in notes)]
    return "\n".join(lines) + "\n"
