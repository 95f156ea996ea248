"""Binary operators between scalars and vectors, with all matching modifiers."""

from __future__ import annotations

from typing import Any

import numpy as np

from aiops.core.errors import QueryError
from aiops.core.series import METRIC_NAME, Labels
from aiops.promql.frame import SAME_LABELS, Bools, Floats, Frame, set_labels
from aiops.promql.plan import Matching, label_text, quote

COMPARISONS = frozenset({"==", "!=", "<", ">", "<=", ">="})
SETS = frozenset({"and", "or", "unless"})
ARITHMETIC = frozenset({"+", "-", "*", "/", "%", "^", "atan2"})


def arithmetic(op: str, a: Any, b: Any) -> Floats:
    with np.errstate(all="ignore"):
        match op:
            case "+":
                out = a + b
            case "-":
                out = a - b
            case "*":
                out = a * b
            case "/":
                out = np.divide(a, b)
            case "%":
                out = np.fmod(a, b)
            case "^":
                out = np.power(a, b)
            case _:
                out = np.arctan2(a, b)
    return np.asarray(out, np.float64)


def compare(op: str, a: Any, b: Any) -> Bools:
    match op:
        case "==":
            out = a == b
        case "!=":
            out = a != b
        case "<":
            out = a < b
        case ">":
            out = a > b
        case "<=":
            out = a <= b
        case _:
            out = a >= b
    return np.asarray(out, bool)


def between_scalars(op: str, a: Floats, b: Floats) -> Floats:
    return compare(op, a, b).astype(float) if op in COMPARISONS else arithmetic(op, a, b)


def with_scalar(op: str, frame: Frame, scalar: Floats, *, scalar_left: bool, returns_bool: bool) -> Frame:
    """A vector against a scalar at each step [T]; a filter keeps the vector's values, whichever side it is on."""
    a, b = (scalar, frame.values) if scalar_left else (frame.values, scalar)
    if op not in COMPARISONS:
        return frame.with_values(arithmetic(op, a, b))
    kept = compare(op, a, b)
    if returns_bool:
        return frame.with_values(kept.astype(float))
    return frame.with_values(frame.values, frame.ok & kept, drop_name=False).compact()


def signatures(labels: list[Labels], matching: Matching) -> list[Labels]:
    names = frozenset(matching.labels) if matching.on else frozenset(matching.labels) | {METRIC_NAME}
    return [tuple(p for p in pairs if (p[0] in names) == matching.on) for pairs in labels]


def set_operation(op: str, left: Frame, right: Frame, matching: Matching) -> Frame:
    own, others = signatures(left.labels, matching), signatures(right.labels, matching)
    if op == "or":
        there = _presence(own, left.ok)
        ok = right.ok.copy()
        for row, key in enumerate(others):
            if key in there:
                ok[row] &= ~there[key]
        rest = Frame(right.labels, right.values, ok, right.drop).compact()
        return Frame(
            left.labels + rest.labels,
            np.concatenate([left.values, rest.values]),
            np.concatenate([left.ok, rest.ok]),
            np.concatenate([left.drop, rest.drop]),
        ).merged()
    there = _presence(others, right.ok)
    nothing = np.zeros(left.ok.shape[1], bool)
    ok = left.ok.copy()
    for row, key in enumerate(own):
        found = there.get(key, nothing)
        ok[row] &= found if op == "and" else ~found
    return Frame(left.labels, left.values, ok, left.drop).compact()


def _presence(keys: list[Labels], ok: Bools) -> dict[Labels, Bools]:
    out: dict[Labels, Bools] = {}
    for row, key in enumerate(keys):
        out[key] = out[key] | ok[row] if key in out else ok[row]
    return out


def between_vectors(op: str, left: Frame, right: Frame, matching: Matching, *, returns_bool: bool) -> Frame:
    """Arithmetic or comparison of two vectors. Raises ``QueryError`` at steps where the matching is not unique."""
    steps = left.ok.shape[1]
    swapped = matching.card == "one-to-many"
    many, one = (right, left) if swapped else (left, right)
    fill_many, fill_one = (
        (matching.fill_right, matching.fill_left) if swapped else (matching.fill_left, matching.fill_right)
    )
    filled = fill_many is not None or fill_one is not None
    many_keys, one_keys = signatures(many.labels, matching), signatures(one.labels, matching)
    by_key: dict[Labels, list[int]] = {}
    for row, key in enumerate(one_keys):
        by_key.setdefault(key, []).append(row)
    active: Bools = np.ones(steps, bool) if filled else np.asarray(many.ok.any(axis=0))
    _check_unique(one, by_key, active, "left" if swapped else "right")

    rows_many: list[int] = []
    rows_one: list[int] = []
    for row, key in enumerate(many_keys):
        for other in by_key.get(key, ()):
            rows_many.append(row)
            rows_one.append(other)
    keys = [many_keys[i] for i in rows_many]
    a, a_ok = many.values[rows_many], many.ok[rows_many]
    b, b_ok = one.values[rows_one], one.ok[rows_one]
    labels = [
        _result_labels(many.labels[i], one.labels[j], op, matching) for i, j in zip(rows_many, rows_one, strict=True)
    ]
    drop = many.drop[rows_many] if len(many) else np.zeros(0, bool)
    a, a_ok = a.reshape(-1, steps), a_ok.reshape(-1, steps)
    b, b_ok = b.reshape(-1, steps), b_ok.reshape(-1, steps)
    ok = a_ok & b_ok
    if filled:
        extra = _filled(many, one, many_keys, by_key, fill_many, fill_one, op, matching)
        keys += extra[0]
        labels += extra[1]
        a, b = np.concatenate([a, extra[2]]), np.concatenate([b, extra[3]])
        ok = np.concatenate([ok, extra[4]])
        drop = np.concatenate([drop, extra[5]])
    if matching.card == "one-to-one":
        _check_one_to_one(keys, ok)
    x, y = (b, a) if swapped else (a, b)
    if op in COMPARISONS:
        kept = compare(op, x, y)
        values = kept.astype(float) if returns_bool else x
        if not returns_bool:
            ok = ok & kept
    else:
        values = arithmetic(op, x, y)
    if returns_bool:
        drop = np.ones(len(labels), bool)
    return _unique_results(Frame(labels, values, ok, drop), keys, matching)


