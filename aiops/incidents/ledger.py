"""The ledger of false alarms: the day's budget over everything that is watched, and what has been spent of it.

``incidents.false_alarms_per_day`` is an expected count. All series of all groups share it equally, by the length of
their steps. As in alpha investing, the ledger earns the budget as time goes by and pays for every alarm; in debt it
spends less, so that the budget is kept over the week also where the scores of quiet series have other tails than was
thought. Alarms that begin together are most likely one fault, which is true, and cost one; an alarm that a person has
marked as true is paid back. Thresholds rise with the logarithm of what may be spent, so that debt does not make deaf.

Source: Foster and Stine (2008), alpha investing.
"""

from __future__ import annotations

from collections.abc import Iterable

DAY_MS = 86_400_000
WINDOW_MS = 7 * DAY_MS
TOGETHER_MS = 600_000
SPENT_BY_PLAN = 0.25
"""Share of the budget that thresholds are set by; the rest is for what the tails of quiet scores did not foretell."""
DEBT = 4.0
"""A day's budget of debt, at least one alarm, divides the rate by this."""
LEAST_FACTOR = 0.01


class Ledger:
    """Not thread-safe.

    Args:
        per_day: accepted false episodes a day over all series.
        since_ms: when counting began.
        spent: times of earlier alarms, ms.
    """

    def __init__(self, per_day: float, since_ms: int, spent: Iterable[int] = ()) -> None:
        self.per_day = per_day
        self.since_ms = since_ms
        self._times = sorted(spent)
        self._together_ms = min(TOGETHER_MS, round(DAY_MS / (10 * max(per_day, 1e-9))))
        self._last_ms = self._times[-1] if self._times else since_ms - TOGETHER_MS - 1

    @property
    def times(self) -> tuple[int, ...]:
        return tuple(self._times)

    def record(self, now_ms: int, opened: int) -> None:
        """Alarms that began at this step."""
        if not opened:
            return
        if now_ms - self._last_ms > self._together_ms:
            self._times.append(now_ms)
            self._times = [t for t in self._times if t > now_ms - WINDOW_MS]
        self._last_ms = now_ms

    def forgive(self, time_ms: int) -> None:
        """The alarm that began then was true."""
        near = [t for t in self._times if t <= time_ms]
        if near and time_ms - near[-1] <= TOGETHER_MS:
            self._times.remove(near[-1])

    def spent(self, now_ms: int) -> tuple[int, float]:
        """Alarms in the last week, or since counting began, and the days that this is."""
        count = sum(1 for t in self._times if t > now_ms - WINDOW_MS)
        return count, min(max(now_ms - self.since_ms, 0), WINDOW_MS) / DAY_MS

    def factor(self, now_ms: int) -> float:
        """Share of the budget that may be spent now: 1 unless more has been spent than was earned."""
        count, days = self.spent(now_ms)
        unit = max(self.per_day, 1.0)
        balance = self.per_day * days + unit - count
        return 1.0 if balance >= 0 else max(float(DEBT ** (balance / unit)), LEAST_FACTOR)

    def rate(self, step_ms: int, series: int, now_ms: int) -> float:
        """Accepted false episodes a step for each of ``series`` series."""
        planned = SPENT_BY_PLAN * self.per_day * self.factor(now_ms)
        return planned * step_ms / DAY_MS / max(series, 1)
