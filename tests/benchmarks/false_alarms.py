"""What the false-alarm budget is worth: the realised rate on quiet series, and what is found at that rate.

``python -m tests.benchmarks.false_alarms`` takes some hundred series, ``--full`` ten thousand over fourteen days. The
product's own parts are used as the detection loop uses them: the default detectors, held-out calibration, tails,
drift, ledger, judge; every series is watched in both directions with no least deviation, which is the hardest case.
Faults are added to series of the same kinds, one at a time, in units of the series' standard deviation about its
rhythm.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from aiops.core.anomaly import Batch, State
from aiops.core.plugins import build
from aiops.core.ports import Detector, PluginContext
from aiops.incidents.ledger import Ledger
from aiops.incidents.tails import calibrate, tail_of
from aiops.incidents.thresholds import Direction, Judge, Policy
from aiops.models.fitting import held_out_scores
from tests.benchmarks.quiet_series import DAY, KINDS, STEP_MS, quiet

BUDGETS = (1.0, 5.0, 20.0)
DURATION, RESOLVE = 3, 8
CONTEXT = 512
CHUNK = 250
SIZES = (1.0, 2.0, 4.0, 8.0)
LENGTHS = (3, 15, 60)
FAULTS = ("step", "spike", "drift", "variance", "dropout")
POWER_KINDS = ("white noise", "AR .8", "daily and weekly")


def detector() -> Detector[Any]:
    return cast(Detector[Any], build("detectors", "fusion", {"device": "cpu"}, PluginContext("benchmark")))


@dataclass(frozen=True)
class Fleet:
    """A trained fleet: its state with calibration, by kind and in that order; the values scored so far."""

    state: State
    names: tuple[str, ...]
    kinds: NDArray[np.int64]
    seed: int

    def __len__(self) -> int:
        return len(self.kinds)


def batch(values: NDArray[np.float32], first: int, ids: Sequence[str]) -> Batch:
    times = STEP_MS * (first + np.arange(values.shape[1], dtype=np.int64))
    return Batch(values, np.isfinite(values), times, STEP_MS, tuple(ids))


def train(model: Detector[Any], names: Sequence[str], each: int, days: int, test_days: int, seed: int) -> Fleet:
    """``each`` series of every kind, fitted to their first ``days``."""
    states, scores, kinds = [], [], []
    for number, name in enumerate(names):
        for start, values in chunks(name, each, (days + test_days) * DAY, seed):
            ids = [f"{number}:{start + row}" for row in range(len(values))]
            part = batch(values[:, : days * DAY], 0, ids)
            scores.append(calibrate(held_out_scores(model, part), DURATION, RESOLVE))
            states.append(model.fit(part))
            kinds += [number] * len(values)
    arrays = {k: np.concatenate([s.arrays[k] for s in states]) for k in states[0].arrays}
    arrays |= {k: np.concatenate([s[k] for s in scores]) for k in scores[0]}
    ids = tuple(i for s in states for i in s.series_ids)
    return Fleet(State(ids, STEP_MS, arrays, states[0].shared), tuple(names), np.array(kinds), seed)


def chunks(name: str, each: int, steps: int, seed: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    for start in range(0, each, CHUNK):
        yield start, quiet(name, min(CHUNK, each - start), steps, seed * 1000 + start)


def quiet_scores(model: Detector[Any], fleet: Fleet, each: int, days: int, test_days: int) -> NDArray[np.float32]:
    """Scores [S, T] of the days after the training, by the state of its end."""
    out, row = [], 0
    for name in fleet.names:
        for _, values in chunks(name, each, (days + test_days) * DAY, fleet.seed):
            ids = fleet.state.series_ids[row : row + len(values)]
            first = days * DAY - CONTEXT
            found = model.score(fleet.state.select(ids), batch(values[:, first:], first, ids)).score
            out.append(found[:, CONTEXT:])
            row += len(values)
    return np.concatenate(out)


def judge_of(fleet: Fleet, per_day: float) -> Judge:
    size = len(fleet)
    everywhere = Direction(np.zeros(size, np.int8), np.zeros(size), np.zeros(size))
    return Judge(tail_of(fleet.state), everywhere, Policy(per_day, DURATION, RESOLVE), STEP_MS, size)


def realised(fleet: Fleet, scores: NDArray[np.float32], per_day: float) -> NDArray[np.int64]:
    """Episodes opened, by series."""
    one, ledger = judge_of(fleet, per_day), Ledger(per_day, 0)
    opened = np.zeros(len(fleet), np.int64)
    low, high = np.zeros(len(fleet)), np.ones(len(fleet))
    by_step = np.ascontiguousarray(scores.T)
    for step, score in enumerate(by_step):
        verdict = one.step(score.astype(np.float64), high, low)
        opened[verdict.opened] += 1
        ledger.record(step * STEP_MS, len(verdict.opened))
        if step % 10 == 9:
            one.set_rate(ledger.rate(STEP_MS, len(fleet), step * STEP_MS))
    return opened


def interval(count: int) -> tuple[float, float]:
    """Exact 95 % interval of a Poisson mean, by bisection of its distribution."""

    def cdf(k: int, mean: float) -> float:
        logs = np.cumsum(np.concatenate([[0.0], np.log(mean / np.arange(1, k + 1))])) if k >= 0 else np.empty(0)
        return float(np.exp(logs - mean).sum())

    def solve(k: int, aim: float) -> float:
        low, high = 1e-9, 3.0 * count + 20
        for _ in range(80):
            middle = (low + high) / 2
            low, high = (middle, high) if cdf(k, middle) > aim else (low, middle)
        return low

    return (solve(count - 1, 0.975) if count else 0.0), solve(count, 0.025)


def inject(
    values: NDArray[np.float32], fault: str, size: float, length: int, at: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """The fault in [S, T] from step ``at`` on; ``size`` in standard deviations of what a step adds to the rhythm."""
    unit = np.std(np.diff(values[:, :at], axis=1), axis=1, keepdims=True) / np.sqrt(2)
    unit = np.maximum(unit, np.std(values[:, at - 60 : at], axis=1, keepdims=True))
    out, end = values.copy(), at + length
    span = out[:, at:end]
    if fault in ("step", "spike"):
        span += size * unit
    elif fault == "drift":
        span += size * unit * np.arange(1, length + 1) / length
    elif fault == "variance":
        span += size * unit * rng.standard_normal(span.shape)
    else:
        span[:] = 0
    return out


def power(
    model: Detector[Any], fleet: Fleet, per_day: float, days: int, test_days: int, limit: int
) -> list[dict[str, Any]]:
    """Detection rate and median delay in steps (of those found) of faults added to the fleet's series."""
    rng = np.random.default_rng(0)
    judge = judge_of(fleet, per_day)
    rows = []
    values, thresholds, ids = {}, {}, {}
    for name in POWER_KINDS:
        own = np.flatnonzero(fleet.kinds == fleet.names.index(name))
        mine = own[:limit]
        thresholds[name] = judge.threshold[mine]
        ids[name] = tuple(fleet.state.series_ids[i] for i in mine)
        whole = quiet(name, min(CHUNK, len(own)), (days + test_days) * DAY, fleet.seed * 1000)
        values[name] = whole[:limit, days * DAY - CONTEXT : (days + 1) * DAY]
    for fault in FAULTS:
        for length in (1,) if fault == "spike" else LENGTHS:
            for size in (0.0,) if fault == "dropout" else SIZES:
                row: dict[str, Any] = {"fault": fault, "size": size, "length": length}
                for name in POWER_KINDS:
                    at = CONTEXT + 300
                    changed = inject(values[name], fault, size, length, at, rng)[:, : at + length + 20]
                    state = fleet.state.select(ids[name])
                    score = model.score(state, batch(changed, days * DAY - CONTEXT, ids[name])).score[:, at:]
                    high = np.nan_to_num(score, nan=-np.inf) >= thresholds[name][:, None]
                    run = np.lib.stride_tricks.sliding_window_view(high, DURATION, axis=1).all(2)
                    found = run.any(1)
                    delay = float(np.median(run[found].argmax(1) + DURATION)) if found.any() else None
                    row[name] = {"found": float(found.mean()), "delay": delay}
                rows.append(row)
    return rows


