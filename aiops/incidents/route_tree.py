"""The routing tree: which receivers hear of a signal, how often again, and what is grouped with what.

As Alertmanager's (https://prometheus.io/docs/alerting/latest/configuration/#route): a signal goes down to the first
child that matches, and on to the next siblings where that child says ``continue``; a node speaks for itself where no
child matches. ``receivers``, ``group_by`` and ``repeat_s`` are inherited.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from aiops.core.errors import ConfigError, InvalidInput
from aiops.core.incident import Alert, Incident
from aiops.core.series import Matcher
from aiops.incidents.matchers import hold, labels_of_alert, parse_matchers
from aiops.settings import RouteSettings

ALL_LABELS = "..."
"""In ``group_by``: every label, so that each alert is a group of its own."""


@dataclass(frozen=True, slots=True)
class Node:
    """One node with what it inherits; ``group_by`` is ``None`` where correlation decides what belongs together."""

    matchers: tuple[Matcher, ...]
    receivers: tuple[str, ...]
    group_by: tuple[str, ...] | None
    repeat_ms: int | None
    goes_on: bool
    children: tuple[Node, ...]

    def ends(self, labels: Mapping[str, str]) -> Iterator[Node]:
        """Where a signal with these labels ends up, given that this node matches it."""
        found = False
        for child in self.children:
            if hold(child.matchers, labels):
                found = True
                yield from child.ends(labels)
                if not child.goes_on:
                    break
        if not found:
            yield self


@dataclass(frozen=True, slots=True)
class RouteTree:
    """The whole tree; without a root everything is left to the receivers' own conditions and to correlation."""

    root: Node | None = None

    def hears(self, receiver: str, labels: Mapping[str, str]) -> bool:
        """Whether the tree leads a signal with these labels to the receiver."""
        return self.root is None or any(receiver in node.receivers for node in self.root.ends(labels))

    def repeat_ms(self, receiver: str, labels: Mapping[str, str]) -> int | None:
        """How often the receiver is told again, by the first node that leads there and says so."""
        ends = () if self.root is None else self.root.ends(labels)
        return next((n.repeat_ms for n in ends if receiver in n.receivers and n.repeat_ms is not None), None)

    def group(self, alert: Alert) -> str | None:
        """The group of an alert in words, such as ``cluster=eu``; ``None`` where correlation decides.

        Where several nodes take the alert, the first one's ``group_by`` counts.
        """
        if self.root is None:
            return None
        labels = labels_of_alert(alert)
        by = next(self.root.ends(labels)).group_by
        if by is None:
            return None
        names = sorted(dict(alert.labels)) if ALL_LABELS in by else by
        return ", ".join(f"{name}={labels.get(name, '')}" for name in names) or "all"

    def group_of(self, incident: Incident) -> str | None:
        """The group of the signal that opened it."""
        return self.group(incident.signals[0].alert) if incident.signals else None


NO_TREE = RouteTree()


def tree_of(settings: RouteSettings | None, receivers: Sequence[str]) -> RouteTree:
    """Raises ``ConfigError`` for a matcher that cannot be read, or a receiver that is not configured."""
    if settings is None:
        return NO_TREE
    if settings.matchers:
        raise ConfigError("incidents.route takes everything: matchers belong to its routes.")
    return RouteTree(_node(settings, (), None, None, frozenset(receivers), "incidents.route"))


def _node(
    entry: RouteSettings,
    receivers: tuple[str, ...],
    group_by: tuple[str, ...] | None,
    repeat_ms: int | None,
    known: frozenset[str],
    place: str,
) -> Node:
    if unknown := sorted(set(entry.receivers) - known):
        raise ConfigError(
            f"{place}: there is no receiver '{unknown[0]}'.", hint=f"Known: {', '.join(sorted(known)) or 'none'}."
        )
    try:
        matchers = parse_matchers(entry.matchers)
    except InvalidInput as error:
        raise ConfigError(f"{place}: {error.message}", hint=error.hint) from error
    receivers = entry.receivers or receivers
    group_by = group_by if entry.group_by is None else entry.group_by
    repeat_ms = repeat_ms if entry.repeat_s is None else int(entry.repeat_s * 1000)
    children = (
        _node(child, receivers, group_by, repeat_ms, known, f"{place}.routes[{number}]")
        for number, child in enumerate(entry.routes)
    )
    return Node(matchers, receivers, group_by, repeat_ms, entry.goes_on, tuple(children))
