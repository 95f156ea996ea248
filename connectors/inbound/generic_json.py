"""Alerts from anything that posts JSON, by a mapping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError
from pydantic import Field, field_validator

from aiops.core.errors import InvalidInput
from aiops.core.incident import Alert, severity_named
from aiops.core.ports import Inbound, InboundParser, PluginContext
from connectors import payloads
from connectors.signatures import SenderOptions, check_sender


class GenericJsonOptions(SenderOptions):
    """Where things lie, as JMESPath expressions (https://jmespath.org).

    Attributes:
        alerts: the list of alerts, or one; empty takes the body itself.
        name: required in each alert.
        status, resolved: a ``status`` among ``resolved`` (case ignored) ends the alert; without one it fires.
        labels: label name to expression; ``service`` says what is concerned.
        identity: what tells two alerts apart; by default the name and labels.
        starts, ends: RFC 3339, or seconds or milliseconds since the epoch.
        expires_s: a firing alert ends after so long unless it is repeated; 0 waits for its end.
    """

    alerts: str = ""
    name: str = "name"
    status: str = "status"
    resolved: tuple[str, ...] = ("resolved", "ok", "closed", "recovered", "normal", "up")
    severity: str = "severity"
    summary: str = "summary"
    link: str = "link"
    starts: str = "starts_at"
    ends: str = "ends_at"
    labels: dict[str, str] = Field(default_factory=lambda: {"service": "service"}, max_length=50)
    identity: str = ""
    expires_s: float = Field(0.0, ge=0)

    @field_validator("alerts", "name", "status", "severity", "summary", "link", "starts", "ends", "identity")
    @classmethod
    def expression(cls, value: str) -> str:
        _compiled(value)
        return value

    @field_validator("labels")
    @classmethod
    def expressions(cls, value: dict[str, str]) -> dict[str, str]:
        for one in value.values():
            _compiled(one)
        return value


class GenericJson(InboundParser[GenericJsonOptions]):
    """Any sender's alerts: each option is a JMESPath expression that says where a field lies in its JSON, so that
    a system without a parser of its own needs a few lines of configuration and no code.
    """

    Options = GenericJsonOptions

    def __init__(self, options: GenericJsonOptions, context: PluginContext) -> None:
        super().__init__(options, context)
        self._labels = {name: _compiled(text) for name, text in options.labels.items()}
        names = ("alerts", "name", "status", "severity", "summary", "link", "starts", "ends", "identity")
        self._at = {name: _compiled(getattr(options, name)) for name in names}
        self._over = {word.lower() for word in options.resolved}

    def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        check_sender(self.options, headers, body)

    def parse(self, body: bytes) -> Inbound:
        data = payloads.json_of(body)
        found = _search(self._at["alerts"], data) if self.options.alerts else data
        if found is None:
            raise InvalidInput(f"The body has nothing at alerts: '{self.options.alerts}'.")
        return Inbound(tuple(self._alert(item) for item in payloads.objects_of(found, "The list of alerts")))

    def _alert(self, item: dict[str, Any]) -> Alert:
        def read(name: str) -> dict[str, Any]:
            return {name: _search(self._at[name], item) if getattr(self.options, name) else None}

        name = payloads.text(read("name"), "name")
        if not name:
            raise InvalidInput(f"An alert has nothing at name: '{self.options.name}'.")
        identity = payloads.text(read("identity"), "identity")
        firing = payloads.text(read("status"), "status").lower() not in self._over
        made = payloads.alert(
            self.context,
            name,
            {label: payloads.text({"v": _search(at, item)}, "v") for label, at in self._labels.items()},
            severity_named(payloads.text(read("severity"), "severity")),
            firing=firing,
            starts_ms=payloads.time_ms(read("starts"), "starts"),
            ends_ms=payloads.time_ms(read("ends"), "ends"),
            summary=payloads.text(read("summary"), "summary", cap=payloads.TEXT_CAP) or name,
            link=payloads.web_link(read("link"), "link"),
            identity={"identity": identity} if identity else None,
        )
        return payloads.expiring(made, self.options.expires_s) if firing else made


def _compiled(text: str) -> Any:
    try:
        return jmespath.compile(text or "@")
    except JMESPathError as error:
        first = str(error).splitlines()[0]
        raise ValueError(f"'{text}' is not a JMESPath expression: {first}") from error


def _search(expression: Any, data: Any) -> Any:
    try:
        return expression.search(data)
    except JMESPathError as error:
        raise InvalidInput(f"The mapping does not fit the body: {str(error).splitlines()[0]}") from error
