"""Limits that one request sets for its own queries."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from aiops.core.ports import MetricQuerier


@runtime_checkable
class Limitable(Protocol):
    """A querier that takes another lookback and a shorter time-out for some queries."""

    def limited(
        self, *, lookback_ms: int = 0, timeout_s: float = 0.0, afresh: bool = False, histograms: bool = False
    ) -> MetricQuerier:
        """The same querier with these limits; 0 keeps what is set. A time-out never gets longer than what is set.

        ``afresh`` makes no use of earlier answers. ``histograms`` says that the caller reads native histograms of an
        answer; otherwise an expression that gives some is refused.
        """
        ...
