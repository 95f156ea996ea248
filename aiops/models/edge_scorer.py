"""Score series with an exported model; needs onnxruntime and numpy, nothing else.

    python score.py values.csv > scores.csv

``values.csv`` has the columns ``timestamp`` (ms UTC), ``series`` (an id of ``series.json``) and ``value``. Give some
hours of each series: a score looks back on the steps before it, and the first steps lack some. ``--check`` only
compares the files with the sums in ``manifest.json``; who signed them, ``aiops models verify`` tells.
"""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

OUTPUTS = ("score", "expected", "lower", "upper")


class EdgeScorer:
    """A bundle, ready to score. Raises ``ValueError`` where its files are not those that were exported."""

    def __init__(self, folder: Path) -> None:
        import onnxruntime

        self.manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
        check(folder, self.manifest)
        told = json.loads((folder / "series.json").read_text())
        self.series: dict[str, int] = {name: row for row, name in enumerate(told["series"])}
        self.thresholds: list[float | None] = told["thresholds"]
        self.step_ms = int(self.manifest["step_ms"])
        self._session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])

    def score(
        self, values: NDArray[Any], mask: NDArray[Any], timestamps: NDArray[Any], series: list[str]
    ) -> dict[str, NDArray[np.float32]]:
        """Scores of a stretch; higher is more anomalous, NaN where nothing was observed.

        Args:
            values: [S, T], anything where ``mask`` is false.
            mask: bool [S, T].
            timestamps: [T], ms UTC, spaced by ``step_ms``.
            series: S ids. Raises ``KeyError`` for one that the model does not know.

        Returns:
            ``score``, ``expected``, ``lower`` and ``upper``, float32 [S, T].
        """
        feed = {
            "values": np.ascontiguousarray(values, np.float32),
            "mask": np.ascontiguousarray(mask, bool),
            "timestamps": np.ascontiguousarray(timestamps, np.int64),
            "rows": np.array([self.series[name] for name in series], np.int64),
        }
        return dict(zip(OUTPUTS, self._session.run(list(OUTPUTS), feed), strict=True))


def check(folder: Path, manifest: dict[str, Any]) -> None:
    """Raises ``ValueError`` naming a file that is not the one that was exported."""
    for name, expected in manifest["files"].items():
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != expected:
            raise ValueError(f"{name} is not the file that was exported")


def read(file: TextIO, step_ms: int) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.int64], list[str]]:
    """A table of values on the model's grid: values, mask, timestamps, ids."""
    rows = [(int(row["timestamp"]) // step_ms, row["series"], float(row["value"])) for row in csv.DictReader(file)]
    if not rows:
        raise ValueError("there are no values")
    ids = sorted({name for _, name, _ in rows})
    place = {name: number for number, name in enumerate(ids)}
    first = min(step for step, _, _ in rows)
    steps = max(step for step, _, _ in rows) - first + 1
    values, mask = np.zeros((len(ids), steps), np.float32), np.zeros((len(ids), steps), bool)
    for step, name, value in rows:
        values[place[name], step - first], mask[place[name], step - first] = value, True
    return values, mask, (first + np.arange(steps, dtype=np.int64)) * step_ms, ids


def main(arguments: list[str]) -> int:
    folder = Path(__file__).resolve().parent
    if arguments == ["--check"]:
        check(folder, json.loads((folder / "manifest.json").read_text()))
        print("The files are those that were exported.", file=sys.stderr)  # noqa: T201
        return 0
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print(__doc__, file=sys.stderr)  # noqa: T201
        return 2
    scorer = EdgeScorer(folder)
    with open(arguments[0], newline="") as file:
        values, mask, timestamps, ids = read(file, scorer.step_ms)
    known = [row for row, name in enumerate(ids) if name in scorer.series]
    for name in sorted(set(ids) - set(scorer.series)):
        print(f"not known to the model, left out: {name}", file=sys.stderr)  # noqa: T201
    chosen = [ids[row] for row in known]
    scores = scorer.score(values[known], mask[known], timestamps, chosen)
    out = csv.writer(sys.stdout)
    out.writerow(("timestamp", "series", "value", *OUTPUTS, "threshold"))
    for number, row in enumerate(known):
        limit = scorer.thresholds[scorer.series[ids[row]]]
        for step in np.flatnonzero(mask[row]):
            figures = [f"{scores[name][number, step]:.9g}" for name in OUTPUTS]
            told = "" if limit is None else f"{limit:.9g}"
            out.writerow((int(timestamps[step]), ids[row], f"{values[row, step]:.9g}", *figures, told))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
