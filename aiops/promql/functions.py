"""Functions of instant vectors: mathematics, dates, labels, sorting."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import total_ordering
from typing import Any

import numpy as np

from aiops.core.errors import QueryError
from aiops.core.series import METRIC_NAME, Labels
from aiops.promql.frame import Floats, Frame, label_value, set_labels
from aiops.promql.matching import compile_regex, expand

ELEMENTWISE: dict[str, Callable[[Any], Any]] = {
    "abs": np.abs,
    "ceil": np.ceil,
    "floor": np.floor,
    "exp": np.exp,
    "sqrt": np.sqrt,
    "ln": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "rad": lambda v: v * np.pi / 180,
    "deg": lambda v: v * 180 / np.pi,
    "sgn": lambda v: np.where(v < 0, -1.0, np.where(v > 0, 1.0, v)),
}


def elementwise(name: str, values: Floats) -> Floats:
    with np.errstate(all="ignore"):
        return np.asarray(ELEMENTWISE[name](values), np.float64)


def round_to(values: Floats, nearest: Floats) -> Floats:
    with np.errstate(all="ignore"):
        inverse = 1.0 / nearest
        return np.asarray(np.floor(values * inverse + 0.5) / inverse)


def clamp(frame: Frame, low: Floats | None, high: Floats | None) -> Frame:
    """``clamp``, ``clamp_min``, ``clamp_max``; nothing where the minimum exceeds the maximum."""
    values, ok = frame.values, frame.ok
    # Go's Min and Max let an infinity win over NaN.
    if high is not None:
        values = np.where((high == -np.inf) | (values == -np.inf), -np.inf, np.minimum(high, values))
    if low is not None:
        values = np.where((low == np.inf) | (values == np.inf), np.inf, np.maximum(low, values))
    if low is not None and high is not None:
        ok = ok & ~(high < low)
    return frame.with_values(values, ok).compact()


# ------------------------------------------------------------------ dates, in UTC


def _parts(seconds: Floats) -> tuple[Any, Any, Any, Any]:
    """(days since the epoch, months since the epoch, second of the day, where it is a time at all)."""
    fine = np.isfinite(seconds) & (np.abs(seconds) < 9.2e18)
    whole = np.trunc(np.where(fine, seconds, 0.0)).astype(np.int64)
    days = np.floor_divide(whole, 86400)
    months = days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    return days, months, whole - days * 86400, fine


def date_part(name: str, seconds: Floats) -> Floats:
    """A part of Unix times in seconds; NaN for what is no time."""
    days, months, second, fine = _parts(seconds)
    first_of_month = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    match name:
        case "minute":
            out = second // 60 % 60
        case "hour":
            out = second // 3600
        case "day_of_week":
            out = (days + 4) % 7
        case "day_of_month":
            out = days - first_of_month + 1
        case "day_of_year":
            years = np.floor_divide(months, 12).astype("datetime64[Y]").astype("datetime64[D]").astype(np.int64)
            out = days - years + 1
        case "days_in_month":
            out = (months + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) - first_of_month
        case "month":
            out = months % 12 + 1
        case _:
            out = np.floor_divide(months, 12) + 1970
    return np.where(fine, out.astype(float), np.nan)


DATE_PARTS = ("minute", "hour", "day_of_week", "day_of_month", "day_of_year", "days_in_month", "month", "year")


# ------------------------------------------------------------------ labels


def valid_label(name: str) -> bool:
    """UTF-8 names are allowed; empty ones and broken UTF-8 are not."""
    return name != "" and not any(0xD800 <= ord(c) <= 0xDFFF for c in name)


def label_replace(frame: Frame, dst: str, replacement: str, src: str, pattern: str) -> Frame:
    try:
        regex = compile_regex(pattern)
    except ValueError:
        raise QueryError(f"invalid regular expression in label_replace(): {pattern}", kind="execution") from None
    if not valid_label(dst):
        raise QueryError(f"invalid destination label name in label_replace(): {dst}", kind="execution")
    labels: list[Labels] = []
    drop = frame.drop.copy()
    done: dict[str, str | None] = {}
    for row, own in enumerate(frame.labels):
        value = label_value(own, src)
        if value not in done:
            match = regex.fullmatch(value)
            done[value] = None if match is None else expand(replacement, match)
        new = done[value]
        if new is None:
            labels.append(own)
            continue
        labels.append(set_labels(own, [(dst, new)]))
        if dst == METRIC_NAME:
            drop[row] = False
    return Frame(labels, frame.values, frame.ok, drop, frame.ordered).merged()


def label_join(frame: Frame, dst: str, separator: str, sources: Sequence[str]) -> Frame:
    for name in sources:
        if not valid_label(name):
            raise QueryError(f"invalid source label name in label_join(): {name}", kind="execution")
    if not valid_label(dst):
        raise QueryError(f"invalid destination label name in label_join(): {dst}", kind="execution")
    labels = [
        set_labels(own, [(dst, separator.join(label_value(own, name) for name in sources))]) for own in frame.labels
    ]
    drop = np.zeros(len(frame), bool) if dst == METRIC_NAME else frame.drop
    return Frame(labels, frame.values, frame.ok, drop, frame.ordered).merged()


# ------------------------------------------------------------------ order


def sort_values(frame: Frame, *, descending: bool) -> Frame:
    """By value, NaN last both ways; frames of one step only."""
    values = frame.values[:, 0]
    key = -values if descending else values
    order = np.lexsort((np.where(np.isnan(key), np.inf, key), np.isnan(key)))
    out = frame.take(order)
    out.ordered = True
    return out


_CHUNKS = re.compile(r"\d+|\D+", re.ASCII)


def _is_number(chunk: str) -> bool:
    return chunk.isascii() and chunk.isdigit() and len(chunk) < 20


@total_ordering
class Natural:
    """A sort key in which ``node10`` follows ``node9``: runs of digits by value, all else by its bytes."""

    __slots__ = ("chunks",)

    def __init__(self, text: str) -> None:
        self.chunks = _CHUNKS.findall(text) or [""]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Natural) and self.chunks == other.chunks

    def __lt__(self, other: Natural) -> bool:
        for mine, theirs in zip(self.chunks, other.chunks, strict=False):
            if _is_number(mine) and _is_number(theirs):
                if int(mine) != int(theirs):
                    return int(mine) < int(theirs)
            elif mine != theirs:
                return bool(mine < theirs)
        return len(self.chunks) < len(other.chunks)


def sort_by_label(frame: Frame, names: Sequence[str], *, descending: bool) -> Frame:
    order = sorted(
        range(len(frame)),
        key=lambda i: ([Natural(label_value(frame.labels[i], n)) for n in names], frame.labels[i]),
        reverse=descending,
    )
    out = frame.take(np.array(order, np.int64))
    out.ordered = True
    return out
