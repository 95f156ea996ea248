"""Exemplars and native histograms in an export: their parts, rows and import."""

from __future__ import annotations

from typing import Any

import numpy as np

from aiops.core.ports import Collected
from aiops.core.principal import Principal
from aiops.core.series import Exemplar, NativeHistogram
from aiops.store.telemetry.exemplars import Exemplars
from aiops.store.telemetry.signals import dump_labels, load_labels

EXTRAS = ("exemplars", "histograms")
EVERY = 1 << 40
"""A window of two hours is read whole."""


def rows_of(held: Exemplars, kind: str, start_ms: int, end_ms: int, principal: Principal) -> list[tuple[Any, ...]]:
    """Rows with ``start_ms <= time < end_ms`` in the order of their columns, oldest first."""
    window = (), start_ms, end_ms - 1, principal, EVERY
    if kind == "exemplars":
        return [
            (dump_labels(e.series), e.ts, dump_labels(e.labels), e.value, int(np.float64(e.value).view(np.int64)))
            for e in held.read(*window)
        ]
    return [(dump_labels(h.series), h.ts, h.payload.hex()) for h in held.read_histograms(*window)]


def collected(kind: str, rows: list[tuple[Any, ...]]) -> Collected:
    """What rows of an export hold. Raises ``ValueError`` for what is none."""
    if kind == "exemplars":
        return Collected(
            exemplars=tuple(
                Exemplar(load_labels(series), load_labels(labels), float(np.int64(bits).view(np.float64)), ts)
                for series, ts, labels, _, bits in rows
            )
        )
    return Collected(
        histograms=tuple(NativeHistogram(load_labels(series), ts, bytes.fromhex(text)) for series, ts, text in rows)
    )