def _check_unique(one: Frame, by_key: dict[Labels, list[int]], active: Bools, side: str) -> None:
    for key, rows in by_key.items():
        if len(rows) < 2:
            continue
        clash = (one.ok[rows].sum(axis=0) > 1) & active
        if bool(clash.any()):
            step = int(np.argmax(clash))
            here = sorted(show(one.labels[r]) for r in rows if one.ok[r, step])
            group = show(key)
            raise QueryError(
                f"found duplicate series for the match group {group} on the {side} hand-side of the operation: "
                f"[{here[0]}, {here[1]}];many-to-many matching not allowed: "
                "matching labels must be unique on one side",
                kind="execution",
            )


def _result_labels(many: Labels, one: Labels, op: str, matching: Matching) -> Labels:
    labels = many
    if op in ARITHMETIC:
        labels = tuple(p for p in labels if p[0] != METRIC_NAME)
    if matching.card == "one-to-one":
        if matching.on:
            labels = tuple(p for p in labels if p[0] in matching.labels)
        elif matching.labels:
            labels = tuple(p for p in labels if p[0] not in matching.labels)
    if matching.include:
        theirs = dict(one)
        labels = set_labels(labels, [(name, theirs.get(name, "")) for name in matching.include])
    return labels


def _check_one_to_one(keys: list[Labels], ok: Bools) -> None:
    """Two matches of one group at one step are an error, even where a filter then drops them."""
    seen: dict[Labels, Bools] = {}
    for row, key in enumerate(keys):
        before = seen.get(key)
        if before is not None and bool((before & ok[row]).any()):
            raise QueryError(
                "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
                kind="execution",
            )
        seen[key] = ok[row] if before is None else before | ok[row]


def _unique_results(frame: Frame, keys: list[Labels], matching: Matching) -> Frame:
    if matching.card != "one-to-one":
        seen: dict[tuple[Labels, Labels], Bools] = {}
        for row, key in enumerate(keys):
            place = (key, frame.labels[row])
            before = seen.get(place)
            if before is not None and bool((before & frame.ok[row]).any()):
                raise QueryError(
                    "multiple matches for labels: grouping labels must ensure unique matches", kind="execution"
                )
            seen[place] = frame.ok[row] if before is None else before | frame.ok[row]
    return frame.compact().merged(SAME_LABELS)


def _filled(
    many: Frame, one: Frame, many_keys: list[Labels], by_key: dict[Labels, list[int]],
    fill_many: float | None, fill_one: float | None, op: str, matching: Matching,
) -> tuple[list[Labels], list[Labels], Floats, Floats, Bools, Bools]:  # fmt: skip
    """Samples without a partner, paired with the fill value: (keys, labels, a, b, ok, drop)."""
    steps = many.ok.shape[1]
    keys: list[Labels] = []
    labels: list[Labels] = []
    a: list[Floats] = []
    b: list[Floats] = []
    ok: list[Bools] = []
    drop: list[bool] = []
    nothing = np.zeros(steps, bool)
    if fill_one is not None:
        for row, key in enumerate(many_keys):
            partner = one.ok[by_key[key]].any(axis=0) if key in by_key else nothing
            alone = many.ok[row] & ~partner
            keys.append(key)
            labels.append(_result_labels(many.labels[row], key, op, matching))
            a.append(many.values[row])
            b.append(np.full(steps, fill_one))
            ok.append(alone)
            drop.append(bool(many.drop[row]))
    if fill_many is not None:
        there = _presence(many_keys, many.ok)
        for key, rows in by_key.items():
            for row in rows:
                keys.append(key)
                labels.append(_result_labels(key, one.labels[row], op, matching))
                a.append(np.full(steps, fill_many))
                b.append(one.values[row])
                ok.append(one.ok[row] & ~there.get(key, nothing))
                drop.append(False)
    empty = np.empty((0, steps))
    return (
        keys,
        labels,
        np.array(a) if a else empty,
        np.array(b) if b else empty,
        np.array(ok) if ok else np.empty((0, steps), bool),
        np.array(drop, bool),
    )


def show(labels: Labels) -> str:
    """Labels as Prometheus prints them in messages."""
    return "{" + ", ".join(f"{label_text(k)}={quote(v)}" for k, v in labels) + "}"
