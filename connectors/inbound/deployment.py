"""Deploys, configuration changes and feature flags, from any pipeline that can post JSON."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aiops.core.errors import InvalidInput
from aiops.core.ports import Inbound, InboundParser
from aiops.core.series import labels_of
from aiops.core.signals import ChangeEvent
from aiops.core.untrusted import Untrusted
from connectors.payloads import json_of
from connectors.signatures import SenderOptions, check_sender


class DeploymentOptions(SenderOptions):
    pass


class _Body(BaseModel):
    """Extra keys are ignored."""

    model_config = ConfigDict(extra="ignore")

    service: str = Field(min_length=1, max_length=200)
    kind: str = Field("deploy", max_length=50)
    title: str = Field("", max_length=1000)
    version: str = Field("", max_length=200)
    environment: str = Field("", max_length=200)
    author: str = Field("", max_length=200)
    link: str = Field("", max_length=2000, pattern=r"^(https?://\S+)?$")
    time: datetime | None = None
    attributes: dict[str, str] = Field(default_factory=dict, max_length=100)


class Deployment(InboundParser[DeploymentOptions]):
    """A change event as JSON: ``service`` (required), ``kind`` (``deploy``, ``config``, ``flag``, …), ``version``,
    ``title``, ``environment``, ``author``, ``link``, ``time`` (RFC 3339, default now), ``attributes``; one object
    or a list of them.

    Sign the body with ``hmac_secret``: ``X-Hub-Signature-256: sha256=<hex>``.
    """

    Options = DeploymentOptions

    def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        check_sender(self.options, headers, body)

    def parse(self, body: bytes) -> Inbound:
        data = json_of(body)
        items = data if isinstance(data, list) else [data]
        if len(items) > 1000:
            raise InvalidInput("At most 1000 changes are taken at once.")
        return Inbound(changes=tuple(self._change(item) for item in items))

    def _change(self, item: object) -> ChangeEvent:
        try:
            body = _Body.model_validate(item)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"])) or "the change"
            raise InvalidInput(f"{place}: {first['msg']}.") from error
        now = self.context.clock()
        at = body.time.replace(tzinfo=body.time.tzinfo or UTC) if body.time else None
        pairs = {**body.attributes, "version": body.version or body.attributes.get("version", "")}
        return ChangeEvent(
            time_ms=min(int(at.timestamp() * 1000), now) if at else now,
            kind=body.kind,
            service=body.service,
            title=Untrusted(body.title or f"{body.kind} {body.version}".strip()),
            author=body.author,
            link=body.link,
            environment=body.environment,
            attributes=labels_of({k[:200]: v[:1000] for k, v in pairs.items()}),
        )
