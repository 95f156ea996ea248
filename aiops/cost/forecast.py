"""Month-end cost: several simple models race on the series' own past, the best one forecasts.

The interval is what that model's relative errors were at the same distance, or the longest that the history allows,
so it is as wide as the series is hard. With less than five weeks of history a run rate is used and its interval
comes from daily scatter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from aiops.cost.calendar import Days, Money, day_of_month, days_to_month_end, same_weekday_past

MIN_HISTORY = 28
ORIGINS = 60
"""Past days that the race forecasts from."""
COVERAGE = 0.9


@dataclass(frozen=True, slots=True)
class Estimate:
    """The sum over the days asked for, with the 90 % interval and the model's name."""

    total: float
    lower: float
    upper: float
    method: str


class _Past:
    """A history with what every model needs of it, computed once; a prefix of it is all that a model may see."""

    def __init__(self, days: Days, amounts: Money) -> None:
        self.amounts = amounts
        self.first = int(days[0])
        expected, mad = same_weekday_past(amounts)
        self._residual = amounts - expected
        with np.errstate(invalid="ignore"):
            self._notable = np.abs(self._residual) > np.maximum(4 * mad, 0.12 * np.abs(expected))
        self._known = np.isfinite(self._residual)
        self._terms: dict[tuple[int, int], Money] = {}

    def calendar_terms(self, seen: int, horizon: int) -> Money:
        """What the same day of the last months stood out by, where it always did; by date or from the month's end."""
        if (seen, horizon) not in self._terms:
            every = self.first + np.arange(seen + horizon, dtype=np.int64)
            terms = np.zeros(horizon)
            for key in (day_of_month(every), days_to_month_end(every)):
                for i in np.flatnonzero(terms == 0):
                    same = np.flatnonzero((key[:seen] == key[seen + i]) & self._known[:seen])[-3:]
                    then = self._residual[same]
                    if len(same) and self._notable[same].all() and (np.all(then > 0) or np.all(then < 0)):
                        terms[i] = float(np.median(then))
            self._terms[seen, horizon] = terms
        return self._terms[seen, horizon]


Model = Callable[[_Past, int, int], Money]
"""(past, days of it that are seen, horizon) to the cost of each day ahead."""


def _run_rate(past: _Past, seen: int, horizon: int) -> Money:
    """Mean of the last four weeks (fewer where there are fewer)."""
    return np.full(horizon, max(float(past.amounts[max(0, seen - 28) : seen].mean()), 0.0))


def _weekday(weeks: int, level_days: int, calendar: bool) -> Model:
    def forecast(past: _Past, seen: int, horizon: int) -> Money:
        use = past.amounts[max(0, seen - 7 * weeks) : seen]
        phase = (np.arange(len(use)) - len(use)) % 7
        by_phase = np.array([np.median(use[phase == p]) if (phase == p).any() else 0.0 for p in range(7)])
        out = by_phase[np.arange(horizon) % 7]
        if level_days:
            base = by_phase[phase[-level_days:]]
            recent = use[-level_days:]
            ratios = recent[base > 0] / base[base > 0]
            if len(ratios):
                out = out * float(np.clip(np.median(ratios), 0.2, 5.0))
        if calendar:
            out = out + past.calendar_terms(seen, horizon)
        return np.asarray(np.maximum(out, 0.0), np.float64)

    return forecast


_four_weeks = _weekday(4, 0, calendar=True)


