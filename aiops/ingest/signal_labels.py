"""The labels that series made of logs and spans share."""

from __future__ import annotations

from functools import lru_cache

from aiops.core.series import Labels
from aiops.ingest.otlp_names import identity

OTHER = "other"
"""The value for what is past a cap."""
DIMENSIONS = {
    "service.namespace": "service_namespace",
    "deployment.environment.name": "deployment_environment_name",
    "deployment.environment": "deployment_environment",
    "k8s.cluster.name": "k8s_cluster_name",
    "k8s.namespace.name": "k8s_namespace_name",
    "team": "team",
    "simulated": "simulated",
}
"""Resource attributes that the series carry on as labels, where a resource has them; label scopes hold for these."""


@lru_cache(maxsize=4096)
def base_labels(resource: Labels) -> tuple[tuple[str, str], ...]:
    """Who wrote it: ``service_name``, ``job`` and :data:`DIMENSIONS`, no instance."""
    known = dict(resource)
    job = identity(resource).get("job", "")
    pairs = [("service_name", known.get("service.name", "")), ("job", job)]
    return (*pairs, *((DIMENSIONS[name], known[name]) for name in DIMENSIONS if known.get(name)))
