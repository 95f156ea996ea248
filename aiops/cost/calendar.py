"""Day arithmetic on days since 1970-01-01 UTC, and the weekday baseline that forecast and anomalies share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DAY_MS = 86_400_000
MIN_WEEKS = 3
"""Same weekdays needed before anything is said of a day."""

Days = NDArray[np.int64]
Money = NDArray[np.float64]


def day_of(time_ms: int) -> int:
    """The day that a time lies in."""
    return time_ms // DAY_MS


def month_start(day: int) -> int:
    """First day of the month of ``day``."""
    return int(np.datetime64(day, "D").astype("datetime64[M]").astype("datetime64[D]").astype(np.int64))


def month_end(day: int) -> int:
    """First day of the next month."""
    month = np.datetime64(day, "D").astype("datetime64[M]") + np.timedelta64(1, "M")
    return int(month.astype("datetime64[D]").astype(np.int64))


def month_text(day: int) -> str:
    """``2026-11``."""
    return str(np.datetime64(day, "D").astype("datetime64[M]"))


def day_text(day: int) -> str:
    """``2026-11-24``."""
    return str(np.datetime64(day, "D"))


def day_of_month(days: Days) -> Days:
    """1 to 31 for each day."""
    dates = days.astype("datetime64[D]")
    return np.asarray((dates - dates.astype("datetime64[M]").astype("datetime64[D]")).astype(np.int64) + 1)


def days_to_month_end(days: Days) -> Days:
    """0 on the last day of a month."""
    dates = days.astype("datetime64[D]")
    following = (dates.astype("datetime64[M]") + np.timedelta64(1, "M")).astype("datetime64[D]")
    return np.asarray((following - dates).astype(np.int64) - 1)


def same_weekday_past(amounts: Money, weeks: int = 8) -> tuple[Money, Money]:
    """Median and median absolute deviation of the same weekday in the ``weeks`` before each day.

    Args:
        amounts: [..., D], one value per consecutive day; NaN where unknown.

    Returns:
        Two arrays like ``amounts``, NaN where fewer than ``MIN_WEEKS`` values are known.
    """
    lags = np.full((weeks, *amounts.shape), np.nan)
    for k in range(1, weeks + 1):
        if 7 * k < amounts.shape[-1]:
            lags[k - 1, ..., 7 * k :] = amounts[..., : -7 * k]
    return _median_and_mad(lags)


def _median_and_mad(lags: Money) -> tuple[Money, Money]:
    enough = np.isfinite(lags).sum(axis=0) >= MIN_WEEKS
    filled = np.where(enough, lags, 0.0)
    median = np.nanmedian(filled, axis=0)
    mad = np.nanmedian(np.abs(filled - median), axis=0)
    return np.where(enough, median, np.nan), np.where(enough, mad, np.nan)
