"""Correlation on a day of real faults in a real system: `python -m tests.benchmarks.fault_day [SET]`.

SET is a folder with reference.csv, cases/, cases.json and topology.json (the data of the root-cause board; by
default the day of 24 faults some 8 minutes apart). The rows are put back into one day. What fires are plain rules,
the same for every service: a latency, error or saturation metric beyond the fault-free rows' 99th percentile by more
than their 5 to 95 % range for two rows running, over once that is gone for two rows. An alert that starts from a
minute before a fault's injection to five after it is that fault's; any other is noise.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from aiops.incidents.metric_kinds import Direction, MetricKind, metric_kind
from tests.benchmarks.storm_world import MINUTE, Fired, World
from tests.benchmarks.storms import measure

DAY = Path(__file__).resolve().parents[3] / "shared" / "data" / "rca" / "nezha-ob-0822"
RULES = {MetricKind.LATENCY: "Slow", MetricKind.ERRORS: "Failing", MetricKind.SATURATION: "Saturated"}


def day(folder: Path) -> World:
    reference = pd.read_csv(folder / "reference.csv", index_col="time")
    cases = json.loads((folder / "cases.json").read_text())
    parts = [reference, *(pd.read_csv(path, index_col="time") for path in sorted((folder / "cases").glob("*.csv")))]
    rows = pd.concat(parts).sort_index()
    rows = rows[~rows.index.duplicated()]
    injected = np.array([case["inject_time"] for case in cases])
    edges = json.loads((folder / "topology.json").read_text())["edges"]
    alerts = [a for column in rows.columns for a in _alerts(column, rows[column], reference[column], injected)]
    alerts.sort(key=lambda a: (a.start, a.labels))
    busy = tuple((int(t) * 1000 - MINUTE, int(t) * 1000 + 7 * MINUTE) for t in sorted(injected))
    faults = len({a.fault for a in alerts if a.fault >= 0})
    return World(tuple((a, b) for a, b in edges), tuple(alerts), faults, busy, len(rows) * MINUTE)


def _alerts(column: str, values: pd.Series, usual: pd.Series, injected: np.ndarray) -> list[Fired]:
    service, metric = column.split("|", 1)
    kind, way = metric_kind(metric)
    known = usual.dropna()
    if kind not in RULES or service == "entry" or len(known) < 50 or "Client" in metric:
        return []
    turned = -1.0 if way is Direction.DOWN else 1.0
    low, median, high, top = np.quantile(turned * known, [0.05, 0.5, 0.95, 0.99])
    limit = top + max(high - low, 0.1 * abs(median), 1e-9)
    found: list[Fired] = []
    start, last, above, below = None, 0, 0, 0
    for time, value in (turned * values).items():
        now = int(time) * 1000
        if start is not None and (below >= 2 or now - last > 3 * MINUTE):
            found.append(_fired(service, RULES[kind] + metric, start, last + MINUTE, injected))
            start = None
        over = value > limit
        above, below = (above + 1, 0) if over else (0, below + 1)
        start = now if start is None and above >= 2 else start
        last = now
    if start is not None:
        found.append(_fired(service, RULES[kind] + metric, start, last + MINUTE, injected))
    return found


def _fired(service: str, name: str, start: int, end: int, injected: np.ndarray) -> Fired:
    after = start / 1000 - injected
    own = np.flatnonzero((after >= -60) & (after <= 300))
    labels = (("alertname", name), ("service", service))
    return Fired(name, labels, start, end, int(own[-1]) if len(own) else -1 - start // MINUTE)


def main() -> int:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DAY
    if not folder.is_dir():
        print(f"There is no {folder}.")
        return 1
    print(folder.name, "  ".join(f"{k} {v:.3g}" for k, v in measure(day(folder)).items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
