"""What the detection loop keeps over restarts beside its episodes: the ledger and live counts."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from aiops.incidents.drift import MEMORY_MS, Live, faded
from aiops.incidents.ledger import Ledger

log = logging.getLogger(__name__)

LEDGER = "ledger"


class Documents(Protocol):
    """Named texts; an empty one deletes its name."""

    def save_documents(self, documents: Mapping[str, str]) -> None: ...

    def document(self, name: str) -> str: ...


class Memory:
    """Reads and writes the documents; one that cannot be read is as one that is not there."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    def ledger(self, per_day: float, now_ms: int) -> Ledger:
        """The ledger as it was kept, or a new one; another budget keeps what was spent."""
        kept = self._read(LEDGER)
        try:
            return Ledger(per_day, int(kept["since_ms"]), [int(t) for t in kept["times"]])
        except (KeyError, TypeError, ValueError):
            return Ledger(per_day, now_ms)

    def save_ledger(self, ledger: Ledger) -> None:
        self._documents.save_documents({LEDGER: json.dumps({"since_ms": ledger.since_ms, "times": list(ledger.times)})})

    def save_live(self, model: str, ids: list[str], live: Live, now_ms: int) -> None:
        """Live counts of a model's series."""
        counts = np.stack([live.count, live.height, live.steps]).astype("<f4")
        body = {"at_ms": now_ms, "ids": ids, "counts": base64.b64encode(counts.tobytes()).decode("ascii")}
        self._documents.save_documents({f"live:{model}": json.dumps(body)})

    def live(self, model: str, ids: list[str], now_ms: int) -> Live:
        """The counts of these series, faded by the time that has passed; zero for those that were not counted."""
        kept = self._read(f"live:{model}")
        out = np.zeros((3, len(ids)))
        try:
            counts = np.frombuffer(base64.b64decode(kept["counts"]), "<f4").reshape(3, len(kept["ids"]))
            at = {key: place for place, key in enumerate(kept["ids"])}
            age_ms = max(now_ms - int(kept["at_ms"]), 0)
        except (KeyError, TypeError, ValueError):
            return Live(*out)
        rows = [(row, at[key]) for row, key in enumerate(ids) if key in at]
        if rows:
            mine, theirs = np.array(rows).T
            out[:, mine] = counts[:, theirs]
        return faded(Live(*out), float(np.exp(-age_ms / MEMORY_MS)))

    def _read(self, name: str) -> dict[str, Any]:
        try:
            found = json.loads(self._documents.document(name) or "{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}
