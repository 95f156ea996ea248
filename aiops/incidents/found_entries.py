"""What was found in a source to watch, kept so that a restart knows its model's entries while the source is down."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from aiops.incidents.memory import Documents
from aiops.incidents.watch import WatchEntry


class FoundEntries:
    """By model."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    def save(self, model: str, entries: Sequence[WatchEntry]) -> None:
        body = json.dumps([asdict(entry) for entry in entries]) if entries else ""
        self._documents.save_documents({f"found:{model}": body})

    def load(self, model: str) -> list[WatchEntry]:
        """As they were kept; none where they cannot be read."""
        try:
            rows = json.loads(self._documents.document(f"found:{model}") or "[]")
            return [WatchEntry(**{**row, "needs": tuple(row["needs"])}) for row in rows]
        except (ValueError, TypeError, KeyError):
            return []
