"""Changes of pipelines, GitOps, flags and Kubernetes: what, where, when, who, link."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aiops.core.plugins import build
from aiops.core.ports import InboundParser, PluginContext
from aiops.core.signals import ChangeEvent
from connectors.inbound.kubernetes_events import workload_of

NOW = 1_700_000_000_000
AT = 1_699_999_500_000
BODIES = Path(__file__).parents[2] / "contract" / "inbound"


def body(name: str) -> dict[str, Any]:
    found = json.loads((BODIES / f"{name}.json").read_text())
    assert isinstance(found, dict)
    return found


def changes(name: str, value: Any, **options: Any) -> tuple[ChangeEvent, ...]:
    built = build("connectors.inbound", name, options, PluginContext(name, lambda: NOW))
    assert isinstance(built, InboundParser)
    return built.parse(json.dumps(value).encode()).changes


@pytest.mark.parametrize(
    ("name", "kind", "author", "environment", "link", "version"),
    [
        ("github", "deploy", "alice", "production", "https://ci.example.com/7/log", "v2.4.1"),
        ("gitlab", "deploy", "alice", "production", "https://gitlab.example.com/shop/checkout/-/jobs/796", "v2.4.1"),
        ("argocd", "deploy", "alice", "prod", "https://argocd.example.com/applications/argocd/checkout", None),
        ("flux", "deploy", "flux", "prod", "", None),
    ],
)
def test_deployments(name: str, kind: str, author: str, environment: str, link: str, version: str | None) -> None:
    (change,) = changes(name, body(name))
    assert (change.service, change.kind, change.author) == ("checkout", kind, author)
    assert (change.environment, change.link, change.time_ms) == (environment, link, AT)
    attributes = dict(change.attributes)
    assert version is None or attributes["version"] == version
    assert attributes.get("revision")
    assert attributes["state"] in ("success", "Succeeded", "UpgradeSucceeded")


def test_github_gives_a_repository_its_service_and_ignores_what_changes_nothing() -> None:
    sent = body("github")
    (named,) = changes("github", sent, services={"shop/checkout": "checkout-api"})
    assert named.service == "checkout-api"
    sent["deployment"]["payload"] = {"service": "cart"}
    assert changes("github", sent)[0].service == "cart"
    assert changes("github", {"zen": "x", "repository": sent["repository"]}) == ()


def test_github_releases_and_pushes() -> None:
    repository = body("github")["repository"]
    release = {"tag_name": "v3", "name": "Three", "published_at": "2023-11-14T22:05:00Z", "author": {"login": "bob"}}
    (found,) = changes("github", {"action": "published", "release": release, "repository": repository})
    assert (found.kind, found.title.raw, found.author, found.time_ms) == ("release", "Three", "bob", AT)
    assert changes("github", {"action": "edited", "release": release, "repository": repository}) == ()
    commit = {"message": "Fix the cart\n\nLong.", "timestamp": "2023-11-14T23:05:00+01:00"}
    push = {"ref": "refs/heads/main", "after": "abc", "head_commit": commit, "repository": repository}
    assert changes("github", push) == ()
    (pushed,) = changes("github", push, pushes=True)
    assert (pushed.kind, pushed.title.raw, pushed.time_ms) == ("push", "Fix the cart", AT)
    assert changes("github", {**push, "ref": "refs/heads/topic"}, pushes=True) == ()


def test_gitlab_times_and_releases() -> None:
    sent = body("gitlab")
    (utc,) = changes("gitlab", {**sent, "status_changed_at": "2023-11-14 22:05:00 UTC"})
    assert utc.time_ms == AT
    release = {"object_kind": "release", "action": "create", "tag": "v3", "name": "", "project": sent["project"]}
    (found,) = changes("gitlab", release)
    assert (found.kind, found.title.raw, found.time_ms) == ("release", "release v3", NOW)
    assert changes("gitlab", {"object_kind": "pipeline"}) == ()


def test_argocd_tells_of_the_phase() -> None:
    sent = body("argocd")
    sent["app"]["status"]["operationState"] |= {"phase": "Running", "finishedAt": ""}
    (running,) = changes("argocd", sent)
    assert running.time_ms == AT - 60_000
    assert "Running" in running.title.raw


def test_flux_leaves_sources_out() -> None:
    sent = body("flux")
    sent["involvedObject"]["kind"] = "GitRepository"
    assert changes("flux", sent) == ()


def test_kubernetes_events() -> None:
    sent = body("kubernetes_events")
    (change,) = changes("kubernetes_events", sent)
    assert (change.kind, change.service, change.environment) == ("kubernetes", "checkout", "prod")
    assert change.time_ms == AT + 60_000
    assert "OOMKilling" in change.title.raw
    assert (
        changes("kubernetes_events", [sent, {**sent, "reason": "Pulled"}], services={"checkout": "shop"})[0].service
        == "shop"
    )
    newer = {"reason": "BackOff", "note": "restarting", "regarding": {"kind": "Pod", "name": "db-0"}}
    (found,) = changes("kubernetes_events", {**newer, "eventTime": "2023-11-14T22:05:00.000000Z"})
    assert (found.service, found.time_ms) == ("db", AT)


@pytest.mark.parametrize(
    ("kind", "name", "workload"),
    [
        ("Pod", "checkout-7d9c5b8f4-x2k9q", "checkout"),
        ("Pod", "node-exporter-x2k9q", "node-exporter"),
        ("Pod", "db-0", "db"),
        ("Pod", "web", "web"),
        ("ReplicaSet", "cart-api-7d9c5b8f4", "cart-api"),
        ("Deployment", "cart-api-7d9c5b8f4", "cart-api-7d9c5b8f4"),
    ],
)
def test_workloads(kind: str, name: str, workload: str) -> None:
    assert workload_of(kind, name) == workload


def test_launchdarkly_flags() -> None:
    sent = body("launchdarkly")
    (change,) = changes("launchdarkly", sent)
    assert (change.kind, change.service, change.environment) == ("flag", "shop", "production")
    assert (change.title.raw, change.author, change.time_ms) == ("turned on flag new-cart", "alice@example.com", AT)
    assert change.link == "https://app.launchdarkly.com/default/production/features/new-cart"
    assert changes("launchdarkly", {**sent, "kind": "project"}) == ()