def _trend(past: _Past, seen: int, horizon: int) -> Money:
    """Weekday medians with the slope of the last weeks' levels, damped."""
    flat = _four_weeks(past, seen, horizon)
    weeks = min(seen // 7, 8)
    if weeks < 4:
        return flat
    level = np.median(past.amounts[seen - 7 * weeks : seen].reshape(weeks, 7), axis=1)
    if level.min() <= 0:
        return flat
    y = np.log(level)
    i, j = np.triu_indices(weeks, 1)
    slope = float(np.median((y[j] - y[i]) / (j - i))) / 7
    # The medians of four weeks stand at their middle, a fortnight back.
    ahead = 14 + np.cumsum(0.98 ** np.arange(horizon))
    return flat * np.exp(np.clip(slope * ahead, -1.0, 1.0))


MODELS: dict[str, Model] = {
    "run rate": _run_rate,
    "weekday medians": _weekday(8, 0, calendar=False),
    "weekday medians, calendar days": _weekday(8, 0, calendar=True),
    "weekday medians of four weeks, calendar days": _four_weeks,
    "weekday medians at the last week's level, calendar days": _weekday(8, 7, calendar=True),
    "weekday medians at the last fortnight's level, calendar days": _weekday(8, 14, calendar=True),
    "weekday medians with trend, calendar days": _trend,
}


def estimate(days: Days, amounts: Money, horizon: int) -> Estimate:
    """The cost of the ``horizon`` days after the last of ``days``.

    Args:
        days: [D] consecutive days since the epoch, complete; may be empty.
        amounts: [D] daily cost.
    """
    if horizon <= 0:
        return Estimate(0.0, 0.0, 0.0, "complete month")
    started = np.flatnonzero(amounts > 0)
    if len(started):
        days, amounts = days[started[0] :], amounts[started[0] :]
    if len(amounts) < MIN_HISTORY or not len(started):
        return _by_scatter(amounts, horizon)
    tried = min(horizon, max(7, (len(amounts) - MIN_HISTORY) // 2))
    first = max(MIN_HISTORY, len(amounts) - tried - 2 * ORIGINS)
    origins = np.unique(np.linspace(first, len(amounts) - tried, ORIGINS).astype(int))
    origins = origins[(origins >= MIN_HISTORY) & (origins + tried <= len(amounts))]
    if len(origins) < 5:
        return _by_scatter(amounts, horizon)
    past = _Past(days, amounts)
    actual = np.array([amounts[o : o + tried].sum() for o in origins])
    # Relative to nearly nothing every error is endless.
    least = max(0.05 * float(np.abs(actual).mean()), 1e-9)
    best, best_name, best_errors = np.inf, "", np.empty(0)
    for name, model in MODELS.items():
        guessed = np.array([model(past, int(o), tried).sum() for o in origins])
        errors = (actual - guessed) / np.maximum(guessed, least)
        loss = float(np.mean(np.abs(actual - guessed)))
        if loss < best * 0.98:
            best, best_name, best_errors = loss, name, errors
    total = float(MODELS[best_name](past, len(amounts), horizon).sum())
    low, high = _interval(best_errors, len(amounts) - int(origins[0]), tried)
    # Errors measured over a shorter stretch than is asked for grow with the distance.
    further = float(np.sqrt(horizon / tried))
    return Estimate(total, max(0.0, total * (1 + low * further)), total * (1 + high * further), best_name)


def _interval(errors: Money, past: int, horizon: int) -> tuple[float, float]:
    """Error quantiles, widened for how few non-overlapping stretches they come from."""
    tail = (1 - COVERAGE) / 2
    low, high = np.quantile(errors, [tail, 1 - tail])
    independent = max(past / horizon, 1.0)
    widen = 1 + 1 / independent
    below, above = max(-float(low), 0.0) * widen, max(float(high), 0.0) * widen
    # A method that only ever erred one way may yet err the other.
    return -max(below, above / 2), max(above, below / 2)


def _by_scatter(amounts: Money, horizon: int) -> Estimate:
    n = len(amounts)
    total = max(float(amounts[-28:].mean()), 0.0) * horizon if n else 0.0
    if n < 2:
        return Estimate(total, 0.0, 2 * total, "run rate (under two days of history)")
    # Days are correlated: treat a week as the independent unit, and the mean as known from n days.
    deviation = float(amounts[-28:].std(ddof=1))
    half = 1.96 * deviation * np.sqrt(horizon * 2 + horizon**2 * 2 / n)
    return Estimate(total, max(0.0, total - half), total + half, "run rate (short history)")
