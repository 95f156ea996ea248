"""A fleet that runs what the concept table knows of beside the demo's shop; labels as the exporters give them."""

from __future__ import annotations

from aiops.agent.catalogue import KnownCatalogue, fold_name
from aiops.agent.concepts import load_concepts
from aiops.core.series import MetricMetadata
from tests.evals import plans

DOMAINS = frozenset({"kafka", "rabbitmq", "gpu", "llm", "jvm", "python", "nodejs", "go", "grpc", "mysql"})
LABELS = {
    "kafka": {"consumergroup": ("billing", "mailer"), "topic": ("orders", "payments"), "instance": ("kafka:9308",)},
    "rabbitmq": {"queue": ("invoices", "mail"), "vhost": ("/",), "instance": ("rabbit-0:15692",)},
    "gpu": {"Hostname": ("gpu-node-1", "gpu-node-2"), "gpu": ("0", "1"), "pod": ("train-0",), "namespace": ("ml",)},
    "llm": {
        "model_name": ("llama-3-8b",),
        "gen_ai_request_model": ("gpt-5",),
        "gen_ai_token_type": ("input", "output"),
    },
    "grpc": {"service": ("cart",), "grpc_service": ("shop.Cart",), "grpc_method": ("Get", "Put"), "grpc_code": ("OK",)},
}
PLAIN = {"service": ("orders-api", "invoices-api"), "instance": ("orders-api-0:8080", "invoices-api-0:8080")}


def catalogue() -> KnownCatalogue:
    """The shop's catalogue with the metrics of :data:`DOMAINS`."""
    shop = plans.catalogue()
    found, labels = dict(shop.metrics()), {}
    for name in shop.metrics():
        labels[name] = labels[fold_name(name)] = dict(shop.labels(name) or {})
    for concept in load_concepts():
        domain = next((d for d in sorted(concept.all_domains & DOMAINS)), "")
        if not domain:
            continue
        form = concept.forms[0]
        for metric in form.metrics:
            summed = f"{metric}_bucket" in f"{form.value}{form.quantile}" or f"{metric}_count" in form.value
            kind = "histogram" if summed else "counter" if f"rate({metric}" in form.value else "gauge"
            found.setdefault(metric, MetricMetadata(metric, kind, "", concept.title))
            labels.setdefault(metric, {k: frozenset(v) for k, v in LABELS.get(domain, PLAIN).items()})
    return KnownCatalogue(list(found.values()), labels)