def run(each: int, days: int, test_days: int, limit: int = 200, seed: int = 1) -> dict[str, Any]:
    model = detector()
    begin = time.process_time()
    fleet = train(model, tuple(KINDS), each, days, test_days, seed)
    scores = quiet_scores(model, fleet, each, days, test_days)
    rates = []
    for per_day in BUDGETS:
        opened = realised(fleet, scores, per_day)
        count = int(opened.sum())
        low, high = interval(count)
        rates.append(
            {
                "budget": per_day,
                "episodes": count,
                "per_day": count / test_days,
                "interval": [low / test_days, high / test_days],
                "by_kind": {n: int(opened[fleet.kinds == k].sum()) for k, n in enumerate(fleet.names)},
            }
        )
    found = {str(b): power(model, fleet, b, days, test_days, limit) for b in BUDGETS}
    return {
        "series": len(fleet),
        "train_days": days,
        "test_days": test_days,
        "rates": rates,
        "power": found,
        "cpu_seconds": time.process_time() - begin,
    }


def markdown(result: dict[str, Any]) -> str:
    out = [
        f"{result['series']:,} quiet series, trained on {result['train_days']} days, judged over "
        f"{result['test_days']}; {result['cpu_seconds']:.0f} s of CPU",
        "",
        "| budget a day | realised a day (95 % interval) | episodes | most by kind |",
        "|---|---|---|---|",
    ]
    for rate in result["rates"]:
        most = ", ".join(f"{k} {v}" for k, v in sorted(rate["by_kind"].items(), key=lambda x: -x[1])[:3] if v)
        low, high = rate["interval"]
        out.append(
            f"| {rate['budget']:g} | {rate['per_day']:.2f} ({low:.2f} to {high:.2f}) | {rate['episodes']} | {most} |"
        )
    for budget, rows in result["power"].items():
        out += ["", f"Found at a budget of {float(budget):g} a day, and the median delay in steps:", ""]
        out.append("| fault | steps | size | " + " | ".join(POWER_KINDS) + " |")
        out.append("|---|---|---|" + "---|" * len(POWER_KINDS))
        for row in rows:
            cells = [
                f"{row[k]['found']:.0%}" + (f", {row[k]['delay']:.0f}" if row[k]["delay"] is not None else "")
                for k in POWER_KINDS
            ]
            size = f"{row['size']:g} sd" if row["size"] else "to zero"
            out.append(f"| {row['fault']} | {row['length']} | {size} | {' | '.join(cells)} |")
    return "\n".join(out)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--full", action="store_true", help="10,000 series over 14 days, some fifteen minutes")
    parser.add_argument("--each", type=int, default=0, help="series of every kind")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(arguments)
    each = chosen.each or (1000 if chosen.full else 40)
    result = run(each, 14, 14 if chosen.full or chosen.each else 7)
    print(json.dumps(result, indent=1) if chosen.json else markdown(result))


if __name__ == "__main__":
    main(sys.argv[1:])
