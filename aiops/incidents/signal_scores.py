"""What spans, logs and changes say of each service."""

from __future__ import annotations

import numpy as np

from aiops.incidents.metric_scores import CAP, ONSET_GUARD, SPREAD_FLOOR
from aiops.incidents.ranking_case import Array, Case, ChangeRow, Frame, LogRow, SpanRow

WIRE_WEIGHT = 1.2
EARLY = 0.7
FELT_MS = 0.5
"""Smallest spread of a duration that counts, in ms."""
FENCE, SPREAD = 1.5, 2.44
"""In interquartile ranges: the fence, which the normal distribution passes once in 143, and its 5 to 95 % range."""
ALIKE = 1.25
"""A caller's own time that rose by no more than this many times what a call of its waited longer is that wait."""


def score_spans(frame: Frame) -> tuple[Array, Array, dict[int, str]]:
    """Score per service, how much of its latency as a caller is time on the wire, and words for it."""
    n = len(frame.services)
    own, wire, lost = np.zeros(n), np.zeros(n), np.zeros(n)
    words: dict[int, tuple[float, str]] = {}
    pair_wire: dict[tuple[int, int], float] = {}
    pair_usual: dict[tuple[int, int], tuple[float, float]] = {}
    drops: dict[int, float] = {}
    split, told = _span_split(frame.case)
    if not 3 <= split < len(frame.case.span_times):
        return own, wire, {}
    waited = _waited(frame.case, split, told)
    for row in frame.case.spans:
        callee, caller = frame.at(row.service), frame.at(row.caller)
        if callee is None:
            continue
        slow, before, after = _rise(row.own, split, told)
        # A client span's own time is the wire time of its pair, which the callee's row holds.
        if slow > own[callee] and after - before > ALIKE * waited.get(row.service, 0.0):
            own[callee] = slow
            _keep(words, callee, slow, f"own time of {row.operation} {before:.3g} ms to {after:.3g} ms")
        fallen = _drop(row, split, told)
        if caller is not None and caller != callee:
            drops[callee] = max(drops.get(callee, 0.0), fallen)
            slow, before, after = _rise(row.wire, split, told)
            if slow >= pair_wire.get((caller, callee), -1.0):
                pair_wire[caller, callee], pair_usual[caller, callee] = slow, (before, after)
    for row in frame.case.spans:
        caller = frame.at(row.caller)
        if caller is None:
            continue
        missing = _drop(row, split, told) * (1.0 - drops.get(caller, 0.0)) * 2.0
        if missing > lost[caller]:
            lost[caller] = missing
            what = f"{row.service} {row.operation}".strip()
            _keep(words, caller, missing, f"it calls {what} much less than before")
    mass = sum(pair_wire.values())
    for service in range(n):
        mine = {p: v for p, v in pair_wire.items() if service in p}
        if mine and mass > 0:
            held = sum(mine.values())
            ways = [[v for p, v in mine.items() if p[end] == service] for end in (0, 1)]
            one_way = max(sum(way) / len(way) for way in ways if way)
            wire[service] = 0.5 * (held / len(mine) + one_way) * (0.4 + 0.6 * held / mass)
            pair = max(mine, key=lambda p: mine[p])
            before, after = pair_usual[pair]
            names = " to ".join(frame.services[i] for i in pair)
            _keep(words, service, WIRE_WEIGHT * wire[service], f"wire time {names} {before:.3g} ms to {after:.3g} ms")
    waiting = np.zeros(n)
    for (caller, callee), slow in pair_wire.items():
        if wire[callee] >= wire[caller]:
            waiting[caller] = max(waiting[caller], slow)
    return own + WIRE_WEIGHT * wire + lost, waiting, {s: text for s, (score, text) in words.items() if score > 0.3}


def _waited(case: Case, split: int, told: int) -> dict[str, float]:
    """By how many ms the slowest way from each caller to another service became slower."""
    waited: dict[str, float] = {}
    for row in case.spans:
        if row.caller != row.service:
            slow, before, after = _rise(row.wire, split, told)
            if slow:
                waited[row.caller] = max(waited.get(row.caller, 0.0), after - before)
    return waited


