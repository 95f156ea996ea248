"""What a store refused, in the words that senders know from Prometheus."""

from __future__ import annotations

from typing import Protocol


class Refused(Protocol):
    """Counts of samples that were not taken."""

    @property
    def conflicts(self) -> int: ...
    @property
    def too_new(self) -> int: ...
    @property
    def too_old(self) -> int: ...
    @property
    def over_limit(self) -> int: ...


def refusals(counts: Refused) -> list[str]:
    """A sentence for each kind of refusal that there was."""
    kinds = (
        (counts.conflicts, "duplicate sample for timestamp, with another value"),
        (counts.too_new, "out of bounds, too far in the future"),
        (counts.too_old, "out of bounds, older than the retention"),
        (counts.over_limit, "of new series beyond the limit store.max_series"),
    )
    return [f"{count} refused: {why}" for count, why in kinds if count]
