"""Reconciliations from Flux."""

from __future__ import annotations

from collections.abc import Mapping

from aiops.core.errors import InvalidInput
from aiops.core.ports import Inbound, InboundParser
from connectors import payloads
from connectors.signatures import SenderOptions, check_sender


class FluxOptions(SenderOptions):
    """``hmac_secret`` is the ``token`` of a Provider of type ``generic-hmac``."""

    hmac_header: str = "x-signature"


class Flux(InboundParser[FluxOptions]):
    """Events of Flux' notification-controller (Provider of type ``generic`` or ``generic-hmac``): what a
    Kustomization or HelmRelease applied or failed to apply, with its revision. Sources' events are left out.
    """

    Options = FluxOptions

    def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        check_sender(self.options, headers, body)

    def parse(self, body: bytes) -> Inbound:
        data = payloads.object_of(payloads.json_of(body))
        about = data.get("involvedObject")
        if not isinstance(about, dict):
            raise InvalidInput("The body is not a Flux event: it has no object 'involvedObject'.")
        kind, name = payloads.text(about, "kind"), payloads.required(about, "name")
        if kind not in ("Kustomization", "HelmRelease", "ImageUpdateAutomation", "Canary"):
            return Inbound()
        reason, severity = payloads.text(data, "reason"), payloads.text(data, "severity")
        metadata = payloads.part(data, "metadata")
        revision = payloads.text(metadata, "revision") or payloads.text(
            metadata, "kustomize.toolkit.fluxcd.io/revision"
        )
        change = payloads.change(
            self.context,
            "deploy",
            name,
            f"{kind} {name}: {reason}. {payloads.text(data, 'message')}".strip(),
            at_ms=payloads.time_ms(data, "timestamp"),
            author="flux",
            environment=payloads.text(about, "namespace"),
            attributes={"revision": revision, "state": reason, "severity": severity},
        )
        return Inbound(changes=(change,))
