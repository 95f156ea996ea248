"""Bills into the store: those of configured sources as a job, an uploaded file at once."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aiops.core.errors import InvalidInput
from aiops.core.ports import CostSource, JobProgress
from aiops.core.principal import SYSTEM
from aiops.cost.service import CostService
from aiops.store.telemetry.store import TelemetryStore

FileSource = Callable[[Path], CostSource[Any]]


class Bills:
    """Reads bills; replaying one replaces its billing periods.

    Args:
        sources: configured bills by name.
        file_source: a source over one FOCUS file.
    """

    def __init__(
        self, store: TelemetryStore, cost: CostService, sources: Mapping[str, CostSource[Any]], file_source: FileSource
    ) -> None:
        self._store = store
        self._cost = cost
        self._sources = dict(sources)
        self._file_source = file_source

    def read(self, arguments: Mapping[str, str], progress: JobProgress) -> None:  # noqa: ARG002
        """The job: read every configured bill, then judge budgets and days."""
        for name, source in self._sources.items():
            for table in source.tables():
                progress(None, f"{name}: {self._store.import_costs(table)} rows")
        progress(0.9, f"{sum(alert.firing for alert in self._cost.check(SYSTEM))} cost alerts")

    def upload(self, name: str, content: bytes) -> int:
        """Store an uploaded FOCUS file, all of it or nothing, and return its number of rows.

        Raises:
            InvalidInput: it is no FOCUS file.
        """
        with tempfile.TemporaryDirectory(prefix="aiops-focus-") as folder:
            file = Path(folder) / (Path(name).name or "upload.csv")
            try:
                file.write_bytes(content)
            except (OSError, ValueError) as error:
                raise InvalidInput(f"The file cannot be kept under its name: {error}.") from error
            try:
                tables = list(self._file_source(file).tables())
            except InvalidInput as error:
                raise InvalidInput(error.message.replace(f"{folder}{os.sep}", ""), hint=error.hint) from error
        return sum(self._store.import_costs(table) for table in tables)
