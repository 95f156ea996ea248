"""Deployments, releases and pushes from GitHub."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from aiops.core.errors import InvalidInput
from aiops.core.ports import Inbound, InboundParser
from aiops.core.signals import ChangeEvent
from connectors import payloads
from connectors.signatures import SenderOptions, check_sender


class GitHubOptions(SenderOptions):
    """``hmac_secret`` is the webhook's secret. ``services`` gives a repository (``owner/name``) its service."""

    services: dict[str, str] = Field(default_factory=dict)
    pushes: bool = False
    """Take pushes to the default branch as changes too."""


class GitHub(InboundParser[GitHubOptions]):
    """A repository's or organisation's webhook: ``deployment_status`` (and ``deployment``), ``release`` when
    published, ``push`` to the default branch when asked for. A deployment's payload may name its ``service``.
    Other events are taken and ignored, ``ping`` among them.
    """

    Options = GitHubOptions

    def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        check_sender(self.options, headers, body)

    def parse(self, body: bytes) -> Inbound:
        data = payloads.object_of(payloads.json_of(body))
        if not isinstance(data.get("repository") or data.get("organization"), dict):
            raise InvalidInput("The body is not a GitHub webhook: it has neither repository nor organization.")
        found = self._change(data)
        return Inbound(changes=(found,) if found else ())

    def _change(self, data: dict[str, Any]) -> ChangeEvent | None:
        if isinstance(data.get("deployment"), dict):
            return self._deployment(data)
        if isinstance(data.get("release"), dict):
            return self._release(data)
        if self.options.pushes and data.get("ref") and isinstance(data.get("head_commit"), dict):
            return self._push(data)
        return None

    def _service(self, data: dict[str, Any]) -> str:
        repository = payloads.text(data, "repository", "full_name")
        return self.options.services.get(repository) or repository.rpartition("/")[2]

    def _deployment(self, data: dict[str, Any]) -> ChangeEvent:
        deployment, status = data["deployment"], data.get("deployment_status")
        state = payloads.text(status, "state") or "created"
        environment = payloads.text(deployment, "environment")
        version = payloads.text(deployment, "ref")
        return payloads.change(
            self.context,
            "deploy",
            payloads.text(deployment, "payload", "service") or self._service(data),
            f"deployment of {version} to {environment or 'an environment'}: {state}",
            at_ms=payloads.time_ms(status, "created_at") or payloads.time_ms(deployment, "created_at"),
            author=payloads.text(deployment, "creator", "login") or payloads.text(data, "sender", "login"),
            link=payloads.web_link(status, "log_url")
            or payloads.web_link(status, "target_url")
            or payloads.web_link(data, "repository", "html_url"),
            environment=environment,
            attributes={"version": version, "revision": payloads.text(deployment, "sha"), "state": state},
        )

    def _release(self, data: dict[str, Any]) -> ChangeEvent | None:
        if payloads.text(data, "action") != "published":
            return None
        release = data["release"]
        tag = payloads.text(release, "tag_name")
        return payloads.change(
            self.context,
            "release",
            self._service(data),
            payloads.text(release, "name") or f"release {tag}",
            at_ms=payloads.time_ms(release, "published_at"),
            author=payloads.text(release, "author", "login"),
            link=payloads.web_link(release, "html_url"),
            attributes={"version": tag},
        )

    def _push(self, data: dict[str, Any]) -> ChangeEvent | None:
        branch = payloads.text(data, "repository", "default_branch")
        if payloads.text(data, "ref") != f"refs/heads/{branch}":
            return None
        commit = data["head_commit"]
        return payloads.change(
            self.context,
            "push",
            self._service(data),
            payloads.text(commit, "message").partition("\n")[0] or f"push to {branch}",
            at_ms=payloads.time_ms(commit, "timestamp"),
            author=payloads.text(data, "pusher", "name"),
            link=payloads.web_link(data, "compare"),
            attributes={"revision": payloads.text(data, "after"), "branch": branch},
        )
