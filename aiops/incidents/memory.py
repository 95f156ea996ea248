"""What the detection loop keeps over restarts beside its episodes: the ledger, live counts, series that joined late."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from aiops.core.anomaly import State
from aiops.core.errors import InvalidInput
from aiops.incidents.drift import MEMORY_MS, Live, faded
from aiops.incidents.ledger import Ledger
from aiops.models import artifacts

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

    def save_joined(self, model: str, reference: str, state: State) -> None:
        """The series that joined a version after its training."""
        data = base64.b64encode(artifacts.dumps(state)).decode("ascii")
        self._documents.save_documents({f"joined:{model}": json.dumps({"reference": reference, "state": data})})

    def joined(self, model: str, reference: str) -> State | None:
        """The series that joined that very version, if any."""
        kept = self._read(f"joined:{model}")
        if kept.get("reference") != reference:
            return None
        try:
            return artifacts.loads(base64.b64decode(kept["state"]))
        except (KeyError, TypeError, ValueError, InvalidInput) as error:
            log.warning("the series that joined %s cannot be read: %s", reference, error)
            return None

    def forget_joined(self, model: str) -> None:
        self._documents.save_documents({f"joined:{model}": ""})

    def _read(self, name: str) -> dict[str, Any]:
        try:
            found = json.loads(self._documents.document(name) or "{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}
