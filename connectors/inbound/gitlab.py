"""Deployments, releases and pipelines from GitLab."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from aiops.core.ports import Inbound, InboundParser
from aiops.core.signals import ChangeEvent
from connectors import payloads
from connectors.signatures import SenderOptions, check_sender


class GitLabOptions(SenderOptions):
    """``token`` is the webhook's secret token. ``services`` gives a project (``group/name``) its service."""

    token_header: str = "x-gitlab-token"  # noqa: S105
    services: dict[str, str] = Field(default_factory=dict)


class GitLab(InboundParser[GitLabOptions]):
    """A project's or group's webhook: ``deployment`` events (running, success, failed, canceled) and new
    ``release``s. Other events are taken and ignored.
    """

    Options = GitLabOptions

    def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        check_sender(self.options, headers, body)

    def parse(self, body: bytes) -> Inbound:
        data = payloads.object_of(payloads.json_of(body))
        match payloads.required(data, "object_kind"):
            case "deployment":
                return Inbound(changes=(self._deployment(data),))
            case "release" if payloads.text(data, "action") == "create":
                return Inbound(changes=(self._release(data),))
        return Inbound()

    def _service(self, data: dict[str, Any]) -> str:
        project = payloads.text(data, "project", "path_with_namespace")
        return (
            self.options.services.get(project) or project.rpartition("/")[2] or payloads.text(data, "project", "name")
        )

    def _deployment(self, data: dict[str, Any]) -> ChangeEvent:
        environment, state = payloads.text(data, "environment"), payloads.text(data, "status")
        version = payloads.text(data, "ref") or payloads.text(data, "short_sha")
        return payloads.change(
            self.context,
            "deploy",
            self._service(data),
            f"deployment of {version} to {environment or 'an environment'}: {state}",
            at_ms=payloads.time_ms({"at": _iso(payloads.text(data, "status_changed_at"))}, "at"),
            author=payloads.text(data, "user", "username") or payloads.text(data, "user", "name"),
            link=payloads.web_link(data, "deployable_url") or payloads.web_link(data, "project", "web_url"),
            environment=environment,
            attributes={
                "version": version,
                "revision": payloads.text(data, "short_sha"),
                "state": state,
                "commit": payloads.text(data, "commit_title"),
            },
        )

    def _release(self, data: dict[str, Any]) -> ChangeEvent:
        tag = payloads.text(data, "tag")
        return payloads.change(
            self.context,
            "release",
            self._service(data),
            payloads.text(data, "name") or f"release {tag}",
            at_ms=payloads.time_ms({"at": _iso(payloads.text(data, "released_at"))}, "at"),
            author=payloads.text(data, "commit", "author", "name"),
            link=payloads.web_link(data, "url"),
            attributes={"version": tag, "revision": payloads.text(data, "commit", "id")},
        )


def _iso(time: str) -> str:
    """GitLab writes ``2021-04-28 21:50:00 +0200`` or ``2020-11-02 12:55:12 UTC``."""
    day, _, rest = time.partition(" ")
    clock, _, zone = rest.partition(" ")
    return f"{day}T{clock}{'Z' if zone == 'UTC' else zone}" if clock else time
