"""Deploys and other changes passed on to receivers that show them beside their incidents.

Each notice is a job, so that it survives a restart, is tried again, and is made once however often the change comes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from aiops.core.errors import ConfigError, InvalidInput, PermanentError
from aiops.core.ports import JobProgress, Notifier
from aiops.core.series import Matcher
from aiops.core.signals import ChangeEvent
from aiops.incidents.matchers import hold, parse_matchers
from aiops.jobs.queue import JobQueue
from aiops.settings import ReceiverSettings
from aiops.store.state import codec

KIND = "change-notice"
ATTEMPTS = 8


class ChangeNotices:
    """Receivers whose settings say ``changes: true``.

    Raises:
        ConfigError: a receiver of a kind that shows no changes, or a matcher that cannot be read.
    """

    def __init__(
        self, settings: Mapping[str, ReceiverSettings], receivers: Mapping[str, Notifier[Any]], queue: JobQueue
    ) -> None:
        self._queue = queue
        self._receivers: dict[str, tuple[Notifier[Any], tuple[Matcher, ...]]] = {}
        for name, entry in settings.items():
            if not entry.changes:
                continue
            if not type(receivers[name]).shows_changes:
                raise ConfigError(f"Receiver '{name}': a {entry.plugin} receiver shows no changes.")
            try:
                self._receivers[name] = receivers[name], parse_matchers(entry.matchers)
            except InvalidInput as error:
                raise ConfigError(f"Receiver '{name}': {error.message}", hint=error.hint) from error

    def tell(self, changes: Sequence[ChangeEvent]) -> None:
        """Queue a notice of each change for each receiver whose matchers hold for it."""
        for change in changes:
            body = codec.dumps(change)
            digest = hashlib.sha256(body.encode()).hexdigest()
            for name, (_, matchers) in self._receivers.items():
                if hold(matchers, labels_of_change(change)):
                    arguments = {"receiver": name, "change": body}
                    self._queue.submit(KIND, arguments, max_attempts=ATTEMPTS, unique_key=f"{KIND}:{name}:{digest}")

    def run(self, arguments: Mapping[str, str], progress: JobProgress) -> None:  # noqa: ARG002
        """The job: tell one receiver of one change.

        Raises:
            TransientError: tried again later.
            PermanentError: the receiver refuses, or is configured no more.
        """
        found = self._receivers.get(arguments["receiver"])
        if found is None:
            raise PermanentError(f"The receiver '{arguments['receiver']}' takes no changes any more.")
        found[0].changed(codec.loads(ChangeEvent, arguments["change"]))


def labels_of_change(change: ChangeEvent) -> dict[str, str]:
    """What a receiver's matchers see: the attributes, and ``service``, ``environment``, ``kind`` and ``author``."""
    own = {"service": change.service, "environment": change.environment, "kind": change.kind, "author": change.author}
    return {**dict(change.attributes), **own}
