"""Feature-flag changes from LaunchDarkly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiops.core.ports import Inbound, InboundParser
from connectors import payloads
from connectors.signatures import SenderOptions, check_sender


class LaunchDarklyOptions(SenderOptions):
    """``hmac_secret`` is the webhook's secret."""

    hmac_header: str = "x-ld-signature"
    service: str = ""
    """The service that the flags belong to; empty uses the project's key."""


class LaunchDarkly(InboundParser[LaunchDarklyOptions]):
    """LaunchDarkly's signed webhook, an audit-log entry: a flag that was switched, re-targeted or created becomes a
    change of kind ``flag`` with who did it and a link. Entries about other things than flags are ignored.
    """

    Options = LaunchDarklyOptions

    def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        check_sender(self.options, headers, body)

    def parse(self, body: bytes) -> Inbound:
        data = payloads.object_of(payloads.json_of(body))
        if payloads.required(data, "kind") != "flag":
            return Inbound()
        accesses = data.get("accesses")
        resource = payloads.text(accesses[0], "resource") if isinstance(accesses, list) and accesses else ""
        project, environment = _places(resource)
        name = payloads.required(data, "name")
        change = payloads.change(
            self.context,
            "flag",
            self.options.service or project or name,
            f"{payloads.text(data, 'titleVerb') or payloads.text(data, 'description') or 'changed'} flag {name}",
            at_ms=payloads.time_ms(data, "date"),
            author=payloads.text(data, "member", "email"),
            link=_site(data),
            environment=environment,
            attributes={"flag": name, "comment": payloads.text(data, "comment")},
        )
        return Inbound(changes=(change,))


def _places(resource: str) -> tuple[str, str]:
    """Project and environment of ``proj/shop:env/production:flag/new-cart``; tags follow a ``;``."""
    parts = dict(p.split("/", 1) for p in resource.split(":") if "/" in p)
    return parts.get("proj", "").partition(";")[0], parts.get("env", "").partition(";")[0]


def _site(data: dict[str, Any]) -> str:
    path = payloads.text(data, "_links", "site", "href", cap=2_000)
    return f"https://app.launchdarkly.com{path}" if path.startswith("/") else payloads.web_link(data, "_links", "site")
