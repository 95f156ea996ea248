"""Receivers that forget, such as Alertmanager, are told again of what they were told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from aiops.core.errors import AiopsError
from aiops.core.incident import Incident
from aiops.core.ports import Notifier
from aiops.jobs.repeating import Repeating

log = logging.getLogger(__name__)


class Refresher:
    """A thread for each receiver that asks for it (``refresh_s``), so that a slow one holds up no other.

    Args:
        receivers: notifiers by configured receiver name.
        told: the active and lately resolved incidents that a receiver was told of.
    """

    def __init__(self, receivers: Mapping[str, Notifier[Any]], told: Callable[[str], Sequence[Incident]]) -> None:
        self._receivers = {name: found for name, found in receivers.items() if type(found).refresh_s > 0}
        self._told = told
        self._failing: set[str] = set()
        self._loops = [
            Repeating(partial(self._refresh, name, found), type(found).refresh_s, f"refresh-{name}", at_once=False)
            for name, found in self._receivers.items()
        ]

    def start(self) -> None:
        for loop in self._loops:
            loop.start()

    def stop(self) -> None:
        for loop in self._loops:
            loop.stop()

    def run_once(self) -> None:
        """Tell every receiver again now."""
        for name, receiver in self._receivers.items():
            self._refresh(name, receiver)

    def _refresh(self, name: str, receiver: Notifier[Any]) -> None:
        incidents = self._told(name)
        if not incidents:
            return
        try:
            receiver.refresh(incidents)
        except AiopsError as error:
            if name not in self._failing:
                log.warning("%s cannot be told again: %s", name, error)
            self._failing.add(name)
            return
        self._failing.discard(name)
