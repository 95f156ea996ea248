"""What an operator may choose of the translation from OpenTelemetry to Prometheus, and the labels that follow."""

from __future__ import annotations

from dataclasses import dataclass

from aiops.core.series import Labels
from aiops.ingest.otlp_names import IDENTIFYING, Strategy, identity, label_name, labels_from


@dataclass(frozen=True, slots=True)
class OtlpRules:
    """Choices of the section ``otlp`` of the settings, in Prometheus' words where it has them.

    Attributes:
        strategy: how names are translated.
        promote_resource_attributes: resource attributes that become labels of every series.
        promote_all_resource_attributes: all of them do, but those of ``ignore_resource_attributes``.
        keep_identifying: ``target_info`` keeps service.name, service.namespace and service.instance.id.
        promote_scope_metadata: name, version, schema URL and attributes of the scope become ``otel_scope_*`` labels.
        exponential_as_classic: exponential histograms are stored as classic buckets as well as native ones.
        classic_scale: classic buckets lie at the powers of 2^(2^-scale).
        delta_max_streams: delta streams whose running total is kept in memory.
        delta_idle_ms: a delta stream silent for longer starts again from zero.
        delta_future_ms: delta points further ahead of the clock are left out.
    """

    strategy: Strategy = Strategy.ESCAPE_WITH_SUFFIXES
    promote_resource_attributes: tuple[str, ...] = ()
    promote_all_resource_attributes: bool = False
    ignore_resource_attributes: tuple[str, ...] = ()
    keep_identifying: bool = False
    promote_scope_metadata: bool = False
    exponential_as_classic: bool = True
    classic_scale: int = 2
    delta_max_streams: int = 100_000
    delta_idle_ms: int = 3_600_000
    delta_future_ms: int = 600_000

    def promoted(self, resource: Labels) -> dict[str, str]:
        """Labels that a resource gives each of its series, unless a point has its own of that name."""
        if self.promote_all_resource_attributes:
            chosen = [pair for pair in resource if pair[0] not in self.ignore_resource_attributes]
        else:
            chosen = [pair for pair in resource if pair[0] in self.promote_resource_attributes]
        return labels_from(chosen, self.strategy)

    def labels(self, attributes: Labels) -> dict[str, str]:
        """Attributes of a point as labels."""
        return labels_from(attributes, self.strategy)

    def info_labels(self, resource: Labels) -> dict[str, str]:
        """Labels of the resource's ``target_info``; empty where it has none, for want of identity or of content."""
        base = identity(resource)
        rest = [pair for pair in resource if self.keep_identifying or pair[0] not in IDENTIFYING]
        return {**labels_from(rest, self.strategy), **base} if base and rest else {}

    def scope_labels(self, name: str, version: str, schema_url: str, attributes: Labels) -> dict[str, str]:
        """Labels of an instrumentation scope, where they are wanted and it has a name."""
        if not self.promote_scope_metadata or not name:
            return {}
        own = {label_name(f"otel_scope_{key}", self.strategy): value for key, value in attributes}
        named = {"otel_scope_name": name, "otel_scope_version": version, "otel_scope_schema_url": schema_url}
        return {key: value for key, value in {**own, **named}.items() if key and value}
