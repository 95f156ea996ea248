"""Kubernetes events, from an exporter that posts them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from aiops.core.ports import Inbound, InboundParser
from aiops.core.signals import ChangeEvent
from connectors import payloads
from connectors.signatures import SenderOptions, check_sender

_POD = re.compile(r"^(?P<owner>.+?)(-[a-f0-9]{6,10})?-[a-z0-9]{5}$")
_STATEFUL = re.compile(r"^(?P<owner>.+)-\d+$")
_REPLICA_SET = re.compile(r"^(?P<owner>.+)-[a-f0-9]{6,10}$")


class KubernetesEventsOptions(SenderOptions):
    """``ignore`` are reasons that tell of no change."""

    ignore: tuple[str, ...] = ("Pulling", "Pulled", "Created", "Started", "SuccessfulAttachVolume", "LeaderElection")
    service_label: str = "app.kubernetes.io/name"
    services: dict[str, str] = Field(default_factory=dict)
    """Workload name to service name, where they differ."""


class KubernetesEvents(InboundParser[KubernetesEventsOptions]):
    """Events of core/v1 or events.k8s.io/v1 as JSON, one or a list, as kubernetes-event-exporter's webhook sink
    posts them: scaling, restarts, OOM kills, failed probes and evictions, each with its workload as the service.
    """

    Options = KubernetesEventsOptions

    def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        check_sender(self.options, headers, body)

    def parse(self, body: bytes) -> Inbound:
        found = (self._change(item) for item in payloads.objects_of(payloads.json_of(body)))
        return Inbound(changes=tuple(c for c in found if c is not None))

    def _change(self, item: dict[str, Any]) -> ChangeEvent | None:
        about = payloads.part(item, "involvedObject") or payloads.part(item, "regarding")
        reason = payloads.required(item, "reason")
        name, kind = payloads.required(about, "name"), payloads.text(about, "kind")
        if reason in self.options.ignore:
            return None
        workload = workload_of(kind, name)
        label = payloads.text(payloads.part(about, "labels"), self.options.service_label)
        message = payloads.text(item, "message") or payloads.text(item, "note")
        at = payloads.time_ms(item, "lastTimestamp") or payloads.time_ms(item, "eventTime")
        return payloads.change(
            self.context,
            "kubernetes",
            self.options.services.get(workload) or label or workload,
            f"{kind} {name}: {reason}. {message}",
            at_ms=at or payloads.time_ms(item, "firstTimestamp"),
            author=payloads.text(item, "source", "component") or payloads.text(item, "reportingComponent"),
            environment=payloads.text(about, "namespace"),
            attributes={
                "reason": reason,
                "type": payloads.text(item, "type"),
                "count": payloads.text(item, "count"),
                "object": f"{kind}/{name}",
                "node": payloads.text(item, "source", "host"),
            },
        )


def workload_of(kind: str, name: str) -> str:
    """The Deployment, StatefulSet or DaemonSet that a pod's or replica set's generated name belongs to.

    >>> workload_of("Pod", "checkout-7d9c5b8f4-x2k9q"), workload_of("Pod", "db-0"), workload_of("Node", "n-1")
    ('checkout', 'db', 'n-1')
    """
    pattern = {"Pod": (_POD, _STATEFUL), "ReplicaSet": (_REPLICA_SET,)}.get(kind, ())
    for one in pattern:
        if found := one.match(name):
            return found["owner"]
    return name
