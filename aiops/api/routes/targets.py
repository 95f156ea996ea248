"""What is scraped and how it goes, as ``/api/v1/targets`` of a Prometheus tells it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import yaml
from fastapi import APIRouter, Depends, Request, Response
from starlette.concurrency import run_in_threadpool

from aiops.access.permissions import Permission
from aiops.api.auth import allow
from aiops.api.prometheus_parameters import Answer, Parameters
from aiops.api.services import Services
from aiops.core.ports import ScrapeTarget
from aiops.core.principal import Principal
from aiops.incidents.matchers import in_scope

ACTIVE = ("", "any", "active")


def router(services: Services) -> APIRouter:
    routes = APIRouter(tags=["prometheus"])

    @routes.get("/api/v1/targets", response_class=Response, operation_id="prometheus_targets")
    async def targets(request: Request, caller: Annotated[Principal, Depends(allow(Permission.READ))]) -> Response:
        """Targets of all scraping sources. Takes ``state`` and ``scrapePool``."""
        p = Parameters(list(request.query_params.multi_items()), services.clock())

        def work() -> Response:
            pool, state = p.text("scrapePool"), p.text("state")
            listed = services.targets() if state in ACTIVE else ()
            found = [t for t in listed if pool in ("", t.job) and in_scope(t.labels, caller.scope)]
            return Answer({"activeTargets": [target_view(t) for t in found], "droppedTargets": []}).response()

        return await run_in_threadpool(work)

    @routes.get("/api/v1/status/config", response_class=Response, operation_id="prometheus_status_config")
    def config(_caller: Annotated[Principal, Depends(allow(Permission.READ))]) -> Response:
        """The part of the configuration that a Prometheus would have, as its YAML; no secrets, no credentials."""
        rules = services.settings.rules
        jobs = {target.job: f"{target.interval_s:g}s" for target in services.targets()}
        text = yaml.safe_dump(
            {
                "global": {
                    "evaluation_interval": f"{rules.interval_s:g}s",
                    "external_labels": dict(rules.external_labels),
                },
                "rule_files": list(rules.files),
                "scrape_configs": [{"job_name": job, "scrape_interval": every} for job, every in sorted(jobs.items())],
            },
            sort_keys=False,
        )
        return Answer({"yaml": text}).response()

    return routes


def target_view(target: ScrapeTarget) -> dict[str, Any]:
    return {
        "discoveredLabels": dict(target.discovered),
        "labels": dict(target.labels),
        "scrapePool": target.job,
        "scrapeUrl": target.url,
        "globalUrl": target.url,
        "lastError": target.last_error,
        "lastScrape": _moment(target.last_scrape_ms),
        "lastScrapeDuration": target.last_duration_s,
        "health": target.health,
        "scrapeInterval": f"{target.interval_s:g}s",
        "scrapeTimeout": f"{target.timeout_s:g}s",
    }


def _moment(ms: int) -> str:
    """RFC 3339; Go's zero time where it has not happened."""
    if not ms:
        return "0001-01-01T00:00:00Z"
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"