def _keep(words: dict[int, tuple[float, str]], service: int, score: float, text: str) -> None:
    if score > words.get(service, (0.0, ""))[0]:
        words[service] = (score, text)


def _rise(values: Array, before: int, told: int) -> tuple[float, float, float]:
    """(score, usual, now) of a duration row.

    The history is short and may hold an older fault, so what is usual is told from its quartiles alone
    (Tukey's fence, Exploratory Data Analysis, 1977).
    """
    past, now = values[:before], values[before:]
    seen = int(np.isfinite(values[told:]).sum())
    past, now = past[np.isfinite(past)], now[np.isfinite(now)]
    if len(past) < 3 or not len(now):
        return 0.0, float("nan"), float("nan")
    low, median, upper = (float(q) for q in np.quantile(past, [0.25, 0.5, 0.75]))
    high = upper + FENCE * (upper - low)
    spread = max(SPREAD * (upper - low), SPREAD_FLOOR * median, FELT_MS)
    excess = np.sort(np.maximum(now - high, 0.0) / spread)[::-1]
    # Of many intervals a single one proves little; of one or two it is all there is.
    single = 0.1 if seen > 3 else 0.35
    sustained = single * excess[0] + (1 - single) * excess[1] if len(excess) > 1 else 0.7 * excess[0]
    return float(np.log1p(min(sustained, CAP))), median, float(now.max())


def _span_split(case: Case) -> tuple[int, int]:
    """The first interval that may be faulty, a little before the told onset, which may be late; and the onset's own.

    An interval is known by its start, which may lie before the row that it belongs to, but after the row before.
    """
    if not len(case.timestamps):
        return 0, 0
    onset = min(case.onset, len(case.timestamps) - 1)
    first = np.searchsorted(case.span_times, case.timestamps[max(0, onset - ONSET_GUARD)], side="left")
    told = np.searchsorted(case.span_times, case.timestamps[max(0, onset - 1)], side="right")
    return int(first), int(told)


def _drop(row: SpanRow, split: int, told: int) -> float:
    """Share of a steady operation's calls that went missing, 0 to 1.

    Since the told onset one interval without them is enough; a fall before it must last, and counts for less.
    """
    past = np.nan_to_num(row.count[:split])
    usual = float(np.quantile(past, 0.1)) if len(past) else 0.0
    if usual < 3 or (past > 0).mean() < 0.9:
        return 0.0
    found = 0.0
    for k in range(split, told + 1):
        seen = row.count[k:][np.isfinite(row.count[k:])]
        if len(seen):
            missing = 1.0 - float(seen.max() if k < told else seen.min()) / usual
            found = max(found, missing * (EARLY if k < told else 1.0) if missing > 0.5 else 0.0)
    return found


def score_logs(frame: Frame) -> tuple[Array, dict[int, LogRow]]:
    score = np.zeros(len(frame.services))
    best: dict[int, LogRow] = {}
    for row in frame.case.logs:
        service = frame.at(row.service)
        if service is None:
            continue
        value = 0.0
        if row.after > 3.0 * row.before + 1e-9 and row.after > 0:
            value = float(np.log1p(min(row.after - row.before, CAP))) * (1.0 if row.before == 0 else 0.5)
            value *= 3.0 if row.is_error else 1.0
        elif row.steady and row.before >= 3 and row.after == 0:
            value = float(np.log1p(min(row.before, CAP)))
        if value > score[service]:
            score[service], best[service] = value, row
    return np.minimum(score, 2.0 * np.log1p(CAP)), best


def changes_near(frame: Frame, onset: int) -> dict[str, ChangeRow]:
    """The last change of each service from 30 min before the onset to 2 min after it."""
    case = frame.case
    at = case.onset_ms
    if at is None:
        at = int(case.timestamps[min(onset, len(case.timestamps) - 1)]) if len(case.timestamps) else 0
    near: dict[str, ChangeRow] = {}
    for change in sorted(case.changes, key=lambda c: c.time_ms):
        if at - 1_800_000 <= change.time_ms <= at + 120_000:
            near[frame.alias.get(change.service, change.service)] = change
    return near
