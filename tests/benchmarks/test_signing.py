"""What verifying a signature costs, beside hashing the same bytes."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from aiops.core.anomaly import State
from aiops.models import artifacts
from aiops.models.signing import Signer

SERIES, FIGURES = 10_000, 1000
"""A fleet's state at 4 kB a series."""


def best(work: Callable[[], object]) -> float:
    """CPU seconds of the best of some runs."""
    times = []
    for _ in range(5):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return min(times)


def test_verifying_costs_little_more_than_hashing(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    state = State(tuple(f"s{n}" for n in range(SERIES)), 60_000, {"x": np.ones((SERIES, FIGURES), np.float32)})
    path = folder / "state.safetensors"
    path.write_bytes(artifacts.dumps(state))
    signer = Signer(tmp_path / "keys")
    signer.sign(folder)
    peer = best(lambda: hashlib.sha256(path.read_bytes()).digest())
    assert best(lambda: signer.verify(folder)) <= 2.0 * peer
