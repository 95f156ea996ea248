"""The fitting of one window, piece by piece, on whatever computes; goes on where an earlier attempt stopped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiops.core.anomaly import Batch, State
from aiops.core.ports import Detector
from aiops.jobs.compute import Compute, Data
from aiops.models import artifacts
from aiops.models.fitting import Calibrate, Joining, fit_piece, join_pieces, pieces_of
from aiops.models.unfinished import Unfinished

Progress = Callable[[float, str], None]
"""Share done in [0, 1], and what is going on."""

REPORT_S = 1.0
"""Least time between two reports of one step."""


class FitRun:
    """Counts the seconds that the fitting takes.

    Attributes:
        cpu_s: seconds of processor cores.
        gpu_s: seconds on the GPU ``gpu``, if one was used.
    """

    def __init__(
        self,
        detector: Detector[Any],
        stopwatch: Callable[[], float],
        report: Progress,
        work: Unfinished,
        compute: Compute,
    ) -> None:
        self._detector, self._stopwatch, self._report = detector, stopwatch, report
        self._work, self._compute = work, compute
        self._said = float("-inf")
        self.cpu_s = self.gpu_s = 0.0
        self.gpu = ""

    def fit(
        self, batch: Batch, data: Data[Batch], calibrate: Calibrate, warm: State | None
    ) -> tuple[State, dict[str, float], bool]:
        """The state, its checks, and whether every series was calibrated anew."""
        pieces = pieces_of(self._detector, batch, warm)
        missing = [number for number in range(len(pieces)) if not self._work.has(number)]
        self._work.folder.mkdir(parents=True, exist_ok=True)

        def say(force: bool = False) -> None:
            now = self._stopwatch()
            if force or now - self._said >= REPORT_S:
                self._said = now
                done = sum(pieces[n].end - pieces[n].start for n in range(len(pieces)) if n not in left)
                self._report(0.85 * done / len(batch), f"fitting {len(batch)} series, {done} done")

        left = set(missing)
        say(force=True)
        for one in self._compute.run(fit_piece, data, [pieces[number] for number in missing], say):
            self._work.keep(missing[one.number], one.value.data)
            self._count(one.cpu_s, one.value.gpu_s, one.value.gpu)
            left.discard(missing[one.number])
        self._report(0.85, "calibrating")
        paths = [self._work.path(number) for number in range(len(pieces))]
        joining = Joining(
            tuple(paths if self._compute.shares_disk else [self._work.read(n) for n in range(len(pieces))]),
            calibrate,
            tuple((piece.start, piece.end) for piece in pieces if piece.warm),
            warm,
            self._work.key if self._compute.shares_disk else None,
        )
        [joined] = self._compute.run(join_pieces, data, [joining], say)
        self._count(joined.cpu_s)
        state, checks = joined.value
        return artifacts.loads(state), checks, not any(piece.warm for piece in pieces)

    def _count(self, cpu_s: float, gpu_s: float = 0.0, gpu: str = "") -> None:
        self.cpu_s += cpu_s
        self.gpu_s += gpu_s
        self.gpu = gpu or self.gpu


def silent(_share: float, _text: str) -> None:
    """Progress that nobody watches."""
